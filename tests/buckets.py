"""A local S3 server, and what lies in its bucket, seen without pyarrow."""

from __future__ import annotations

import logging
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUCKET = 'cuts3d'
_REQUEST = re.compile(r'([A-Z]+ /[^ ]*) HTTP/')
_ACCOUNT = '123456789012'  # the one that the server has


@dataclass
class Bucket:
    """The bucket of a server that runs in this process."""

    objects: Any
    server: Any
    requests: list[str] = field(default_factory=list)  # such as 'PUT /cuts3d/labels/run.json'

    def put(self, key: str, content: bytes) -> None:
        self.objects.put_object(BUCKET, key, content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob('*')):
            if path.is_file():
                self.put(f'{prefix}/{path.relative_to(folder).as_posix()}', path.read_bytes())

    def delete(self, key: str) -> None:
        self.objects.delete_object(BUCKET, key)

    def content(self, prefix: str) -> dict[str, bytes]:
        """Names below a prefix and what they hold."""
        keys = self.objects.get_bucket(BUCKET).keys
        start = f'{prefix}/'
        return {k.removeprefix(start): keys[k].value for k in keys if k.startswith(start)}


@contextmanager
def serve_bucket():
    """Serve an empty bucket, named by the environment as a user of MinIO names it."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        'AWS_ENDPOINT_URL': f'http://{host}:{port}',
        'AWS_ACCESS_KEY_ID': 'somebody',
        'AWS_SECRET_ACCESS_KEY': 'secret',
    }
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    bucket = Bucket(s3_backends[_ACCOUNT]['aws'], server)
    bucket.objects.create_bucket(BUCKET, 'us-east-1')
    log, handler = logging.getLogger('werkzeug'), _Recorder(bucket.requests)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield bucket
    finally:
        log.removeHandler(handler)
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        bucket.objects.reset()
        server.stop()


class _Recorder(logging.Handler):
    def __init__(self, requests: list[str]) -> None:
        super().__init__()
        self._requests = requests

    def emit(self, record: logging.LogRecord) -> None:
        found = _REQUEST.search(record.getMessage())
        if found:
            self._requests.append(found[1])

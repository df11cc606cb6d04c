"""Small servers on this machine: the HTTP API of the Hugging Face Hub, and an S3 bucket."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = 'hf_loopback_token'
LARGE = ('.safetensors', '.pth', '.parquet')


@dataclass
class Fault:
    """What goes wrong with the next requests that fit."""

    method: str
    path: str  # part of it
    status: int | None = None  # None: the connection is cut in the middle of the body
    times: int = 1
    headers: dict = field(default_factory=dict)
    body: bytes = b'{"error": "fault"}'


@dataclass
class Repository:
    private: bool
    commits: list = field(default_factory=list)  # (id, {name: bytes})

    def files(self, revision):
        if not self.commits:
            return {} if revision == 'main' else None
        if revision == 'main':
            return self.commits[-1][1]
        return dict(self.commits).get(revision)

    def commit(self, changes):
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        told = [len(self.commits), *sorted((name, sha1(data)) for name, data in files.items())]
        self.commits.append((hashlib.sha1(repr(told).encode()).hexdigest(), files))
        return self.commits[-1][0]


class Hub:
    """State of the server; `requests` are (method, path, headers)."""

    def __init__(self):
        self.repositories, self.large, self.faults, self.requests = {}, {}, [], []
        self.lacks = set()  # headers that it does not know: Range, ETag, Content-Length

    def fault_for(self, method, path):
        for fault in self.faults:
            if fault.times and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault
        return None


def sha1(data):
    return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    hub: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self):
        length = int(self.headers.get('Content-Length') or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, dict(self.headers)))
        self.fault = self.hub.fault_for(self.command, path)
        if self.fault is not None and self.fault.status is not None:
            return self._send(self.fault.status, self.fault.body, self.fault.headers)
        for pattern, handle in ROUTES:
            found = re.fullmatch(pattern, path)
            if found:
                return handle(self, **found.groupdict())
        return self._send(404, {'error': 'no such route'})

    def _send(self, status, content=None, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(data)), **(headers or {})}.items():
            if name not in self.hub.lacks:
                self.send_header(name, value)
        self.close_connection |= 'Content-Length' in self.hub.lacks
        self.end_headers()
        if self.command == 'HEAD':
            return
        if self.fault is not None and self.fault.status is None:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(data)

    def _may_write(self):
        return self.headers.get('Authorization') == f'Bearer {TOKEN}'

    def _repository(self, repo, kind='models'):
        found = self.hub.repositories.get((kind or 'models', repo))
        if found is None or (found.private and not self._may_write()):
            self._send(401, {'error': 'Repository not found'}, {'X-Error-Code': 'RepoNotFound'})
            return None
        return found

    def _files(self, repo, kind, revision):
        repository = self._repository(repo, kind)
        if repository is None:
            return None
        files = repository.files(revision)
        if files is None:
            self._send(404, {'error': 'revision'}, {'X-Error-Code': 'RevisionNotFound'})
        return files

    def create(self):
        if not self._may_write():
            return self._send(401, {'error': 'Invalid username or password.'})
        asked = json.loads(self.body)
        repo = f'{asked["organization"]}/{asked["name"]}'
        key = f'{asked.get("type") or "model"}s', repo
        url = f'http://{self.headers["Host"]}/{"datasets/" if key[0] == "datasets" else ""}{repo}'
        if key in self.hub.repositories:
            return self._send(409, {'error': 'You already created this repo', 'url': url})
        # How clients ask for it: before huggingface_hub 1.0, and from 1.0 on.
        is_private = bool(asked.get('private')) or asked.get('visibility') == 'private'
        self.hub.repositories[key] = Repository(is_private)
        return self._send(200, {'url': url, 'name': repo})

    def validate(self):
        return self._send(200, {})

    def info(self, kind, repo, revision='main'):
        files = self._files(repo, kind, revision)
        if files is None:
            return None
        commits = self.hub.repositories[kind, repo].commits
        sha = commits[-1][0] if revision == 'main' and commits else revision
        siblings = [_sibling(name, data) for name, data in files.items()]
        content = {'id': repo, 'sha': sha, 'siblings': siblings}
        return self._send(200, content | {'xetEnabled': False, 'private': False, 'tags': []})

    def preupload(self, kind, repo, revision):
        if not self._may_write():
            return self._send(401, {'error': 'Unauthorized'})
        files = self._files(repo, kind, revision)
        if files is None:
            return None
        answers = []
        for asked in json.loads(self.body)['files']:
            name = asked['path']
            mode = 'lfs' if name.endswith(LARGE) else 'regular'
            answer = {'path': name, 'uploadMode': mode, 'shouldIgnore': False}
            if name in files:
                answer['oid'] = (sha256 if mode == 'lfs' else sha1)(files[name])
            answers.append(answer)
        return self._send(200, {'files': answers})

    def batch(self, repo, kind=None):
        base = f'http://{self.headers["Host"]}/lfs/'
        objects = []
        for asked in json.loads(self.body)['objects']:
            answer = {'oid': asked['oid'], 'size': asked['size']}
            if asked['oid'] not in self.hub.large:
                answer['actions'] = {'upload': {'href': base + asked['oid']}}
            objects.append(answer)
        return self._send(200, {'transfer': 'basic', 'objects': objects})

    def put_large(self, oid):
        if sha256(self.body) != oid:
            return self._send(400, {'error': 'hash'})
        self.hub.large[oid] = self.body
        return self._send(200)

    def commit(self, kind, repo, revision):
        if not self._may_write():
            return self._send(401, {'error': 'Unauthorized'})
        changes = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item['value']
            if item['key'] == 'file':
                changes[value['path']] = base64.b64decode(value['content'])
            elif item['key'] == 'lfsFile':
                changes[value['path']] = self.hub.large[value['oid']]
        oid = self.hub.repositories[kind, repo].commit(changes)
        prefix = 'datasets/' if kind == 'datasets' else ''
        url = f'http://{self.headers["Host"]}/{prefix}{repo}/commit/{oid}'
        return self._send(200, {'commitUrl': url, 'commitOid': oid})

    def resolve(self, repo, revision, name, kind=None):
        files = self._files(repo, kind, revision)
        if files is None:
            return None
        commits = self.hub.repositories[kind or 'models', repo].commits
        commit = commits[-1][0] if revision == 'main' and commits else revision
        headers = {'X-Repo-Commit': commit}
        if name not in files:
            code = {'X-Error-Code': 'EntryNotFound'}
            return self._send(404, {'error': 'Entry not found'}, {**headers, **code})
        data = files[name]
        etag = (sha256 if name.endswith(LARGE) else sha1)(data)
        headers |= {'ETag': f'"{etag}"', 'Accept-Ranges': 'bytes'}
        asked = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        is_same = self.headers.get('If-Range', headers['ETag']) == headers['ETag']
        if asked and is_same and 'Range' not in self.hub.lacks:
            start = int(asked[1])
            headers['Content-Range'] = f'bytes {start}-{len(data) - 1}/{len(data)}'
            return self._send(206, data[start:], headers)
        return self._send(200, data, headers)


def _sibling(name, data):
    entry = {'rfilename': name, 'size': len(data), 'blobId': sha1(data)}
    if name.endswith(LARGE):
        entry['lfs'] = {'sha256': sha256(data), 'size': len(data), 'pointerSize': 130}
    return entry


_KIND, _REPO, _REVISION = (
    r'(?P<kind>models|datasets)',
    r'(?P<repo>[^/]+/[^/]+)',
    r'(?P<revision>[^/]+)',
)
ROUTES = [
    (r'/api/repos/create', Handler.create),
    (r'/api/validate-yaml', Handler.validate),
    (rf'/api/{_KIND}/{_REPO}/preupload/{_REVISION}', Handler.preupload),
    (rf'/api/{_KIND}/{_REPO}/commit/{_REVISION}', Handler.commit),
    (rf'/api/{_KIND}/{_REPO}/revision/{_REVISION}', Handler.info),
    (rf'/api/{_KIND}/{_REPO}', Handler.info),
    (rf'/(?:(?P<kind>datasets)/)?{_REPO}\.git/info/lfs/objects/batch', Handler.batch),
    (r'/lfs/(?P<oid>[0-9a-f]{64})', Handler.put_large),
    (rf'/(?:(?P<kind>datasets)/)?{_REPO}/resolve/{_REVISION}/(?P<name>.+)', Handler.resolve),
]


@contextmanager
def serve_hub():
    """Run a Hub on loopback: the state, and its URL."""
    hub = Hub()
    server = ThreadingHTTPServer(('127.0.0.1', 0), type('BoundHandler', (Handler,), {'hub': hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    try:
        yield hub, f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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

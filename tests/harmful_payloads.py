"""Payloads that write a marker when anything runs them: a package, a script, a pickle, a model."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

PACKAGE = 'harmful_payload'  # on the search path of modules while a test runs


@dataclass(frozen=True)
class Payloads:
    """Where the payloads lie, and the marker that each of them writes."""

    folder: Path
    marker: Path
    url: str  # of the folder

    def named(self, name: str) -> str:
        return str(self.folder / name)


class _WritesMarker:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@contextmanager
def write_payloads(folder: Path):
    """Write all payloads and serve them on loopback."""
    folder.mkdir()
    payloads = Payloads(folder, folder / 'marker', '')
    code = f'open({str(payloads.marker)!r}, "w").close()\n'
    (folder / PACKAGE).mkdir()
    for name in ('__init__', 'registry', 'inner'):
        (folder / PACKAGE / f'{name}.py').write_text(f'{code}def run(*args, **kwargs): pass\n')
    (folder / 'script.py').write_text(f'{code}model = dict(type="ResNet", depth=18)\n')
    torch.save({'state_dict': _WritesMarker(payloads.marker)}, folder / 'pickle.pth')
    torch.save(_WritesMarker(payloads.marker), folder / 'pickle.pkl')
    _write_remote_code(folder / 'remote', code)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = None
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Payloads(folder, payloads.marker, f'http://127.0.0.1:{server.server_port}')
    finally:
        server.shutdown()
        server.server_close()


def _write_remote_code(folder: Path, code: str) -> None:
    """A model of `transformers` that brings its own code."""
    folder.mkdir()
    config = {
        'model_type': 'harmful',
        'auto_map': {'AutoConfig': 'harmful.Config', 'AutoModelForCausalLM': 'harmful.Model'},
    }
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'harmful.py').write_text(
        f'{code}from transformers import PretrainedConfig\n'
        'class Config(PretrainedConfig):\n    model_type = "harmful"\nclass Model:\n    pass\n'
    )

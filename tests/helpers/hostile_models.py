"""Weights and releases that run a payload wherever a careless reader is let at them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
    harm = Call(os.system, f'touch {payloads.marker}')
    torch.save({'state_dict': harm}, folder / 'pickle.pth')
    torch.save(harm, folder / 'pickle.pkl')
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


Change = Callable[[dict[str, Any], Payloads], None]


@dataclass(frozen=True)
class Hostile:
    """A change to an ordinary config; what runs its payload when it is let."""

    change: Change
    trigger: str = 'model'  # what is built: model, pipeline, visualizer, nms, import; '' for none


def at(place: str, make: Callable[[Payloads], Any]) -> Change:
    """Set a value at a place such as `model.backbone.type` or `model.roi_head.bbox_head.0`."""

    def change(config: dict[str, Any], payloads: Payloads) -> None:
        *parents, last = place.split('.')
        node: Any = config
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        node[int(last) if isinstance(node, list) else last] = make(payloads)

    return change


def imported(place: str, name: str = PACKAGE, **arguments: Any) -> Change:
    return at(place, lambda payloads: {'type': name, **arguments})


SSH = {'num_scales': 1, 'in_channels': [512], 'out_channels': [64]}
HEAD = {'type': 'RetinaHead', 'num_classes': 1, 'in_channels': 512}


def distilled(place: str = 'model', name: str = 'KnowledgeDistillationSingleStageDetector'):
    """A detector that loads its teacher's weights; `{}` stands for where they are."""
    backbone = {'type': 'ResNet', 'depth': 18}
    teacher = {'model': {'type': 'RetinaNet', 'backbone': backbone, 'neck': None}}
    teacher['model']['bbox_head'] = HEAD

    def with_teacher(find: Callable[[Payloads], dict[str, Any]]) -> Change:
        return at(
            place,
            lambda payloads: {
                'type': name, 'backbone': backbone, 'neck': None, 'bbox_head': HEAD,
                'teacher_config': teacher, **find(payloads),
            },
        )  # fmt: skip

    return with_teacher


def lad(payloads: Payloads) -> dict[str, Any]:
    backbone = {'type': 'ResNet', 'depth': 18}
    return {
        'type': 'LAD', 'backbone': backbone, 'neck': {'type': 'SSH', **SSH}, 'bbox_head': HEAD,
        'teacher_backbone': backbone, 'teacher_neck': {'type': 'SSH', **SSH},
        'teacher_bbox_head': HEAD, 'teacher_ckpt': payloads.named('pickle.pth'),
    }  # fmt: skip


def remote_model(payloads: Payloads) -> dict[str, Any]:
    return {
        'type': 'mmpretrain.AutoModelForCausalLM',
        'name_or_path': payloads.named('remote'),
        'trust_remote_code': True,
    }


def ckpt(name: str) -> Callable[[Payloads], dict[str, Any]]:
    return lambda payloads: {'teacher_ckpt': payloads.named(name)}


IMPORT = f'__import__("{PACKAGE}")'
MODEL_PLACES = (
    'model', 'model.backbone', 'model.neck', 'model.rpn_head', 'model.roi_head',
    'model.roi_head.bbox_roi_extractor', 'model.roi_head.bbox_head.0', 'model.roi_head.mask_head',
    'model.roi_head.mask_head.loss_mask', 'model.rpn_head.anchor_generator',
    'model.rpn_head.bbox_coder', 'model.train_cfg.rpn.assigner', 'model.train_cfg.rpn.sampler',
    'model.backbone.norm_cfg', 'model.neck.act_cfg', 'model.neck.conv_cfg',
)  # fmt: skip
HOSTILE: dict[str, Hostile] = {
    **{f'module as {place}': Hostile(imported(place)) for place in MODEL_PLACES},
    'dotted type': Hostile(imported('model.backbone', f'{PACKAGE}.inner.run')),
    'scope of the model': Hostile(at('model._scope_', lambda p: PACKAGE)),
    'scope of the backbone': Hostile(at('model.backbone._scope_', lambda p: PACKAGE)),
    'scope of a loss': Hostile(at('model.rpn_head.loss_cls._scope_', lambda p: PACKAGE)),
    'prefix of a type': Hostile(imported('model.backbone', f'{PACKAGE}.ResNet')),
    'module of the standard library': Hostile(imported('model.backbone', 'this'), ''),
    'command': Hostile(
        at('model.neck', lambda p: {'type': 'os.system', 'command': f'touch {p.marker}'})
    ),
    'process': Hostile(
        at('model.neck', lambda p: {'type': 'subprocess.Popen', 'args': ['touch', str(p.marker)]})
    ),
    'script by runpy': Hostile(
        at('model.neck', lambda p: {'type': 'runpy.run_path', 'path_name': p.named('script.py')})
    ),
    'config by MMEngine': Hostile(
        at(
            'model.neck',
            lambda p: {'type': 'mmengine.Config.fromfile', 'filename': p.named('script.py')},
        )
    ),
    'pickle by MMEngine': Hostile(
        at(
            'model.neck',
            lambda p: {'type': 'mmengine.fileio.load', 'file': p.named('pickle.pkl')},
        ),
        '',  # a zip of torch is no pickle of its own
    ),
    'teacher of a file': Hostile(distilled()(ckpt('pickle.pth'))),
    'teacher by http': Hostile(distilled()(lambda p: {'teacher_ckpt': f'{p.url}/pickle.pth'}), ''),
    'teacher with a prefix': Hostile(
        distilled(name='mmdet.KnowledgeDistillationSingleStageDetector')(ckpt('pickle.pth'))
    ),
    'nested teacher': Hostile(distilled('model.backbone')(ckpt('pickle.pth'))),
    'config of a teacher': Hostile(
        distilled()(lambda p: {'teacher_config': p.named('script.py'), 'teacher_ckpt': None})
    ),
    'teacher of LAD': Hostile(at('model', lad)),
    'remote code as the backbone': Hostile(at('model.backbone', remote_model)),
    'remote code as the neck': Hostile(at('model.neck', remote_model), ''),  # loaded once
    'text that is evaluated as an NMS': Hostile(
        at('model.test_cfg.rpn.nms', lambda p: {'type': IMPORT}), 'nms'
    ),
    'text that is evaluated by a tracker': Hostile(
        at(
            'model.train_cfg.rpn.assigner',
            lambda p: {'type': 'CameraMotionCompensation', 'warp_mode': IMPORT},
        )
    ),
    'weights of a tracker': Hostile(
        at(
            'model.train_cfg.rpn.assigner',
            lambda p: {'type': 'AppearanceFreeLink', 'checkpoint': p.named('pickle.pth')},
        )
    ),
    'labeller of ours with weights': Hostile(
        at(
            'model',
            lambda p: {
                'type': 'cuts3d_mm.DetectorLabeller',
                'detector': {'type': PACKAGE},
                'pipeline': [],
            },
        )
    ),
    'preprocessor': Hostile(imported('model.data_preprocessor')),
    'augmentation of the preprocessor': Hostile(
        at('model.data_preprocessor.batch_augments', lambda p: [{'type': PACKAGE}])
    ),
    'step of the pipeline': Hostile(
        at('test_dataloader.dataset.pipeline.1', lambda p: {'type': PACKAGE}), 'pipeline'
    ),
    'nested step of the pipeline': Hostile(
        at(
            'test_dataloader.dataset.pipeline.1',
            lambda p: {'type': 'RandomApply', 'transforms': [{'type': PACKAGE}], 'prob': 1.0},
        ),
        'pipeline',
    ),
    'visualizer': Hostile(imported('visualizer'), 'visualizer'),
    'backend of the visualizer': Hostile(
        at(
            'visualizer',
            lambda p: {
                'type': 'DetLocalVisualizer', 'name': 'x', 'vis_backends': [{'type': PACKAGE}],
            },
        ),
        'visualizer',
    ),
    'custom imports': Hostile(
        at('custom_imports', lambda p: {'imports': [PACKAGE], 'allow_failed_imports': False}),
        'import',
    ),
}  # fmt: skip
# Texts of a config that run the payload where they are run; ORDINARY stands for the members of the
# JSON of an ordinary config.
TEXTS: dict[str, str] = {
    'import': f'import {PACKAGE}\n{{ORDINARY}}',
    'call': f'{{ORDINARY}}\nx = {IMPORT}\n',
    'call in the JSON': f'{{ORDINARY, "y": [1, {IMPORT}]}}',
    'text of a call': f'{{ORDINARY, "y": "{{{{{IMPORT.replace(chr(34), chr(39))}}}}}"}}',
    'base': '{"_base_": "SCRIPT", ORDINARY}',
    'base alone': '{"_base_": ["SCRIPT"]}',
    'lambda': f'{{ORDINARY, "y": (lambda: {IMPORT})()}}',
    'decorator': f'{{ORDINARY}}\n@{IMPORT}.run\ndef x(): pass\n',
}


def _small_retina(**changes: Any) -> str:
    model = {
        'type': 'RetinaNet',
        'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 1},
        'bbox_head': {'type': 'RetinaHead', 'num_classes': 1, 'in_channels': 1},
        **changes,
    }
    dataset = {'pipeline': [{'type': 'LoadImageFromFile'}]}
    return json.dumps({'model': model, 'test_dataloader': {'dataset': dataset}})


# Texts that no reader may stumble over; they hold no payload.
BROKEN: dict[str, str] = {
    'deep list': '[' * 100_000,
    'deep dict': '{"a":' * 50_000,
    'large number': f'{{"x": {"9" * 100_000}}}',
    'large file': '{"x": 1' + ' ' * 1_000_000 + '}',
    'no model': '{"x": 1}',
    'no object': 'null',
    'null': '{"x": "\x00"}',
    'model that is a list': '{"model": [1]}',
    'no number': _small_retina(neck={'type': 'FPN', 'num_outs': float('nan')}),
    'large layer': _small_retina(
        backbone={'type': 'ResNet', 'depth': 18, 'base_channels': 1_000_000}, neck=None
    ),
    'many layers': _small_retina(
        neck={'type': 'FPN', 'in_channels': [1, 2, 4, 8], 'out_channels': 1, 'num_outs': 4},
        bbox_head={
            'type': 'RetinaHead', 'num_classes': 1, 'in_channels': 1, 'stacked_convs': 1_000_000,
        },
    ),
    'cyclic arguments': _small_retina(
        backbone={'type': 'RetinaNet', 'backbone': {'x': 1}}, bbox_head=None
    ),
}  # fmt: skip
WEIGHTS = OrderedDict(a=torch.ones(2, 3))
TRAINING = {
    'state_dict': WEIGHTS,
    'meta': {'epoch': 0, 'iter': 2},
    'optimizer': {'state': {}, 'param_groups': []},
    'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
}


class Call:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts

    def __call__(self):
        """May itself be what is called."""


def _zip_of(pickled: bytes, path: Path, more: dict[str, bytes] | None = None) -> None:
    """A file of PyTorch around a pickle that was written by hand."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in {'data.pkl': pickled, 'version': b'3\n', **(more or {})}.items():
            archive.writestr(f'archive/{name}', content)


def _text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def _saved(content, path: Path, is_zip: bool = True) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)


def _pickled(content, path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def _tar(harm, path: Path) -> None:
    """The format of PyTorch 0.1."""
    members = {'sys_info': [{}], 'pickle': [harm], 'storages': [0, []], 'tensors': [0]}
    with tarfile.open(path, 'w', format=tarfile.USTAR_FORMAT) as archive:
        for name, contents in members.items():
            data = b''.join(pickle.dumps(content, protocol=2) for content in contents)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _legacy(path: Path, place: int, harm) -> None:
    """PyTorch's older format, the harm in one of its five pickles."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}, {'a': 1}, []]
    parts[place] = harm
    path.write_bytes(b''.join(pickle.dumps(part, protocol=2) for part in parts))


def _torch_hub(marker: Path) -> str:
    """A repository of PyTorch Hub that writes the marker."""
    folder = marker.parent / 'repository'
    folder.mkdir(exist_ok=True)
    (folder / 'hubconf.py').write_text(f'def x():\n    open({str(marker)!r}, "w").close()\n')
    return str(folder)


def kinds(marker: Path) -> dict:
    """Name -> what writes the file to a path."""
    harm = Call(os.system, f'touch {marker}')
    return {**_by_place(harm), **_by_call(marker), **_by_bytes(harm, f'touch {marker}')}


def _by_place(harm: Call) -> dict:
    """A call at each place of a checkpoint."""
    nested = {'state_dict': WEIGHTS, 'meta': {'epoch': [({'x': harm},)]}}
    hub = {**TRAINING, 'message_hub': {'log_scalars': {'loss': harm}}}
    return {
        'zip': lambda path: _saved({**TRAINING, 'more': harm}, path),
        'legacy': lambda path: _saved({**TRAINING, 'more': harm}, path, is_zip=False),
        'tar': lambda path: _tar({'state_dict': harm}, path),
        'alone': lambda path: _saved(harm, path),
        'a_weight': lambda path: _saved({'state_dict': {'a': harm}}, path),
        'in_meta': lambda path: _saved(nested, path),
        'in_the_optimizer': lambda path: _saved({**TRAINING, 'optimizer': {'state': harm}}, path),
        'in_the_logs': lambda path: _saved(hub, path),
        'a_key': lambda path: _saved({**TRAINING, harm: 1}, path),
    }


def _by_call(marker: Path) -> dict:
    """Each function that does harm, in a checkpoint."""
    inner = io.BytesIO()
    torch.save(Call(os.system, f'touch {marker}'), inner)
    python = f'open({str(marker)!r}, "w").close()'
    return {
        'exec': lambda path: _saved({**TRAINING, 'x': Call(exec, python)}, path),
        'eval': lambda path: _saved({**TRAINING, 'x': Call(eval, python)}, path),
        'open': lambda path: _saved({**TRAINING, 'x': Call(open, str(marker), 'w')}, path),
        'popen': lambda path: _saved(
            {**TRAINING, 'x': Call(subprocess.Popen, ['touch', str(marker)])}, path
        ),
        'getattr': lambda path: _saved(
            {**TRAINING, 'x': Call(Call(getattr, Path(marker), 'touch'))}, path
        ),
        'torch_load': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.storage._load_from_bytes, inner.getvalue())}, path
        ),
        'torch_hub': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.hub._load_local, _torch_hub(marker), 'x')}, path
        ),
        'torch_from_file': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.from_file, str(marker), True, 4)}, path
        ),
        'torch_save': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.save, 1, str(marker))}, path
        ),
    }


def _by_bytes(harm: Call, shell: str) -> dict:
    """Each way in which the bytes of a pickle name a function."""
    command = _text(shell)
    return {
        'getattr_of_a_module': lambda path: _zip_of(
            b'\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n(' + _text('os') + b'tR'
            + _text('system') + b'\x86R' + command + b'\x85R.', path,
        ),
        'dotted': lambda path: _zip_of(
            b'\x80\x04' + _text('pathlib') + _text('os.system') + b'\x93' + command
            + b'\x85R.', path,
        ),
        'dotted_torch': lambda path: _zip_of(
            b'\x80\x04' + _text('torch') + _text('serialization.os.system') + b'\x93' + command
            + b'\x85R.', path,
        ),
        'instance': lambda path: _zip_of(b'(' + command + b'ios\nsystem\n.', path),
        'object': lambda path: _zip_of(b'(cos\nsystem\n' + command + b'o.', path),
        'persistent_id': lambda path: _zip_of(
            b'\x80\x02cos\nsystem\n' + command + b'\x85RQ.', path
        ),
        'cut': lambda path: _zip_of(pickle.dumps(harm, 2)[:-1], path),
        **{
            f'legacy_{place}': lambda path, place=place: _legacy(path, place, harm)
            for place in range(5)
        },
        **{
            f'pickle_{protocol}': lambda path, protocol=protocol: _pickled(
                {'model': {'a': harm}}, path, protocol
            )
            for protocol in (0, 1, 2, 4, 5)
        },
    }  # fmt: skip

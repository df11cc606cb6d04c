"""Configs of releases that run a payload wherever MMEngine is let at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harmful_payloads import PACKAGE, Payloads

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

# Texts of config.py that run the payload when they are run; `{}` stands for the ordinary config.
TEXTS: dict[str, str] = {
    'import': f'import {PACKAGE}\n{{}}',
    'call': f'{{}}\nx = {IMPORT}\n',
    'call in a dict': f'{{}}\nx = dict(y=[1, {IMPORT}])\n',
    'f-string': f"{{}}\nx = f'{{{{{IMPORT}}}}}'\n",
    'base': "_base_ = 'SCRIPT'\n{}",
    'lambda': f'{{}}\nx = (lambda: {IMPORT})()\n',
    'comprehension': f'{{}}\nx = [{IMPORT} for _ in (1,)]\n',
    'decorator': f'{{}}\n@{IMPORT}.run\ndef x(): pass\n',
}
# Texts that no reader may stumble over; they hold no payload.
BROKEN: dict[str, str] = {
    'deep list': f'x = {"[" * 100_000}',
    'deep dict': f'x = {"dict(a=" * 50_000}',
    'many signs': f'x = {"-" * 200_000}1',
    'many calls': f'x = dict{"()" * 100_000}',
    'large number': f'x = {"9" * 100_000}',
    'large file': 'x = 1\n' * 200_000,
    'no model': 'x = 1\n',
    'null': 'x = \x00\n',
    'model that is a list': 'model = [1]\n',
    'large layer': (
        "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18, "
        'base_channels=1000000), neck=None, '
        "bbox_head=dict(type='RetinaHead', num_classes=1, in_channels=1))\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))\n"
    ),
    'many layers': (
        "model = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18, base_channels=1), "
        "neck=dict(type='FPN', in_channels=[1, 2, 4, 8], out_channels=1, num_outs=4), "
        "bbox_head=dict(type='RetinaHead', num_classes=1, in_channels=1, stacked_convs=1000000))\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))\n"
    ),
    'cyclic arguments': (
        "model = dict(type='RetinaNet', backbone=dict(type='RetinaNet', backbone=dict(x=1)))\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))\n"
    ),
}

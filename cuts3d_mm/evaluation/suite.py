"""Evaluate a detector on many data sets, next to the figures that papers report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from cuts3d_mm.configs import without_labels
from cuts3d_mm.engine.runner import build_runner
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.files.stored_run import require_same_run
from cuts3d_mm.labels.coco_json import read_entries
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import digest_weights

from .average_precision import KINDS
from .datasets import EVALUATION_SETS

Scores = dict[str, float]
_NUM_IMAGES = 'num_images'  # a key among the scores
_OF_TRAINING = (
    *('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
    *('val_dataloader', 'val_cfg', 'val_evaluator'),
)
TABLE_2 = ('coco', 'coco20k', 'voc', 'objects365', 'openimages', 'kitti', 'lvis')
_FIRST = 'CutS3D paper (arXiv 2411.16319v1), Table'
_LATER = 'CutS3D paper, later version (ICCV 2025), from notes on it'


def evaluate_set(
    config: Config, checkpoint: str, name: str, annotations: Path, out: Path
) -> Scores:
    """Score a detector on one prepared data set, or read the scores from `out` if they are there.

    `annotations` is the JSON that `cuts3d prepare` wrote for the set `name` of `EVALUATION_SETS`.

    Returns:
        Scores in [0, 1], by the names of `ClassAgnosticCocoMetric`, and `num_images`.

    Raises:
        ValueError: `out` holds scores of another detector or of other annotations, or
            `annotations` was not written by `cuts3d prepare`.
    """
    result = out / f'{name}.json'
    pipeline = config.to_dict()['test_dataloader']['dataset']['pipeline']
    identity = {
        'weights_sha256': digest_weights(read_state(checkpoint).weights),
        'model_sha256': _sha256(json.dumps(config.to_dict()['model'], default=str).encode()),
        'test_pipeline_sha256': _sha256(json.dumps(pipeline, default=str).encode()),
        'annotations_sha256': _sha256(annotations.read_bytes()),
    }
    if result.is_file():
        earlier = json.loads(result.read_text())
        remedy = 'choose another OUT, or the same settings'
        require_same_run(result, 'scores', earlier['identity'], identity, remedy)
        return earlier['scores']
    scores = _run(config, checkpoint, name, annotations, out)
    scores[_NUM_IMAGES] = sum(1 for _ in read_entries(annotations, ('images',)))
    write_whole(result, json.dumps({'identity': identity, 'scores': scores}, indent=1) + '\n')
    return scores


def suite_table(
    method: str, scores: dict[str, Scores], kind: str = 'bbox'
) -> tuple[list[str], list[list[str]]]:
    """Lay scores out as the paper's Table 2: AP50 / AP in percent, published rows below.

    Args:
        method: name of the detector that was scored.
        scores: data set -> scores.
        kind: `bbox`, or `segm` for the data sets with masks.

    Returns:
        Header and rows. The average is over the seven sets of Table 2, if all have scores. There
        are no rows if no set has scores of this kind.
    """
    keys = f'coco/{kind}_mAP_50', f'coco/{kind}_mAP'
    names = [name for name in EVALUATION_SETS if keys[0] in scores.get(name, ())]
    header = ['method', 'source', 'average', *(_column(name, scores[name]) for name in names)]
    if not names:
        return header, []
    pairs = {name: tuple(100 * scores[name][key] for key in keys) for name in names}
    average = None
    if set(TABLE_2) <= set(pairs):
        ap50, ap = zip(*(pairs[name] for name in TABLE_2), strict=True)
        average = sum(ap50) / len(ap50), sum(ap) / len(ap)
    rows = [[method, 'this run', _cell(average), *(_cell(pairs[name]) for name in names)]]
    for row in PUBLISHED:
        printed, average = (row.boxes, row.average) if kind == 'bbox' else (row.masks, None)
        sign = '+' if row.is_gain else ''
        cells = [_cell(printed.get(name), sign) for name in names]
        if any(cell != '-' for cell in cells):
            rows.append([row.method, row.source, _cell(average), *cells])
    return header, rows


def _column(name: str, scores: Scores) -> str:
    """Title of a data set; with its number of images if the papers use another number."""
    chosen, count = EVALUATION_SETS[name], int(scores[_NUM_IMAGES])
    if chosen.expected_images in (None, count):
        return chosen.title
    return f'{chosen.title} ({count} of {chosen.expected_images} images)'


def _run(config: Config, checkpoint: str, name: str, annotations: Path, out: Path) -> Scores:
    chosen = EVALUATION_SETS[name]
    config = Config(config.to_dict())
    config.load_from = checkpoint
    config.work_dir = str(out / 'logs' / name)
    config.experiment_name = f'suite_{name}'
    config.test_dataloader.dataset = {
        'type': 'cuts3d_mm.ClassAgnosticCocoDataset',
        'ann_file': str(annotations.resolve()),
        'data_prefix': {'img': _image_folder(annotations)},
        'test_mode': True,
        'pipeline': without_labels(config.test_dataloader.dataset.pipeline),
        'backend_args': None,
    }
    config.test_evaluator = {
        'type': 'cuts3d_mm.ClassAgnosticCocoMetric',
        'ann_file': str(annotations.resolve()),
        'metric': list(KINDS) if chosen.has_masks else ['bbox'],
    }
    for key in _OF_TRAINING:
        config[key] = None
    config.custom_hooks = []  # the config's hooks are for training
    runner = build_runner(config)
    runner.logger.info(f'evaluating on {chosen.title}, {annotations}')
    return {key: float(value) for key, value in runner.test().items()}


def _image_folder(annotations: Path) -> str:
    with annotations.open(encoding='utf-8') as file:
        head = file.read(4096)
    try:
        info, _ = json.JSONDecoder().raw_decode(head[head.index('{', 1) :])
        return str(info['image_folder'])
    except (ValueError, KeyError) as error:
        raise ValueError(f'{annotations} must be a file of cuts3d prepare') from error


def _cell(values: Sequence[float | None] | None, sign: str = '') -> str:
    if values is None or all(value is None for value in values):
        return '-'
    return ' / '.join('-' if value is None else f'{value:{sign}.1f}' for value in values)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


Pair = tuple[float | None, float | None]  # AP50 and AP in percent; None: not printed


@dataclass(frozen=True)
class PublishedRow:
    """A method in a table of a paper: class-agnostic, zero-shot by default."""

    method: str
    source: str
    boxes: dict[str, Pair] = field(default_factory=dict)  # by data set
    masks: dict[str, Pair] = field(default_factory=dict)
    average: Pair | None = None  # average of boxes in Table 2, as printed
    is_gain: bool = False  # figures are differences to another method


def _coco(val2017: Pair, coco20k: Pair) -> dict[str, Pair]:
    return {'coco': val2017, 'coco20k': coco20k}


# Figures that could not be read are left out. CutLER's box AP on val2017 is 12.3 in Table 1 and
# 12.5 in Table 2.
_TABLE_2 = {
    'CutLER': (
        *((21.9, 12.5), (22.4, 12.5), (36.9, 20.2), (21.6, 11.4), (17.3, 9.7), (18.4, 8.5)),
        *((8.4, 4.5), (20.9, 11.3)),
    ),
    'CuVLER': (
        *((23.0, 12.6), (23.5, 12.7), (39.4, 22.3), (21.6, 10.9), (19.6, 11.6), (None, 4.6)),
        *((8.5, 4.5), (21.0, 11.3)),
    ),
    'CutS3D': (
        *((23.9, 13.0), (24.3, 13.0), (40.6, 21.4), (22.3, 11.4), (18.1, 10.0), (18.7, 8.7)),
        *((8.5, 4.5), (22.3, 11.7)),
    ),
}
_TABLE_1 = {  # masks of COCO val2017 and 20K
    'LOST': _coco((None, None), (2.4, 1.1)),
    'MaskDistill': _coco((None, None), (6.8, 2.9)),
    'FreeSOLO': _coco((9.4, 4.3), (9.7, 4.3)),
    'ProMerge+': _coco((None, 8.9), (None, 9.0)),
    'CutLER': _coco((18.9, 9.7), (19.6, 10.0)),
    'CuVLER': _coco((19.3, 9.8), (20.0, 10.0)),
    'CutS3D, DINO': _coco((19.2, 10.0), (20.0, 10.2)),
    'CutS3D, DiffNCuts': _coco((20.1, 10.2), (20.6, 10.3)),
}
_BOXES_OF_TABLE_1 = {
    'FreeSOLO': _coco((9.6, 4.2), (9.7, 4.1)),
    'CutS3D, DINO': _coco((22.7, 12.7), (23.6, 12.8)),
}
PUBLISHED = (
    *(
        PublishedRow(name, f'{_FIRST} 2', dict(zip(TABLE_2, pairs, strict=False)), {}, pairs[-1])
        for name, pairs in _TABLE_2.items()
    ),
    PublishedRow(
        'CutLER',
        'README of the CutLER repository',
        {
            'uvo': (31.7, None),
            'clipart': (21.1, None),
            'comic': (30.4, None),
            'watercolor': (37.5, None),
        },
    ),
    *(
        PublishedRow(name, f'{_FIRST} 1', _BOXES_OF_TABLE_1.get(name, {}), masks)
        for name, masks in _TABLE_1.items()
    ),
    PublishedRow(
        'CutS3D, 3 rounds',
        _LATER,
        _coco((24.3, 13.3), (None, None)),
        _coco((20.8, 10.7), (21.3, 10.9)),  # repeated by TRACE (arXiv 2503.07982)
    ),
    PublishedRow(
        'CutS3D over CuVLER, both in-domain',
        'CutS3D paper (arXiv 2411.16319v1), text to Table 3',
        masks={'coco': (None, 0.7), 'coco20k': (None, 0.7), 'lvis': (None, 1.8)},
        is_gain=True,
    ),
)

"""Short runs of the tiny detector on drawn images."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from forked_commands import ForkedCommand, run_forked
from label_stores import write_labelled_images
from tiny_detectors import NARROW, TINY
from without_packages import light_environment

from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import decode_mask, encode_instance
from cuts3d_mm.learning.training import read_log

SMALL = [
    *NARROW,
    'train_dataloader.dataset.dataset.pipeline.2.scales=[(96,64)]',
    'test_dataloader.dataset.pipeline.1.scale=(96,64)',
    'val_dataloader.dataset.pipeline.1.scale=(96,64)',
    'default_hooks.logger.interval=1',
    'custom_hooks.1.num_iters=2',  # batches for the statistics of norms
    'model.train_cfg.rpn_proposal.max_per_img=20',
    'model.test_cfg.rpn.max_per_img=20',
]


def write_training_set(root: Path) -> Path:
    """Images, labels and a held-out part, as the demo writes them."""
    write_labelled_images(root, (2, 1, 3, 2))
    records = write_labelled_images(root / 'held_out', (1, 2), seed=1)[:2]
    images, annotations = [], []
    for number, record in enumerate(records):
        height, width = record.image_hw
        images.append({'id': number, 'file_name': record.name, 'height': height, 'width': width})
        for one in record.instances:
            code = encode_instance(decode_mask(one, record.image_hw), None, 1.0)
            ids = {'id': len(annotations) + 1, 'image_id': number}
            annotations.append(ids | coco_annotation(code, record.image_hw))
    truth = {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'o'}]}
    (root / 'held_out' / 'instances.json').write_text(json.dumps(truth))
    return root


def train_command(
    root: Path, work_dir: Path, max_iters: int, *options: str, config: str = TINY
) -> list[str]:
    """`cuts3d train` of a tiny config for so many iterations."""
    schedule = [
        f'train_cfg.max_iters={max_iters}',
        f'train_cfg.val_interval={max_iters}',
        'default_hooks.checkpoint.interval=2',
    ]
    tool = Path(__file__).parents[1] / 'tools' / 'train.py'
    command = [sys.executable, str(tool), config, '--work-dir', str(work_dir)]
    return [
        *command,
        *(option for option in options if option.startswith('--')),
        '--cfg-options',
        *data_options(root, root / 'labels'),
        *SMALL,
        *schedule,
        *(option for option in options if not option.startswith('--')),
    ]


def run(command: list[str], folder: Path | None = None, **env: str) -> str:
    """Run a command in a folder; fails with its output."""
    environment = {**light_environment(), **env}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    return _output_of(done)


def run_warm(command: list[str]) -> str:
    """Run a tool in a forked process; fails with its output."""
    return _output_of(run_forked(command))


def run_ranks(command: list[str]) -> str:
    """Run a tool as two ranks that nobody watches over, as Slurm does; the first one's output."""
    ranks = start_ranks(command)
    return [_output_of(rank.completed()) for rank in ranks][0]


def start_ranks(command: list[str], dies_at: Path | None = None) -> list[ForkedCommand]:
    """Start a tool as two ranks, the first of which dies when a path is there."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        job = {'WORLD_SIZE': 2, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free.getsockname()[1]}
    return [
        ForkedCommand(command, end, RANK=rank, LOCAL_RANK=rank, **job)
        for rank, end in enumerate((dies_at, None))
    ]


def _output_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def losses(work_dir: Path) -> dict[int, float]:
    """Loss of each step."""
    return {line['step']: line['loss'] for line in read_log(work_dir) if 'loss' in line}


def data_options(root: Path, labels: Path) -> list[str]:
    """Config changes that point the tiny config to scenes and labels."""
    train, val = 'train_dataloader.dataset.dataset', 'val_dataloader.dataset'
    root, labels = root.resolve(), labels.resolve()
    return [
        f'{train}.data_root={root}',
        f'{train}.ann_file={labels}',
        *(f'{part}.data_root={root}' for part in (val, 'test_dataloader.dataset')),
        *(
            f'{part}.ann_file={root}/held_out/instances.json'
            for part in ('val_evaluator', 'test_evaluator')
        ),
    ]


def final_scores(log: list[dict[str, Any]]) -> dict[str, float]:
    """Scores of the last evaluation in percent: AP and AP50 of masks."""
    scored = [line for line in log if 'coco/segm_mAP' in line]
    names = {'AP': 'coco/segm_mAP', 'AP50': 'coco/segm_mAP_50'}
    return {name: 100 * float(scored[-1][key]) for name, key in names.items()}

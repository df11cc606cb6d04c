"""Short trainings and runs of `learn` on drawn images, with tiny configs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from helpers.commands import ForkedCommand, light_environment, run_forked
from helpers.drawn import disc, write_labelled_images
from helpers.tiny_detectors import NARROW, TINY
from mmengine.config import Config
from PIL import Image
from safetensors.numpy import load_file

from cuts3d_mm.configs import find_config, load_config, read_generator_config
from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import decode_mask, encode_instance
from cuts3d_mm.learning.loop import learn
from cuts3d_mm.learning.plan import Request
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
    tool = Path(__file__).parents[2] / 'tools' / 'train.py'
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


IMAGE_HW = (60, 90)
INITIAL, ROUND = 3, 2  # steps
CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
# Detectors that have learnt next to nothing give low scores.
OPTIONS = [
    *SMALL,
    'schedule_images=5',
    f'train_cfg.rounds.0.begin={INITIAL}',
    f'train_cfg.rounds.1.begin={INITIAL + ROUND}',
    f'train_cfg.max_iters={INITIAL + 2 * ROUND}',
    *(f'train_cfg.rounds.{number}.score_thr=0.02' for number in (0, 1)),
    'train_cfg.max_per_image=3',
    'custom_hooks.1.num_iters=1',
    *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
    *(f'{part}_dataloader.persistent_workers=False' for part in ('train', 'val', 'test')),
]


def write_photos(folder: Path, count: int = 6, first: int = 0) -> Path:
    """Images with two coloured discs each, on a textured ground."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 40, (*IMAGE_HW, 3), dtype=np.uint8)
        for index in (0, 1):
            center = 30 + rng.integers(-8, 8), 25 + 40 * index
            image[disc(center, 14, IMAGE_HW)] = rng.integers(90, 255, 3)
        Image.fromarray(image).save(folder / f'{number:03d}.png')
    return folder


def write_detector(path: Path) -> str:
    """A detector that trains in seconds; its config."""
    path.write_text(load_config(CONFIG, OPTIONS).pretty_text)
    return str(path)


def write_inputs(root: Path, count: int = 6) -> Path:
    """Images and configs, of a generator and a detector that are quick."""
    write_photos(root / 'images', count)
    write_detector(root / 'detector.py')
    generator = read_generator_config('maskcut_color-texture', ['model.input_hw=(64,96)'])
    (root / 'generator.py').write_text(generator.pretty_text)
    return root


def run_learn(root: Path, out: Path, ask=lambda question: False, **changes) -> list[str]:
    """Learn in this process from `root`, where the images and configs are."""
    said: list[str] = []
    options = {'offline': True, 'workers': 0, **changes}
    configs = {'config': str(root / 'generator.py'), 'detector': str(root / 'detector.py')}
    request = Request(root / 'images', out, **configs, **options)
    with trainings_forked():
        learn(request, said.append, ask=ask)
    return said


def trainings_forked():
    """Let `learn` fork its trainings from a process that has loaded MMDetection."""
    return patch('cuts3d_mm.learning.training.run_command_in_child', _train_in_fork)


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs have released the same weights, to the bit."""
    first, second = (load_file(out / 'release/model.safetensors') for out in (one, other))
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def _train_in_fork(command, report, _variables):
    done = run_forked(command)
    output = done.stdout + done.stderr
    for line in output.splitlines():
        report(line)
    return subprocess.CompletedProcess(command, done.returncode, output)


CHANNELS = 16
INPUT_HW = (64, 64)
SCALE = (96, 64)  # of images in training and test, pixels
VIT = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}


def tiny_generator(name: str) -> Config:
    """A generator config with a tiny ViT of random weights on 64 px.

    Patches of 4 px, so that neighbours in the grid are nearer than `tau_knn`. Random features
    are all alike, so that NCut's threshold is higher; the rest of the recipe stays.
    """
    config = Config.fromfile(str(find_config(name)))
    config.model.input_hw = INPUT_HW
    config.model.features.checkpoint = None
    config.model.recipe.ncut = {'tau_ncut': 0.7}
    config.model.features.backbone = {'arch': VIT, 'patch_size': 4, 'img_size': 64}
    return config


def tiny_data(name: str) -> Config:
    """A detector config whose images are small, loaded in this process."""
    config = Config.fromfile(str(find_config(name)))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[key].update(num_workers=0, persistent_workers=False)
    _shrink_images(config)
    return config


def tiny_training(name: str) -> tuple[Config, int]:
    """A detector config with ResNet-18, narrow heads and two iterations, or one a round.

    Returns:
        The config, and the iterations that the shipped one trains for.
    """
    config = tiny_data(name)
    shrink_model(config.model)
    iterations = config.train_cfg.max_iters
    hooks = {hook.type.rpartition('.')[2]: hook for hook in config.custom_hooks}
    hooks['PreciseBNHook'].num_iters = 1
    wrappers = [config.optim_wrapper]
    num_rounds = 1
    if 'rounds' in config.train_cfg:
        rounds = config.train_cfg.rounds
        for begin, one in enumerate(rounds, 1):
            one.begin = begin
        num_rounds = len(rounds)
        wrappers.append(config.train_cfg.optim_wrapper)
    for wrapper in wrappers:  # mixed precision needs a GPU
        wrapper.type = wrapper.type.replace('Amp', '')
    config.train_cfg.update(max_iters=num_rounds + 1, val_interval=num_rounds + 1)
    config.default_hooks.checkpoint.interval = num_rounds + 1
    return config, iterations


def _shrink_images(config: Config) -> None:
    pipelines = _lists_of(config._cfg_dict, 'pipeline')
    assert pipelines
    for step in (step for pipeline in pipelines for step in pipeline):
        for key, value in (('scale', SCALE), ('scales', [SCALE])):
            if 'Resize' in step.type and key in step:
                step[key] = value


def _lists_of(part: Any, key: str) -> list[Any]:
    """Values of a key that are lists, wherever they are in a config."""
    found = []
    if isinstance(part, dict):
        found = [value for name, value in part.items() if name == key and isinstance(value, list)]
    children = part.values() if isinstance(part, dict) else part
    for child in children if isinstance(part, (dict, list, tuple)) else ():
        found += _lists_of(child, key)
    return found


def shrink_model(model: Any) -> None:
    """Give a detector a narrow ResNet-18, narrow heads and few proposals."""
    norm = {'type': 'BN', 'requires_grad': True}
    model.backbone.update(depth=18, base_channels=CHANNELS, norm_cfg=norm, init_cfg=None)
    widths = [CHANNELS << stage for stage in range(4)]
    model.neck.update(in_channels=widths, out_channels=CHANNELS, norm_cfg=norm)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    roi_head = model.roi_head
    for part in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
        part.out_channels = CHANNELS
    heads = roi_head.bbox_head if isinstance(roi_head.bbox_head, list) else [roi_head.bbox_head]
    for head in heads:
        head.update(in_channels=CHANNELS, fc_out_channels=2 * CHANNELS)
    roi_head.mask_head.update(num_convs=1, in_channels=CHANNELS, conv_out_channels=CHANNELS)
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=50)
    model.test_cfg.rpn.update(nms_pre=20, max_per_img=20)
    model.test_cfg.rcnn.max_per_img = 10


def write_config(config: Config, path: Path) -> str:
    """Write a config where a command can be given it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config.dump(str(path))
    return str(path)

"""The folder for MMDetection's `projects/`, run as MMDetection runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
from helpers.commands import light_environment
from helpers.tiny_detectors import NARROW
from helpers.training import losses, write_training_set

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import require_doubt

ROOT = Path(__file__).parents[2]
STOCK = 'cuts3d_stock-cascade-mask-rcnn_r50_fpn_1x.py'
PROJECT = ROOT / 'projects/CutS3D/configs' / STOCK
TRAIN = 'train_dataloader.dataset.dataset'
PLAIN_MASKS = f'{TRAIN}.pipeline.1.type=LoadAnnotations', f'{TRAIN}.pipeline.1.with_mask=True'


def test_its_config_is_the_shipped_one():
    assert PROJECT.read_text() == (ROOT / 'configs/cuts3d' / STOCK).read_text()


def train(root, work_dir, *options):
    """Run MMDetection's own `tools/train.py` on the config of the project."""
    tool = Path(mmdet.__file__).parent / '.mim/tools/train.py'
    masks = [f'model.roi_head.mask_head.{key}_channels=8' for key in ('in', 'conv_out')]
    changes = [
        *(one for one in NARROW if 'mask_head' not in one),
        *masks,
        'model.backbone.depth=18',
        'model.backbone.init_cfg=None',
        'model.backbone.norm_cfg.type=BN',
        f'{TRAIN}.ann_file={root}/labels',
        f'{TRAIN}.data_prefix.img={root}/images',
        f'{TRAIN}.pipeline.2.scale=(96,64)',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        f'val_dataloader.dataset.data_root={root}/held_out',
        'val_dataloader.dataset.ann_file=instances.json',
        'val_dataloader.dataset.data_prefix.img=images',
        'val_dataloader.dataset.pipeline.1.scale=(96,64)',
        f'val_evaluator.ann_file={root}/held_out/instances.json',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        *options,
    ]
    return subprocess.run(
        [sys.executable, tool, PROJECT, '--work-dir', work_dir, '--cfg-options', *changes],
        capture_output=True,
        text=True,
        env=light_environment(),
        cwd=work_dir.parent,
    )


@pytest.mark.slow
def test_its_config_trains_by_the_tool_of_mmdet_and_says_how_to_load_masks(tmp_path):
    root = write_training_set(tmp_path / 'scenes')
    done = train(root, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(losses(tmp_path / 'work')) == 2 and 'coco/segm_mAP' in done.stdout
    assert (tmp_path / 'work/epoch_1.pth').is_file()
    wrong = train(root, tmp_path / 'wrong', *PLAIN_MASKS)
    assert wrong.returncode and "load annotations by dict(type='cuts3d_mm.LoadP" in wrong.stderr


def test_masks_without_doubt_are_refused_before_a_training_begins():
    with pytest.raises(ValueError, match=r"load by dict\(type='cuts3d_mm.LoadPseudoLabels'\)"):
        require_doubt(load_config(STOCK, PLAIN_MASKS))
    certain = 'model.roi_head.mask_head.confidence_source=none'
    require_doubt(load_config(STOCK, [*PLAIN_MASKS, certain]))
    for path in (ROOT / 'configs/cuts3d').glob('*.py'):
        require_doubt(load_config(path.name, []))

"""Which checkpoint a training goes on from."""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine import runner
from cuts3d_mm.engine.runner import settle_resume


def write(path, iteration, **changes):
    path.parent.mkdir(exist_ok=True)
    content = {
        'state_dict': {'a': torch.ones(2, 3)},
        'meta': {'iter': iteration, 'epoch': 0},
        'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
    }
    torch.save(content | changes, path)
    return path


@pytest.fixture
def work_dir(tmp_path):
    folder = tmp_path / 'work'
    for iteration in (900, 1000, 1100):
        write(folder / f'iter_{iteration}.pth', iteration)
    write(folder / 'round_1' / 'begin.pth', 500)
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_1100.pth'))
    return folder


def settled(folder, load_from=None):
    config = Config(dict(resume=True, work_dir=str(folder), load_from=load_from))
    settle_resume(config)
    return config.load_from


def test_the_noted_checkpoint_is_taken(work_dir):
    assert settled(work_dir) == str(work_dir / 'iter_1100.pth')
    (work_dir / 'last_checkpoint').write_text(f'{work_dir}/round_1/begin.pth\n')
    assert settled(work_dir) == str(work_dir / 'round_1/begin.pth')


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(runner, '_say', lines.append)
    return lines


@pytest.mark.parametrize('damage', ['empty', 'garbage', 'cut', 'gone', 'weights', 'flipped'])
def test_a_damaged_one_is_left_out_for_the_one_before(work_dir, damage, said):
    path = work_dir / 'iter_1100.pth'
    content = path.read_bytes()
    if damage == 'gone':
        path.unlink()
    elif damage == 'weights':
        torch.save({'a': torch.ones(2)}, path)
    elif damage == 'flipped':
        place = content.index(torch.ones(6).numpy().tobytes())
        path.write_bytes(content[:place] + b'\xff' + content[place + 1 :])
    else:
        cut = {'empty': b'', 'garbage': b'\x80\x02garbage', 'cut': content[: len(content) // 2]}
        path.write_bytes(cut[damage])
    assert settled(work_dir) == str(work_dir / 'iter_1000.pth')
    assert 'iter_1100.pth' in said[0] or damage == 'gone'
    assert said[-1] == f'resume from {work_dir}/iter_1000.pth'


def test_the_latest_round_is_taken_where_no_numbered_checkpoint_is_whole(work_dir, said):
    for number in (2, 10):
        write(work_dir / f'round_{number}' / 'begin.pth', 500 * number)
    for path in work_dir.glob('iter_*.pth'):
        path.write_bytes(b'')
    assert settled(work_dir) == str(work_dir / 'round_10' / 'begin.pth')


@pytest.mark.parametrize('note', ['/etc/passwd', '../other.pth', '', 'a\0b', '~', '\xff' * 300])
def test_a_note_that_names_something_else_is_not_followed(work_dir, tmp_path, note, said):
    write(tmp_path / 'other.pth', 5)
    (work_dir / 'last_checkpoint').write_text(note, encoding='latin1')
    assert settled(work_dir) == str(work_dir / 'iter_1100.pth')
    assert 'names no checkpoint of its folder' in said[0]


def test_a_work_dir_without_checkpoints_begins(tmp_path):
    assert settled(tmp_path / 'new') is None


def test_the_weights_to_begin_with_are_kept_until_there_is_a_checkpoint(work_dir, tmp_path):
    first = Config(dict(resume='auto', work_dir=str(tmp_path / 'new'), load_from='first.pth'))
    settle_resume(first)
    assert (first.load_from, first.resume) == ('first.pth', False)
    again = Config(dict(resume='auto', work_dir=str(work_dir), load_from='first.pth'))
    settle_resume(again)
    assert (again.load_from, again.resume) == (f'{work_dir}/iter_1100.pth', True)


def test_a_work_dir_of_damaged_ones_is_no_beginning(tmp_path):
    (tmp_path / 'iter_1.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='it holds damaged ones: iter_1.pth; remove them'):
        settled(tmp_path)


def test_a_named_one_must_be_whole_and_of_a_training(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='holds weights only; name it by load_from'):
        settled(tmp_path, str(tmp_path / 'w.pth'))


CONFIG = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet'


@pytest.fixture
def visualizer(monkeypatch, tmp_path):
    """Build the visualizer of the config with changes; stand-ins take what it writes."""

    def build(*changes):
        config = load_config(CONFIG, [f'visualizer.vis_backends.0.{one}' for one in changes])
        register_all_modules()
        modules = {name: MagicMock() for name in ('torch.utils.tensorboard', 'wandb')}
        for name, stand_in in modules.items():
            monkeypatch.setitem(sys.modules, name, stand_in)
        given = {'save_dir': str(tmp_path), 'name': '_'.join(changes)}
        VISUALIZERS.build({**config.visualizer, **given}).add_scalar('loss', 1.5, 7)
        return modules.values()

    return build


def test_tensorboard_gets_the_losses(visualizer):
    tensorboard, _ = visualizer('type=TensorboardVisBackend')
    tensorboard.SummaryWriter.return_value.add_scalar.assert_called_once_with('loss', 1.5, 7)


def test_wandb_gets_the_losses_in_a_project(visualizer):
    _, wandb = visualizer('type=WandbVisBackend', 'init_kwargs.project=cuts3d')
    assert wandb.init.call_args.kwargs['project'] == 'cuts3d'
    assert wandb.log.call_args.args == ({'loss': 1.5},)

"""Training as a user runs it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from signal import SIGKILL

import pytest
import torch
from helpers.commands import run_forked
from helpers.tiny_detectors import TINY
from helpers.training import (
    final_scores,
    losses,
    run,
    run_ranks,
    run_warm,
    train_command,
    write_training_set,
)

from cuts3d_mm.learning.training import read_log
from cuts3d_mm.weights import read_state

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_training_set(tmp_path_factory.mktemp('scenes'))


@pytest.fixture(scope='module')
def uninterrupted(root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('uninterrupted')
    run_warm(train_command(root, work_dir, 8))
    return work_dir


def test_training_ends_with_scores_and_weights(uninterrupted):
    assert set(losses(uninterrupted)) == set(range(1, 9))
    log = read_log(uninterrupted)
    assert set(final_scores(log)) == {'AP', 'AP50'}
    assert [line['step'] for line in log if 'coco/segm_mAP' in line] == [8]
    assert (uninterrupted / 'iter_8.pth').is_file()


def test_images_that_cannot_be_read_are_named_and_the_training_goes_on(root, tmp_path):
    shutil.copytree(root, tmp_path / 'scenes')
    broken = ['images/001.png', 'held_out/images/000.png']
    for name in broken:
        (tmp_path / 'scenes' / name).write_bytes(b'')
    said = run_warm(train_command(tmp_path / 'scenes', tmp_path / 'out', 4))
    named = (tmp_path / 'out/unreadable_images.txt').read_text()
    assert all(f'{name}: cannot be read' in text for name in broken for text in (said, named))
    assert set(losses(tmp_path / 'out')) == {1, 2, 3, 4} and named.count('\n') == 2
    assert set(final_scores(read_log(tmp_path / 'out'))) == {'AP', 'AP50'}


def test_the_same_seed_gives_the_same_losses(root, uninterrupted, tmp_path):
    run_warm(train_command(root, tmp_path, 3, 'train_cfg.val_interval=100'))
    again, before = losses(tmp_path), losses(uninterrupted)
    assert again == {step: before[step] for step in (1, 2, 3)}


def test_a_killed_run_goes_on_with_the_losses_of_an_uninterrupted_one(
    root, uninterrupted, tmp_path
):
    done = run_forked(train_command(root, tmp_path, 8), dies_at=tmp_path / 'iter_6.pth')
    assert done.returncode == -SIGKILL
    assert (tmp_path / 'iter_4.pth').is_file() and not (tmp_path / 'iter_8.pth').is_file()
    run_warm(train_command(root, tmp_path, 8, '--resume'))
    assert losses(tmp_path) == losses(uninterrupted)
    states = [read_state(str(one / 'iter_8.pth')).weights for one in (tmp_path, uninterrupted)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_run_without_a_seed_goes_on_with_its_own(root, tmp_path):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    options = 'randomness.seed=None', 'default_hooks.checkpoint.max_keep_ckpts=-1'
    run_warm(train_command(root, whole, 6, *options))
    resumed.mkdir()
    shutil.copy(whole / 'iter_2.pth', resumed)
    run_warm(train_command(root, resumed, 6, *options, '--resume'))
    before = losses(whole)
    assert losses(resumed) == {step: before[step] for step in range(3, 7)}


def test_a_resumed_run_takes_the_last_whole_checkpoint_and_runs_no_text_of_it(
    root, uninterrupted, tmp_path
):
    content = torch.load(uninterrupted / 'iter_6.pth', weights_only=False)
    code = f'open({str(tmp_path / "marker")!r}, "w").close()'
    content['meta'].update(config=code, cfg=code)
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    torch.save(content, work_dir / 'iter_6.pth')
    whole = (uninterrupted / 'iter_8.pth').read_bytes()
    (work_dir / 'iter_8.pth').write_bytes(whole[: len(whole) // 2])
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_8.pth'))
    output = run_warm(train_command(root, work_dir, 8, '--resume'))
    assert f'left out: {work_dir}/iter_8.pth must be a whole file' in output
    assert f'resume from {work_dir}/iter_6.pth' in output
    before = losses(uninterrupted)
    assert losses(work_dir) == {step: before[step] for step in (7, 8)}
    assert not (tmp_path / 'marker').exists()


def test_weights_are_tested_by_the_test_command(root, uninterrupted, tmp_path):
    command = train_command(root, tmp_path, 8)
    command[1] = command[1].replace('train.py', 'test.py')
    command.insert(3, str(uninterrupted / 'iter_8.pth'))
    output = run_warm(command)
    trained = final_scores(read_log(uninterrupted))
    assert f'coco/segm_mAP_50: {trained["AP50"] / 100:.4f}' in output


def test_two_ranks_train_and_agree(root, tmp_path):
    command = train_command(root, tmp_path, 2)
    options = command[command.index('--cfg-options') + 1 :]
    script = Path(__file__).parents[1] / 'helpers/two_ranks.py'
    output = run_ranks([sys.executable, str(script), TINY, str(tmp_path), *options])
    assert '2 ranks, the same weights: True' in output


def test_the_command_itself_launches_two_ranks(root, tmp_path):
    command = train_command(root, tmp_path, 2, '--launcher=pytorch')
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    run([*launch, *command[1:]])
    assert set(losses(tmp_path)) == {1, 2}

"""Rounds of self-training as a user runs them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from signal import SIGKILL

import pytest
from helpers.commands import run_forked
from helpers.training import (
    final_scores,
    losses,
    run_ranks,
    run_warm,
    start_ranks,
    train_command,
    write_training_set,
)
from mmengine.config import ConfigDict
from safetensors.torch import save_file

from cuts3d_mm.configs import load_config
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.training import read_log
from cuts3d_mm.weights import read_state

pytestmark = pytest.mark.slow
CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training.py'
BEGINS = 3, 5
MAX_ITERS = 7
# Detectors that have learnt next to nothing give low scores.
OPTIONS = [
    *(f'train_cfg.rounds.{number}.begin={begin}' for number, begin in enumerate(BEGINS)),
    *(f'train_cfg.rounds.{number}.score_thr=0.02' for number in (0, 1)),
    'train_cfg.min_score=0.0',
    'train_cfg.refine=False',  # a CRF leaves nothing of masks like theirs
    'train_cfg.max_per_image=3',
    'train_cfg.val_interval=3',
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_training_set(tmp_path_factory.mktemp('scenes'))


def command_of(root, work_dir, *options):
    return train_command(root, work_dir, MAX_ITERS, *OPTIONS, *options, config=CONFIG)


@pytest.fixture(scope='module')
def uninterrupted(root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('uninterrupted')
    run_warm(command_of(root, work_dir))
    return work_dir


def labels_of(work_dir, number):
    return list(read_store(work_dir / f'round_{number}' / 'labels'))


def test_every_round_trains_on_labels_of_its_own(root, uninterrupted):
    assert set(losses(uninterrupted)) == set(range(1, MAX_ITERS + 1))
    first, second = labels_of(uninterrupted, 1), labels_of(uninterrupted, 2)
    assert [record.name for record in first] == [record.name for record in second]
    initial = list(read_store(root / 'labels'))
    assert {r.name for r in first} == {r.name for r in initial}  # failures stay on record
    assert any(len(a.instances) != len(b.instances) for a, b in zip(initial, first, strict=False))


def test_the_hook_does_the_same_in_the_loop_of_mmengine(root, uninterrupted, tmp_path):
    command = command_of(root, tmp_path)
    options = command[command.index('--cfg-options') + 1 :]
    config = load_config(CONFIG.removesuffix('.py'), options)
    hook = {'type': 'cuts3d_mm.SelfTrainingHook', **config.train_cfg}
    schedule = {key: hook.pop(key) for key in ('max_iters', 'val_interval')}
    hook['type'] = 'cuts3d_mm.SelfTrainingHook'
    config.train_cfg = ConfigDict(type='IterBasedTrainLoop', **schedule)
    config.custom_hooks.append(hook)
    (tmp_path / 'own_loop.py').write_text(config.pretty_text)
    start = command[: command.index('--cfg-options')]
    start[start.index(CONFIG)] = str(tmp_path / 'own_loop.py')
    run_warm(start)
    assert losses(tmp_path) == losses(uninterrupted)
    assert labels_of(tmp_path, 2) == labels_of(uninterrupted, 2)
    # Resumed in the second round, it ends the same.
    for path in tmp_path.glob('*/vis_data'):
        shutil.rmtree(path)
    (tmp_path / f'iter_{MAX_ITERS}.pth').unlink()
    (tmp_path / 'last_checkpoint').unlink()
    run_warm([*start, '--resume'])
    assert losses(tmp_path) == {MAX_ITERS: losses(uninterrupted)[MAX_ITERS]}


def test_a_round_begins_with_a_schedule_of_its_own(uninterrupted):
    rates = {line['step']: line['lr'] for line in read_log(uninterrupted) if 'lr' in line}
    for begin in BEGINS:  # 1 % of the rounds' rate of 0.005, rising
        assert rates[begin + 1] == pytest.approx(0.00005)
        assert rates[begin + 2] > rates[begin + 1]


def test_a_training_resumed_within_a_round_has_its_optimizer_and_schedule(
    root, uninterrupted, tmp_path
):
    for name in ('round_1', 'round_2'):
        shutil.copytree(uninterrupted / name, tmp_path / name)
    shutil.copy(uninterrupted / 'iter_6.pth', tmp_path)
    run_warm(command_of(root, tmp_path, '--resume'))
    last, same = (
        [line for line in read_log(one) if 'lr' in line][-1] for one in (uninterrupted, tmp_path)
    )
    assert last['step'] == same['step'] == MAX_ITERS
    assert (last['loss'], last['lr']) == (same['loss'], same['lr'])


def test_labels_of_another_training_in_the_work_dir_are_not_trained_on(
    root, uninterrupted, tmp_path
):
    shutil.copytree(uninterrupted / 'round_1', tmp_path / 'round_1')
    other = command_of(root, tmp_path, 'train_cfg.rounds.0.score_thr=0.5')
    done = run_forked(other)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and 'round_1' in last and 'score_thr' in last
    assert 'choose another --work-dir' in last and len(losses(tmp_path)) == BEGINS[0]


def test_data_that_cannot_be_resumed_are_refused_before_the_training(root, tmp_path):
    sampler = 'train_dataloader.sampler.type=DefaultSampler'
    done = run_forked(command_of(root, tmp_path, sampler))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and 'cuts3d_mm.SeededInfiniteSampler' in last
    assert not losses(tmp_path)


def test_a_training_killed_in_a_prediction_and_in_a_round_ends_the_same(
    root, uninterrupted, tmp_path
):
    moments = [tmp_path / 'round_1' / 'predictions', tmp_path / 'round_2' / 'begin.pth']
    for number, moment in enumerate(moments):
        command = command_of(root, tmp_path, *(['--resume'] if number else []))
        assert run_forked(command, dies_at=moment).returncode == -SIGKILL
        assert moment.exists()
    run_warm(command_of(root, tmp_path, '--resume'))
    assert losses(tmp_path) == losses(uninterrupted)
    for number in (1, 2):
        assert labels_of(tmp_path, number) == labels_of(uninterrupted, number)
    assert final_scores(read_log(tmp_path)) == final_scores(read_log(uninterrupted))


def test_an_evaluation_that_a_resumed_training_catches_up_on_saves_the_best_checkpoint(
    root, uninterrupted, tmp_path
):
    begin = tmp_path / 'round_1' / 'begin.pth'
    begin.parent.mkdir()
    shutil.copy(uninterrupted / 'round_1' / 'begin.pth', begin)  # as if killed right after it
    best = 'default_hooks.checkpoint.save_best=coco/segm_mAP'
    run_warm(command_of(root, tmp_path, '--resume', best))
    assert (tmp_path / f'best_coco_segm_mAP_iter_{BEGINS[0]}.pth').is_file()
    steps = range(BEGINS[0] + 1, MAX_ITERS + 1)
    assert losses(tmp_path) == {step: losses(uninterrupted)[step] for step in steps}


def test_a_training_in_rounds_begins_with_weights_alone(root, uninterrupted, tmp_path):
    weights = tmp_path / 'weights.safetensors'
    save_file(read_state(str(uninterrupted / 'iter_6.pth')).weights, weights)
    run_warm(command_of(root, tmp_path / 'run', f'load_from={weights}'))
    assert set(losses(tmp_path / 'run')) == set(range(1, MAX_ITERS + 1))
    assert losses(tmp_path / 'run')[1] != losses(uninterrupted)[1]


def test_two_ranks_label_and_train_together(root, uninterrupted, tmp_path):
    command = command_of(root, tmp_path)
    options = command[command.index('--cfg-options') + 1 :]
    script = Path(__file__).parents[1] / 'helpers/two_ranks.py'
    output = run_ranks([sys.executable, str(script), CONFIG, str(tmp_path), *options])
    assert '2 ranks, the same weights: True' in output
    names = [record.name for record in labels_of(uninterrupted, 2)]
    assert [record.name for record in labels_of(tmp_path, 2)] == names


def test_a_dead_rank_ends_the_others_with_one_line(root, tmp_path):
    command = command_of(root, tmp_path, 'train_cfg.silence_limit_s=4', '--launcher=pytorch')
    ranks = start_ranks(command, dies_at=tmp_path / 'round_1' / 'heartbeats' / 'rank_0')
    assert ranks[0].completed().returncode == -SIGKILL
    done = ranks[1].completed()
    output = done.stdout + done.stderr
    assert done.returncode == 2 and 'Traceback' not in output, output
    assert 'rank 0 must give a sign of life every 4 s' in done.stderr.splitlines()[-1]

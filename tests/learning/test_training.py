"""When a training counts as ended."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from signal import SIGKILL

import pytest
import torch

from cuts3d_mm.learning import training
from cuts3d_mm.learning.plan import Folders, Schedule
from cuts3d_mm.learning.training import (
    TrainingLog,
    has_checkpoint,
    keep_rounds,
    read_costs,
    read_log,
    timed,
    weights_after,
)

HUB = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
CONTENT = {'state_dict': {'weight': torch.zeros(9)}, 'meta': {'epoch': 1, 'iter': 5}}
SCHEDULE = Schedule(num_images=5, batch_size=2, initial_steps=3, round_steps=(2,))


def test_a_checkpoint_that_a_kill_has_torn_does_not_end_a_training(tmp_path):
    folders = Folders(tmp_path)
    last = folders.work_dir / 'iter_5.pth'
    last.parent.mkdir()
    torch.save({**CONTENT, 'message_hub': HUB}, last)
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert not keep_rounds(folders, SCHEDULE) and not weights_after(folders, 1).exists()
    (folders.work_dir / 'iter_3.pth').write_bytes(whole)  # killed before the round began
    assert not keep_rounds(folders, SCHEDULE) and weights_after(folders, 0).read_bytes() == whole
    last.write_bytes(whole)
    for _ in range(2):
        assert keep_rounds(folders, SCHEDULE)
        assert weights_after(folders, 1).read_bytes() == whole
        weights_after(folders, 1).write_bytes(whole[:-100])  # it is made again


def test_a_training_with_nothing_but_a_torn_checkpoint_begins_again(tmp_path):
    first = tmp_path / 'iter_1.pth'
    torch.save({**CONTENT, 'message_hub': HUB}, first)
    assert has_checkpoint(tmp_path)
    first.write_bytes(first.read_bytes()[:-100])
    assert not has_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ('code', 'output', 'message'),
    [
        (2, 'INFO\ncuts3d train: no GPU\nnoise', 'cuts3d train: no GPU$'),
        (2, 'cuts3d train: [Errno 28] No space left on device', 'work is full; make room'),
        (2, 'INFO\nKilled', 'INFO\nKilled$'),
        (-SIGKILL, 'INFO\n' * 99, 'failed: it was ended by SIGKILL, most likely out of memory'),
    ],
)
def test_a_training_that_fails_is_one_line_where_it_says_why(monkeypatch, code, output, message):
    done = subprocess.CompletedProcess([], code, output)
    monkeypatch.setattr(training, 'run_command_in_child', lambda *arguments: done)
    with pytest.raises(training.TrainingFailed, match=message):
        training.train(Path('config.py'), Path('work'), 0, print)


def test_the_log_of_a_killed_training_is_read_up_to_its_torn_line(tmp_path):
    log = tmp_path / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{'step': 1, 'loss': 2.0}]


LOG = '2026/01/02 03:04:05 - mmengine - INFO - '


@pytest.mark.parametrize(
    ('line', 'short'),
    [
        (
            f'{LOG}Iter(train) [  10/7000]  base_lr: 1e-4 lr: 1e-4  eta: 0:00:05  time: 0.9  '
            'loss: 4.5750  loss_rpn_cls: 0.69',
            'step 10 of 7000: loss 4.58, 5 s left',
        ),
        (
            f'{LOG}Iter(train) [  10/7000]  lr: 1e-4  eta: 1 day, 12:00:00  time: 0.9  loss: 4.5',
            'step 10 of 7000: loss 4.50, 1.5 days left',
        ),
        (
            f'{LOG}Iter(val) [1/1]    coco/bbox_mAP_50: 0.2  coco/segm_mAP_50: 0.0721  time: 0.1',
            'mask AP50 on held-out images: 7.21 %',
        ),
        (f'{LOG}Iter(val) [1/2]    eta: 0:00:00  time: 0.1490', None),
        (f'{LOG}Round 1: labelling the training images', 'Round 1: labelling the training images'),
        ('resume from work/iter_2.pth', 'resume from work/iter_2.pth'),
        ('Could not import OneDL', None),
    ],
)
def test_lines_about_steps_scores_and_rounds_are_kept_short(line, short):
    assert TrainingLog().shorten(line) == short


def test_a_score_is_said_with_the_number_of_objects_that_it_is_of():
    line = f'{LOG}Iter(val) [2/2]  coco/segm_mAP_50: 0.0952  data_time: 0.5  time: 2.0'
    said = TrainingLog(num_objects=3).shorten(line)
    assert said == 'mask AP50 on held-out images: 9.52 % of 3 objects'


def test_the_time_that_is_left_counts_detections_and_rounds_as_soon_as_they_are_measured():
    now = [10.0]
    schedule = Schedule(num_images=100, batch_size=2, initial_steps=40, round_steps=(40,))
    log = TrainingLog(None, schedule, 20, 10, lambda: now[0])

    def say(line):
        return log.shorten(f'{LOG}{line}')

    step = 'Iter(train) [ {}/80]  eta: 0:01:{}  time: 0.9  loss: 4.5'
    found = say(step.format(10, 20))
    assert found.endswith('80 s left (steps alone, detection is not yet measured)')
    say('Iter(val) [5/5]  coco/segm_mAP_50: 0.1  data_time: 0.5  time: 2.0')
    # 3 evaluations and 2 detections at the end of 10 s each, and the labels of 100 images
    found = say(step.format(30, 10))
    assert found.endswith(f'{(70 + 50 + 100) / 60:.0f} min left, the end has slipped by 2 min')
    say('Round 1: labelling the training images')
    now[0] += 30
    say('Round 1: 5 of 9 predictions became labels')
    assert say(step.format(41, '00')).endswith(', 2 min left')  # 2 evaluations, 2 at the end


def test_a_run_that_finds_a_step_done_leaves_its_cost_as_it_was(tmp_path):
    path = tmp_path / 'steps.json'
    with timed(path, 'cut'):
        time.sleep(0.02)
    before = read_costs(path)
    with timed(path, 'cut'):
        pass
    assert read_costs(path) == before and before['cut']['seconds'] >= 0.02
    assert before['cut']['peak_bytes'] > 0

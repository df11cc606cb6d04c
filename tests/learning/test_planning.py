"""What a plan says before anything is written."""

from __future__ import annotations

import pytest
from learning_runs import INITIAL, ROUND, write_inputs

from cuts3d_mm.learning.planning import plan_run
from cuts3d_mm.learning.request import Request, format_duration, parse_duration
from cuts3d_mm.learning.run import learn
from cuts3d_mm.learning.training import train_command


@pytest.fixture(scope='module')
def request_of(tmp_path_factory):
    root = write_inputs(tmp_path_factory.mktemp('inputs'))

    def make(**changes):
        detector = str(root / 'detector.py')
        return Request(root / 'images', root / 'out', detector=detector, offline=True, **changes)

    return make


def test_a_schedule_for_as_many_images_as_the_config_says_is_that_of_the_config(request_of):
    schedule = plan_run(request_of()).plan.current.schedule
    assert (schedule.initial_steps, schedule.round_steps) == (INITIAL, (ROUND, ROUND))
    assert schedule.num_images == 5  # a sixth is held out


def test_a_budget_shortens_the_training(request_of):
    schedule = plan_run(request_of(budget_s=6.0)).plan.current.schedule
    assert schedule.total_steps < INITIAL + 2 * ROUND
    with pytest.raises(ValueError, match='--budget must leave time to train: cutting 6 images'):
        plan_run(request_of(budget_s=1.0))


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(request_of):
    said = []
    learn(request_of(), said.append, is_dry=True)
    text = '\n'.join(said)
    assert '6 images, 90 x 60' in text and 'in 2D, since no --depth is given' in text
    assert f'{INITIAL} steps of 2 images, then 2 rounds of {ROUND}, {ROUND}' in text
    assert 'not timed on this machine' in text and not request_of().out.exists()


def test_gpus_that_are_not_there_are_refused(request_of):
    with pytest.raises(ValueError, match=r'--gpus must be 0 to \d+, the GPUs of this machine'):
        plan_run(request_of(gpus=99))


def test_several_gpus_train_by_torchrun(tmp_path):
    command = train_command(tmp_path / 'training.py', tmp_path / 'work', gpus=2, resumes=True)
    assert command[:5] == [
        *('torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'cuts3d_mm')
    ]
    assert command[-3:] == ['--resume', '--launcher', 'pytorch']


def test_durations_are_read_and_written_with_their_unit():
    assert [parse_duration(text) for text in ('90s', '1.5h', '2d')] == [90, 5400, 172800]
    assert [format_duration(s) for s in (45, 700, 5400, 200000)] == [
        *('45 s', '12 min', '1.5 h', '2.3 days')
    ]

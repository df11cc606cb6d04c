"""When a training counts as ended."""

from __future__ import annotations

import torch

from cuts3d_mm.learning.plan import PassFolders, Schedule
from cuts3d_mm.learning.training import has_checkpoint, keep_last_round, read_log, weights_after

HUB = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
CONTENT = {'state_dict': {'weight': torch.zeros(9)}, 'meta': {'epoch': 1, 'iter': 5}}
SCHEDULE = Schedule(num_images=5, batch_size=2, initial_steps=3, round_steps=(2,))


def test_a_checkpoint_that_a_kill_has_torn_does_not_end_a_training(tmp_path):
    folders = PassFolders(tmp_path)
    last = folders.work_dir / 'iter_5.pth'
    last.parent.mkdir()
    torch.save({**CONTENT, 'message_hub': HUB}, last)
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    assert not keep_last_round(folders, SCHEDULE) and not weights_after(folders, 1).exists()
    last.write_bytes(whole)
    assert keep_last_round(folders, SCHEDULE) and weights_after(folders, 1).read_bytes() == whole


def test_a_training_with_nothing_but_a_torn_checkpoint_begins_again(tmp_path):
    first = tmp_path / 'iter_1.pth'
    torch.save({**CONTENT, 'message_hub': HUB}, first)
    assert has_checkpoint(tmp_path)
    first.write_bytes(first.read_bytes()[:-100])
    assert not has_checkpoint(tmp_path)


def test_the_log_of_a_killed_training_is_read_up_to_its_torn_line(tmp_path):
    log = tmp_path / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{'step': 1, 'loss': 2.0}]

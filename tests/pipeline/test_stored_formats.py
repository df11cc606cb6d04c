"""Stores that earlier versions wrote are read and continued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labels.store import Counts, read_store
from cuts3d_mm.pipeline.identity import FORMAT, RunMismatch
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.run import Split, label_images
from cuts3d_mm.pipeline.work import ConfiguredLabeller, WorkOrder

STORES = Path(__file__).parents[1] / 'data' / 'stores'  # each lacks its second shard


class Silent:
    def start(self, total_images, done):
        self.done = done

    def add(self, report):
        pass


def resume(out, **changes):
    model = {**Config.fromfile(STORES / 'config.py').model.to_dict(), **changes}
    images = list_images(STORES / 'images')
    progress = Silent()
    order = WorkOrder(ConfiguredLabeller(model), images.root, out, 1)
    counts = label_images(order, images, LocalExecutor(0), Split(), progress)
    return counts, progress.done


@pytest.mark.parametrize('number', range(1, FORMAT + 1))
def test_a_store_of_each_format_is_read_and_continued(number, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(STORES / f'format{number}', out)
    before = list(read_store(out))
    assert len(before) == 8 and sum(len(record.instances) for record in before) == 8
    assert resume(out) == (Counts(9, 9, 0), Counts(8, 8, 0))
    assert list(read_store(out))[:8] == before
    assert json.loads((out / 'run.json').read_text())['format'] == FORMAT
    with pytest.raises(RunMismatch, match=r'model\.recipe\.ncut\.tau_ncut: 0.15 -> 0.5'):
        resume(out, recipe={'preset': 'maskcut', 'ncut': {'tau_ncut': 0.5}})

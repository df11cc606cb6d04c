"""Labels of a pass that no image has."""

from __future__ import annotations

import pytest

from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import write_store
from cuts3d_mm.learning.loop import gather_labels
from cuts3d_mm.learning.plan import PassFolders, PassImages, write_pass_images


def test_what_failed_is_named_where_nothing_can_be_trained_on(tmp_path):
    folders = PassFolders(tmp_path)
    records = [
        ImageRecord('a.png', (0, 0), failure='no depth map'),
        ImageRecord('b.png', (30, 40)),
        ImageRecord('c.png', (30, 40)),
    ]
    write_store(folders.cut, records)
    names = tuple(record.name for record in records)
    write_pass_images(folders.images, PassImages(names, names, ('c.png',)))
    reason = 'none of 2 images.*and 1 of them failed, the first with "no depth map"; .*another OUT'
    with pytest.raises(ValueError, match=reason):
        gather_labels([folders.cut], folders)

"""Labelling runs, and what they say and leave."""

from __future__ import annotations

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.run import Split, label_images
from cuts3d_mm.pipeline.work import WorkOrder


class Log:
    """Remembers what a run says, and calls a function at the first image."""

    def __init__(self, at_first=None):
        self.spans, self.at_first = [], at_first

    def start(self, total_images, done):
        self.total, self.counts, self.resumed = total_images, done, done

    def add(self, report):
        self.counts += report.counts
        self.spans += report.spans
        if self.at_first is not None and report.counts.images:
            at_first, self.at_first = self.at_first, None
            at_first()


def label(
    folder, out, source, executor=None, batch_size=1, split='0/1', limit=None, at_first=None
):
    """Label images; what is told adds up to the counts."""
    images, log = list_images(folder).first(limit), Log(at_first)
    order = WorkOrder(source, images.root, out, batch_size)
    counts = label_images(order, images, executor or LocalExecutor(0), Split.parse(split), log)
    return counts, log


def content(out):
    """Bytes of the shards by name."""
    return {path.name: path.read_bytes() for path in out.glob('*.parquet')}

"""Detect in a stream of images and write the results, in limited memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cuts3d_mm.algorithm.tracking import MaskTracker
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.images.streams import Frame, Source
from cuts3d_mm.inference.detection_writer import DetectionWriter
from cuts3d_mm.inference.inferencer import CutS3DInferencer
from cuts3d_mm.inference.results import number_objects
from cuts3d_mm.labels.store import Counts


def detect_all(
    inferencer: CutS3DInferencer,
    sources: Sequence[Source],
    writer: DetectionWriter,
    batch_size: int,
    on_counts: Callable[[Counts], None],
    tracker: MaskTracker | None = None,
) -> Counts:
    """Detect in every image of every source.

    Args:
        inferencer: the detector.
        sources: photos and videos.
        writer: of the results.
        batch_size: images that go through the network together.
        on_counts: called with the counts of each image.
        tracker: numbers the objects of videos; None: they are not followed.

    Returns:
        Images, instances and failures.
    """
    total = Counts()
    for source in sources:
        if tracker is not None:
            tracker.forget()
        for frame, sample in _detect(inferencer, source, batch_size):
            if tracker is not None and sample is not None:
                number_objects(sample, tracker, writer.score_thr)
            counts = writer.add(frame, sample, source)
            on_counts(counts)
            total += counts
    return total


def _detect(
    inferencer: CutS3DInferencer, source: Source, batch_size: int
) -> Iterator[tuple[Frame, Any]]:
    """Pair each frame with what was found in it, None where it could not be read."""
    waiting: deque[Frame] = deque()

    def readable() -> Iterator[Pixels]:
        for frame in source.frames():
            waiting.append(frame)
            if frame.pixels is not None:
                yield np.ascontiguousarray(frame.pixels[..., ::-1])

    for sample in inferencer.stream(readable(), batch_size):
        while waiting[0].pixels is None:
            yield waiting.popleft(), None
        yield waiting.popleft(), sample
    while waiting:
        yield waiting.popleft(), None

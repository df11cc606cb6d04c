"""Write detections as pictures, videos, mask images and a label store, one image at a time."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.images.streams import Frame, VideoSource
from cuts3d_mm.inference.output_folder import (
    DETECTIONS,
    LABELS,
    MASKS,
    PICTURES,
    claim_output,
)
from cuts3d_mm.inference.results import to_index_image, to_record, to_supervision, track_ids
from cuts3d_mm.inference.video_writer import VideoWriter
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_failures, write_shard
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import picture_name, save_picture

KINDS = ('pictures', 'masks', 'coco')
_IMAGES_PER_SHARD = 512
_SAVE_EVERY_S = 2.0  # at least; what a process that is killed may lose
_PAUSE_PER_SAVE = 20.0  # times as long as the last save took, as it writes all of the JSON again


class DetectionWriter:
    """Writes what a detector finds; used as a context, which finishes the files.

    Every few seconds the label store and `detections.json` are brought up to date, each file as
    a whole, so that a process that is killed leaves what it found.

    Args:
        folder: gets `pictures/`, `masks/` (uint16 PNG, a number per instance), `labels/` (a
            label store) and `detections.json` (COCO). Those of an earlier detection are replaced,
            those of anything else are an error.
        kinds: which of `KINDS`; the label store is always written.
        score_thr: smallest score, in [0, 1].
    """

    def __init__(self, folder: Path, kinds: Collection[str], score_thr: float) -> None:
        self._folder, self._kinds, self.score_thr = folder, kinds, score_thr
        self._records: list[ImageRecord] = []
        self._track_ids: list[Sequence[int]] = []  # of all records
        self._num_shards = 0
        self._video: VideoWriter | None = None
        self._claim = ExitStack()
        self._store = folder / LABELS
        self._next_save_s = 0.0  # of the monotonic clock

    def __enter__(self) -> DetectionWriter:
        """Claim the folder.

        Raises:
            FileExistsError: it holds what no earlier detection made.
        """
        with ExitStack() as claim:
            claim.enter_context(claim_output(self._folder))
            self._save()  # in place of an earlier detection
            self._claim = claim.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the files, also after an interruption."""
        with self._claim:
            self._close_video()
            self._save()

    def add(self, frame: Frame, sample: Any, source: object) -> Counts:
        """Write what was found in an image, or that it could not be read."""
        record = self._record(frame, sample, source)
        self._records.append(record)
        is_found = record.failure is None
        self._track_ids.append(track_ids(sample, self.score_thr) if is_found else ())
        if len(self._records) == _IMAGES_PER_SHARD:
            write_shard(self._store, self._num_shards, self._records)
            self._num_shards += 1
            self._records = []
        if time.monotonic() >= self._next_save_s:
            self._save()
        return Counts(1, len(record.instances), int(record.failure is not None))

    def _record(self, frame: Frame, sample: Any, source: object) -> ImageRecord:
        if frame.pixels is None:
            return ImageRecord(frame.name, (0, 0), failure=frame.failure)
        try:
            if 'pictures' in self._kinds:
                self._draw(frame.name, frame.pixels, sample, source)
            if 'masks' in self._kinds:
                path = path_to_write(self._folder / MASKS, f'{frame.file_name or frame.name}.png')
                save_picture(path, to_index_image(sample, self.score_thr))
        except BadName as failure:
            return ImageRecord(frame.name, (0, 0), failure=f'cannot be drawn: {failure}')
        return to_record(sample, frame.name, self.score_thr)

    def _draw(self, name: str, pixels: Pixels, sample: Any, source: object) -> None:
        found = to_supervision(sample, self.score_thr)
        masks, scores = list(found['mask']), found['confidence'].tolist()
        numbers = found['tracker_id'].tolist() if 'tracker_id' in found else None
        drawn = draw_instances(pixels, masks, scores, numbers=numbers)
        if isinstance(source, VideoSource):
            self._video_of(source, pixels.shape[:2]).add(drawn)
        else:
            save_picture(path_to_write(self._folder / PICTURES, picture_name(name)), drawn)

    def _video_of(self, source: VideoSource, image_hw: tuple[int, ...]) -> VideoWriter:
        if self._video is None or self._video.name != source.name:
            self._close_video()
            is_mp4 = source.name.endswith('.mp4')
            name = source.name if is_mp4 else f'{source.name}.mp4'
            path = path_to_write(self._folder / PICTURES, name)
            self._video = VideoWriter(source.name, path, source.fps, image_hw)
        return self._video

    def _close_video(self) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.close()

    def _save(self) -> None:
        began_s = time.monotonic()
        if self._records or not self._num_shards:
            write_shard(self._store, self._num_shards, self._records)  # the last one, not yet full
        write_failures(self._store)
        if 'coco' in self._kinds:
            records = partial(read_store, self._store)
            write_coco(self._folder / DETECTIONS, records, track_ids=self._track_ids)
        ended_s = time.monotonic()
        self._next_save_s = ended_s + max(_SAVE_EVERY_S, _PAUSE_PER_SAVE * (ended_s - began_s))

"""Detections in; pictures, videos, mask images and a label store out, one image at a time."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.inference.results import to_index_image, to_record, to_supervision
from cuts3d_mm.inference.sources import Frame, VideoSource
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_failures, write_shard
from cuts3d_mm.visualization.overlays import draw_instances

KINDS = ('pictures', 'masks', 'coco')
_IMAGES_PER_SHARD = 512
_PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png')  # others are drawn as .jpg


class DetectionWriter:
    """Writes what a detector finds; used as a context, which finishes the files.

    Args:
        folder: gets `pictures/`, `masks/` (uint16 PNG, a number per instance), `labels/` (a
            label store) and `detections.json` (COCO); earlier ones are replaced.
        kinds: which of `KINDS`; the label store is always written.
        score_thr: smallest score, in [0, 1].
    """

    def __init__(self, folder: Path, kinds: Collection[str], score_thr: float) -> None:
        self._folder, self._kinds, self._score_thr = folder, kinds, score_thr
        self._records: list[ImageRecord] = []
        self._num_shards = 0
        self._video: cv2.VideoWriter | None = None
        self._video_name = ''
        self._store = folder / 'labels'
        shutil.rmtree(self._store, ignore_errors=True)
        self._store.mkdir(parents=True)

    def __enter__(self) -> DetectionWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Also what was found before an interruption is finished."""
        self._close_video()
        self._flush()
        write_failures(self._store)
        if 'coco' in self._kinds:
            write_coco(self._folder / 'detections.json', lambda: read_store(self._store))

    def add(self, frame: Frame, sample: Any, source: object) -> Counts:
        """Write what was found in an image, or that it could not be read."""
        if frame.pixels is None:
            record = ImageRecord(frame.name, (0, 0), failure=frame.failure)
        else:
            record = to_record(sample, frame.name, self._score_thr)
            if 'pictures' in self._kinds:
                self._draw(frame.name, frame.pixels, sample, source)
            if 'masks' in self._kinds:
                self._write_masks(frame.name, sample)
        self._records.append(record)
        if len(self._records) == _IMAGES_PER_SHARD:
            self._flush()
        return Counts(1, len(record.instances), int(frame.pixels is None))

    def _draw(self, name: str, pixels: NDArray[np.uint8], sample: Any, source: object) -> None:
        found = to_supervision(sample, self._score_thr)
        drawn = draw_instances(pixels, list(found['mask']), found['confidence'].tolist())
        if isinstance(source, VideoSource):
            self._video_of(source, pixels.shape[:2]).write(np.ascontiguousarray(drawn[..., ::-1]))
        else:
            shown = name if name.lower().endswith(_PICTURE_SUFFIXES) else f'{name}.jpg'
            Image.fromarray(drawn).save(self._path('pictures', shown), quality=90)

    def _write_masks(self, name: str, sample: Any) -> None:
        index = to_index_image(sample, self._score_thr)
        Image.fromarray(index).save(self._path('masks', f'{name.replace("#", "/")}.png'))

    def _video_of(self, source: VideoSource, image_hw: tuple[int, ...]) -> cv2.VideoWriter:
        if self._video is None or self._video_name != source.name:
            self._close_video()
            is_mp4 = source.name.endswith('.mp4')
            path = self._path('pictures', source.name if is_mp4 else f'{source.name}.mp4')
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(path), codec, source.fps, image_hw[::-1])
            self._video_name = source.name
            if not self._video.isOpened():
                raise OSError(f'{path} cannot be written as a video')
        return self._video

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.release()
        self._video = None

    def _path(self, kind: str, name: str) -> Path:
        path = self._folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _flush(self) -> None:
        if self._records or not self._num_shards:
            write_shard(self._store, self._num_shards, self._records)
            self._num_shards += 1
        self._records = []

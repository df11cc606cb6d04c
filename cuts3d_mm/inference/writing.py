"""Detect in files, and write what is found: JSON, pictures, videos."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from cuts3d_mm.algorithm.tracking import MaskTracker
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.files.atomic import name_atomically, remove_leftovers, write_whole
from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.images.streams import Frame, Source, VideoSource
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_failures, write_shard
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import picture_name, save_picture

from .inferencer import CutS3DInferencer
from .results import (
    number_objects,
    to_index_image,
    to_record,
    to_supervision,
    track_ids,
)

KINDS = ('pictures', 'masks', 'coco')
_IMAGES_PER_SHARD = 512
_SAVE_EVERY_S = 2.0  # at least; what a process that is killed may lose
_PAUSE_PER_SAVE = 20.0  # times as long as the last save took, as it writes all of the JSON again
PICTURES, MASKS, LABELS, DETECTIONS = 'pictures', 'masks', 'labels', 'detections.json'
_MARK = 'detect.json'
_COMMAND = 'cuts3d detect'
_LABEL_FILES = re.compile(r'labels-\d{6}\.parquet|failures\.jsonl|unpacked\.arrow')


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


@contextmanager
def claim_output(folder: Path) -> Iterator[None]:
    """Keep others out of a folder, and empty the label store of an earlier detection in it.

    Raises:
        FileExistsError: it holds something of our names that no earlier detection made.
        FolderInUse: another process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder):
        _require_ours(folder)
        write_whole(folder / _MARK, json.dumps({'made_by': _COMMAND}) + '\n')
        (folder / LABELS).mkdir(exist_ok=True)
        for name in (PICTURES, MASKS, LABELS):
            remove_leftovers(folder / name)
        for path in _label_files(folder / LABELS):
            path.unlink()
        yield


def _require_ours(folder: Path) -> None:
    found = [name for name in (PICTURES, MASKS, LABELS, DETECTIONS) if _is_filled(folder / name)]
    if found and not _is_marked(folder):
        raise FileExistsError(
            f'{folder} must be new or hold an earlier detection, it has {", ".join(found)} of '
            'something else; choose another --out'
        )
    for name in (PICTURES, MASKS, LABELS):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise FileExistsError(f'{path} must be a folder of its own, it is none')


def _is_filled(path: Path) -> bool:
    return path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir()))


def _is_marked(folder: Path) -> bool:
    try:
        content = json.loads((folder / _MARK).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get('made_by') == _COMMAND


def _label_files(store: Path) -> list[Path]:
    paths = [path for path in sorted(store.iterdir()) if not path.name.endswith('.partial')]
    strange = [path.name for path in paths if not _LABEL_FILES.fullmatch(path.name)]
    if strange:
        raise FileExistsError(
            f'{store} must hold nothing but an earlier detection, it has {", ".join(strange)}; '
            'choose another --out'
        )
    return paths


class VideoWriter:
    """An MP4 file in the making.

    Args:
        name: of the video that it shows.
        path: file to write.
        fps: frames per second.
        image_hw: size of its frames, pixels.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, name: str, path: Path, fps: float, image_hw: tuple[int, ...]) -> None:
        self.name = name
        self._path = path
        self._num_frames = 0
        self._naming = ExitStack()
        self._temporary = self._naming.enter_context(name_atomically(path))
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        self._writer = cv2.VideoWriter(str(self._temporary), codec, fps, image_hw[::-1])
        if not self._writer.isOpened():
            with self._naming:
                raise OSError(f'{path} cannot be written as a video')

    def add(self, rgb: Pixels) -> None:
        """Append a frame, (H, W, 3)."""
        self._writer.write(np.ascontiguousarray(rgb[..., ::-1]))
        self._num_frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: not all of it could be written, which OpenCV does not say.
        """
        self._writer.release()
        with self._naming:
            written = cv2.VideoCapture(str(self._temporary))
            num_frames = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
            written.release()
            if num_frames != self._num_frames:
                raise OSError(
                    f'{self._path} is not written: the video has {num_frames} of '
                    f'{self._num_frames} frames; make room, then run the same command again'
                )


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

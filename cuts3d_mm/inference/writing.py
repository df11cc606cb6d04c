"""Detect in files, and write what is found: JSON, pictures, videos."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cuts3d_mm.algorithm.tracking import MaskTracker
from cuts3d_mm.arrays import Mask, Pixels
from cuts3d_mm.files.atomic import name_atomically, remove_leftovers, write_whole
from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.images.streams import Frame, Source, VideoSource
from cuts3d_mm.labellers.detector import Detection, DetectorLabeller
from cuts3d_mm.labels.coco import write_coco, write_results
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_failures, write_shard
from cuts3d_mm.processes import handlers_deferred
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import picture_name, save_picture

from .results import to_index_image, to_record
from .tiles import TiledDetection, TiledDetector

KINDS = ('pictures', 'masks', 'coco', 'results')
_IMAGES_PER_SHARD = 512
_SAVE_EVERY_S = 2.0  # at least; what a process that is killed may lose
_PAUSE_PER_SAVE = 20.0  # times as long as the last save took, as it writes all of the JSON again
PICTURES, MASKS, LABELS, DETECTIONS = 'pictures', 'masks', 'labels', 'detections.json'
RESULTS = 'results.json'
_MARK, _MARK_CONTENT = 'detect.json', b'{"made_by": "cuts3d detect"}\n'
Instances = Sequence[Detection | TiledDetection]
Numbers = Sequence[int] | None
_LABEL_FILES = re.compile(r'labels-\d{6}\.parquet|failures\.jsonl|unpacked\.arrow')


class DetectionWriter:
    """Writes what a detector finds; `write_detections` makes it and finishes the files.

    Every few seconds the label store and `detections.json` are brought up to date, each file as
    a whole, so that a process that is killed leaves what it found.

    Args:
        folder: gets `pictures/`, `masks/` (uint16 PNG, a number per instance), `labels/` (a
            label store), `detections.json` (COCO) and `results.json` (a COCO results list). Those
            of an earlier detection are replaced, those of anything else are an error.
        kinds: which of `KINDS`; the label store is always written.
        image_ids: name of an image -> its id in the results list; None: the ids of
            `detections.json`.
    """

    def __init__(
        self, folder: Path, kinds: Collection[str], image_ids: Mapping[str, int] | None = None
    ) -> None:
        self._folder, self._kinds, self._image_ids = folder, kinds, image_ids
        self._records: list[ImageRecord] = []
        self._track_ids: list[Sequence[int]] = []  # of all records
        self._num_shards = 0
        self._video: VideoWriter | None = None
        self._store = folder / LABELS
        self._next_save_s = 0.0  # of the monotonic clock

    def add(
        self, source: object, frame: Frame, instances: Instances, numbers: Numbers = None
    ) -> Counts:
        """Write what was found in an image, the best first; frames of a `VideoSource` are a video.

        `numbers` are those of objects that are followed, from 1.
        """
        record = self._record(source, frame, instances, numbers)
        self._records.append(record)
        self._track_ids.append(numbers or () if record.failure is None else ())
        if len(self._records) == _IMAGES_PER_SHARD:
            write_shard(self._store, self._num_shards, self._records)
            self._num_shards += 1
            self._records = []
        if time.monotonic() >= self._next_save_s:
            self.save()
        return Counts(1, len(record.instances), int(record.failure is not None))

    def _record(
        self, source: object, frame: Frame, instances: Instances, numbers: Numbers
    ) -> ImageRecord:
        if frame.pixels is None:
            return ImageRecord(frame.name, (0, 0), failure=frame.failure)
        image_hw = (frame.pixels.shape[0], frame.pixels.shape[1])
        try:
            if 'pictures' in self._kinds:
                drawn = draw_detections(frame.pixels, instances, numbers)
                if isinstance(source, VideoSource):
                    self._video_of(source, image_hw).add(drawn)
                else:
                    path = path_to_write(self._folder / PICTURES, picture_name(frame.name))
                    save_picture(path, drawn)
            if 'masks' in self._kinds:
                path = path_to_write(self._folder / MASKS, f'{frame.file_name or frame.name}.png')
                save_picture(path, to_index_image(instances, image_hw, numbers))
        except BadName as failure:
            return ImageRecord(frame.name, (0, 0), failure=f'cannot be drawn: {failure}')
        return to_record(instances, image_hw, frame.name)

    def _video_of(self, source: VideoSource, image_hw: tuple[int, ...]) -> VideoWriter:
        if self._video is None or self._video.name != source.name:
            self.close_video()
            is_mp4 = source.name.endswith('.mp4')
            name = source.name if is_mp4 else f'{source.name}.mp4'
            path = path_to_write(self._folder / PICTURES, name)
            self._video = VideoWriter(source.name, path, source.fps, image_hw)
        return self._video

    def close_video(self) -> None:
        """Finish the video that is being written, if there is any."""
        if self._video is not None:
            video, self._video = self._video, None
            video.close()

    def save(self) -> None:
        """Bring the label store and the JSON files up to date."""
        began_s = time.monotonic()
        if self._records or not self._num_shards:
            write_shard(self._store, self._num_shards, self._records)  # the last one, not yet full
        write_failures(self._store)
        if 'coco' in self._kinds:
            records = partial(read_store, self._store)
            write_coco(self._folder / DETECTIONS, records, track_ids=self._track_ids)
        if 'results' in self._kinds:
            write_results(self._folder / RESULTS, read_store(self._store), self._image_ids)
        ended_s = time.monotonic()
        pause_s = _PAUSE_PER_SAVE * (ended_s - began_s)
        if not self._track_ids:  # the first save takes long, since it imports packages
            pause_s = 0.0
        self._next_save_s = ended_s + max(_SAVE_EVERY_S, pause_s)


@contextmanager
def write_detections(
    folder: Path, kinds: Collection[str], image_ids: Mapping[str, int] | None = None
) -> Iterator[DetectionWriter]:
    """Write into a folder in place of an earlier detection; an interruption finishes the files.

    Raises:
        FileExistsError: the folder holds something of our names that no earlier detection made.
        FolderInUse: another process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder):
        _require_ours(folder)
        write_whole(folder / _MARK, _MARK_CONTENT)
        (folder / LABELS).mkdir(exist_ok=True)
        for name in (PICTURES, MASKS, LABELS):
            remove_leftovers(folder / name)
        earlier = _label_files(folder / LABELS)
        if earlier:
            logging.getLogger(__name__).warning(
                f'{folder} holds an earlier detection, which is replaced; pictures and masks of '
                'other images stay in it'
            )
        for path in earlier:
            path.unlink()
        writer = DetectionWriter(folder, kinds, image_ids)
        writer.save()
        try:
            yield writer
        finally:
            with handlers_deferred():
                writer.close_video()
                writer.save()


def _require_ours(folder: Path) -> None:
    names = (PICTURES, MASKS, LABELS, DETECTIONS, RESULTS)
    found = [name for name in names if _is_filled(folder / name)]
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
    with suppress(OSError):
        return (folder / _MARK).read_bytes() == _MARK_CONTENT
    return False


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
        """Append a frame."""
        self._writer.write(np.ascontiguousarray(rgb[..., ::-1]))
        self._num_frames += 1

    def close(self) -> None:
        """Finish the file; OpenCV does not say whether all of it could be written."""
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
    detector: DetectorLabeller | TiledDetector,
    sources: Sequence[Source],
    writer: DetectionWriter,
    batch_size: int,
    on_counts: Callable[[Counts], None],
    tracker: MaskTracker | None = None,
) -> Counts:
    """Detect in every image of every source.

    Args:
        detector: detector on its device, with the smallest score of what is written.
        sources: photos and videos.
        writer: writes the results.
        batch_size: images that go through the network together.
        on_counts: called with the counts of each image.
        tracker: numbers the objects of videos; None: they are not followed.
    """
    total = Counts()
    for source in sources:
        if tracker is not None:
            tracker.forget()
        for frames in _batches(source, batch_size):
            # All of them go through the network together.
            images = [frame.pixels for frame in frames if frame.pixels is not None]
            found: Iterator[Instances] = iter(detector.predict_batch(images, batch_size))
            for frame in frames:
                instances = () if frame.pixels is None else next(found)
                numbers = None if tracker is None else number_objects(frame, instances, tracker)
                counts = writer.add(source, frame, instances, numbers)
                on_counts(counts)
                total += counts
    return total


def _batches(source: Source, batch_size: int) -> Iterator[list[Frame]]:
    """Read the frames of a source, no more than a batch of images in memory."""
    waiting: list[Frame] = []
    for frame in source.frames():
        waiting.append(frame)
        if sum(one.pixels is not None for one in waiting) == batch_size:
            yield waiting
            waiting = []
    yield waiting


def number_objects(frame: Frame, instances: Instances, tracker: MaskTracker) -> tuple[int, ...]:
    """Number the objects in the next frame of a video, from 1, in their order."""
    if frame.pixels is None:
        return ()
    masks = np.array([one.mask for one in instances], bool)
    return tuple(tracker.update(masks.reshape(-1, *frame.pixels.shape[:2])).tolist())


def draw_detections(image: Pixels, instances: Instances, numbers: Numbers = None) -> Pixels:
    """Draw instances over their image, (H, W, 3) RGB, with their numbers, or classes and scores.

    Those of tiles have no texts: finding room for them takes all masks at once.
    """
    if any(isinstance(one, TiledDetection) for one in instances):
        return draw_instances(image, _MasksInTurn(instances))
    masks, scores = [one.mask for one in instances], [one.score for one in instances]
    names = [None if isinstance(one, TiledDetection) else one.category for one in instances]
    return draw_instances(image, masks, scores, numbers=numbers, categories=names)


class _MasksInTurn(Sequence[Mask]):
    """Masks of which no more than one is in memory."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, index: Any) -> Any:
        return self._instances[index].mask

"""Photos, folders, URLs, videos and webcams as one stream of images."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.labelling.images import IMAGE_SUFFIXES, ImageFailure, list_images, read_image

VIDEO_SUFFIXES = frozenset('.avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv'.split())
WEBCAM_PREFIX = 'webcam:'
_DEFAULT_FPS = 25.0
_URL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Frame:
    """An image of a stream, or why there is none."""

    name: str  # of a photo: its path; of a frame: VIDEO#NUMBER
    pixels: NDArray[np.uint8] | None  # (H, W, 3) RGB in the stored pixel grid
    failure: str | None = None


@dataclass(frozen=True)
class PhotoSource:
    """Photos, each with a size of its own."""

    photos: tuple[tuple[str, str], ...]  # name, path or URL

    @property
    def num_frames(self) -> int:
        """How many."""
        return len(self.photos)

    def frames(self) -> Iterator[Frame]:
        """Read one after the other; an unreadable one is a frame with a failure."""
        for name, location in self.photos:
            try:
                yield Frame(name, read_image(_open(location)))
            except ImageFailure as failure:
                yield Frame(name, None, str(failure))


@dataclass(frozen=True)
class VideoSource:
    """A video file or a webcam."""

    name: str
    location: str | int  # path, or number of the webcam
    num_frames: int  # 0: unknown
    fps: float

    @classmethod
    def open(cls, text: str) -> VideoSource:
        """Look at a video.

        Raises:
            ValueError: it cannot be read.
        """
        is_webcam = text.startswith(WEBCAM_PREFIX)
        number = text.removeprefix(WEBCAM_PREFIX)
        if is_webcam and not number.isdigit():
            raise ValueError(f'a webcam must be webcam:NUMBER, got {text}')
        location = int(number) if is_webcam else text
        capture = cv2.VideoCapture(location)
        is_open = capture.isOpened()
        count = 0 if is_webcam else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS
        capture.release()
        if not is_open:
            raise ValueError(f'{text} cannot be read as a video')
        return cls(f'webcam{number}' if is_webcam else Path(text).name, location, count, fps)

    def frames(self) -> Iterator[Frame]:
        """Read one frame after the other, never more than one in memory."""
        capture = cv2.VideoCapture(self.location)
        number = 0
        try:
            while True:
                is_there, bgr = capture.read()
                if not is_there:
                    return
                yield Frame(f'{self.name}#{number:06d}', np.ascontiguousarray(bgr[..., ::-1]))
                number += 1
        finally:
            capture.release()


Source = PhotoSource | VideoSource


def open_sources(inputs: Sequence[str]) -> list[Source]:
    """Find what is to be looked at.

    Args:
        inputs: photos, folders, COCO JSONs, text files of paths, `http(s)://` photos, videos,
            or `webcam:NUMBER`.

    Raises:
        ValueError: one of them is nothing of that.
    """
    photos: list[tuple[str, str]] = []
    videos: list[Source] = []
    for text in inputs:
        path = Path(text)
        if text.startswith(('http://', 'https://')):
            photos.append((text.split('?')[0].rsplit('/', 1)[-1] or 'photo', text))
        elif text.startswith(WEBCAM_PREFIX) or path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(VideoSource.open(text))
        elif path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            photos.append((path.name, text))
        else:
            listed = list_images(path)
            photos += [(name, str(listed.root / name)) for name in listed.names]
    names = [name for name, _ in photos]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'every photo must have a name of its own, got {twice} twice')
    return [PhotoSource(tuple(photos)), *videos] if photos else videos


def _open(location: str) -> Path | io.BytesIO:
    if not location.startswith(('http://', 'https://')):
        return Path(location)
    try:
        with urllib.request.urlopen(location, timeout=_URL_TIMEOUT_S) as answer:
            return io.BytesIO(answer.read())
    except (urllib.error.URLError, OSError) as error:
        raise ImageFailure(f'cannot be fetched: {error}') from error

"""Read photos, folders, URLs, videos and webcams as one stream of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown
from cuts3d_mm.files.remote import Place, find_place
from cuts3d_mm.hub.client import HubError, fetch_url

from .listing import first_repeated, list_images
from .reading import IMAGE_SUFFIXES, ImageFailure, read_image, read_named_image

VIDEO_SUFFIXES = frozenset('.avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv'.split())
WEBCAM_PREFIX = 'webcam:'
_DEFAULT_FPS = 25.0
LARGEST_PHOTO_BYTES = 2**28  # a photo of the web is held in memory


@dataclass(frozen=True)
class Frame:
    """An image of a stream, or the reason why it cannot be read."""

    name: str  # path of a photo, or VIDEO#NUMBER
    pixels: Pixels | None  # (H, W, 3) RGB in the stored pixel grid
    failure: str | None = None
    file_name: str | None = None  # name of files about the image; None: `name`


@dataclass(frozen=True)
class PhotoSource:
    """Photos, which may differ in size."""

    photos: tuple[tuple[str, Callable[[], Pixels]], ...]  # name, and function that reads it

    @property
    def num_frames(self) -> int:
        """Number of photos."""
        return len(self.photos)

    def frames(self) -> Iterator[Frame]:
        """Read one photo after the other; an unreadable photo is a frame with a failure."""
        for name, read in self.photos:
            try:
                yield Frame(name, read())
            except (BadName, ImageFailure) as failure:
                yield Frame(name, None, str(failure))


def _read_photo(name: str, location: Path | str) -> Pixels:
    """Read a file or fetch a URL; the name of its results may not lead out of their folder."""
    require_inside(name)
    if isinstance(location, Path):
        return read_image(location)
    try:
        content = fetch_url(location, LARGEST_PHOTO_BYTES)
    except HubError as error:
        raise ImageFailure(f'cannot be fetched: {error}') from error
    return read_image(content)


@dataclass(frozen=True)
class VideoSource:
    """A video file or a webcam."""

    name: str
    location: str | int  # path, or number of the webcam
    num_frames: int  # 0: unknown
    fps: float

    @classmethod
    def open(cls, text: str) -> VideoSource:
        """Read the length and speed of a video.

        Raises:
            ValueError: the video cannot be read.
        """
        is_webcam = text.startswith(WEBCAM_PREFIX)
        number = text.removeprefix(WEBCAM_PREFIX)
        if is_webcam and not number.isdigit():
            raise ValueError(f'a webcam must be webcam:NUMBER, got {text}')
        location = int(number) if is_webcam else text
        if not is_webcam and Path(text).exists():
            open_regular(Path(text)).close()  # OpenCV would wait for a pipe
        capture = cv2.VideoCapture(location)
        is_open = capture.isOpened()
        num_frames = 0 if is_webcam else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS
        capture.release()
        if not is_open:
            raise ValueError(f'{text} cannot be read as a video')
        name = f'webcam{number}' if is_webcam else shown(Path(text).name)
        return cls(name, location, num_frames, fps)

    def frames(self) -> Iterator[Frame]:
        """Read one frame after the other; only one frame is in memory at a time."""
        capture = cv2.VideoCapture(self.location)
        try:
            for number in count():
                is_there, bgr = capture.read()
                if not is_there:
                    return
                rgb: Pixels = np.ascontiguousarray(bgr[..., ::-1])
                name, file_name = (f'{self.name}{mark}{number:06d}' for mark in '#/')
                yield Frame(name, rgb, file_name=file_name)
        finally:
            capture.release()


Source = PhotoSource | VideoSource


def open_sources(
    inputs: Sequence[str], folder: Place | None = None, **options: str
) -> list[Source]:
    """Find the photos and videos that are named as inputs.

    Args:
        inputs: photos, folders, COCO JSONs, text files of paths, `http(s)://` photos, videos,
            or `webcam:NUMBER`.
        folder: folder of the images of COCO JSONs; None: looked for near them.
        options: further arguments of `list_images`.

    Raises:
        ValueError: an input is something else, or two inputs have the same name.
    """
    photos: list[tuple[str, Callable[[], Pixels]]] = []
    videos: list[VideoSource] = []
    for text in inputs:
        path = Path(text)
        if text.startswith(('http://', 'https://')):
            name = text.split('?')[0].rsplit('/', 1)[-1] or 'photo'
            photos.append((name, partial(_read_photo, name, text)))
        elif text.startswith(WEBCAM_PREFIX) or path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(VideoSource.open(text))
        elif path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            photos.append((shown(path.name), partial(_read_photo, shown(path.name), path)))
        else:
            listed = list_images(find_place(text), folder, **options)
            photos += [(one, partial(read_named_image, listed.root, one)) for one in listed.names]
    names = [name for name, _ in photos] + [video.name for video in videos]
    twice = first_repeated(names)
    if twice is not None:
        raise ValueError(f'every photo and video must have a name of its own, got {twice} twice')
    return [PhotoSource(tuple(photos)), *videos] if photos else list(videos)

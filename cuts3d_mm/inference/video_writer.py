"""Write a video frame by frame; it takes its name when it is whole."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.files.atomic import name_atomically


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

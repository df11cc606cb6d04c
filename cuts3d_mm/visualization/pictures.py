"""Write pictures and figures, each whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.labels.atomic import write_whole

_JPEG_QUALITY = 90


def save_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    """Write pixels in the format that the suffix of the file names."""
    kinds = Image.registered_extensions()
    if path.suffix.lower() not in kinds:
        raise ValueError(f'a picture must have a suffix such as .png or .jpg, got {path.name}')
    encoded = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.save(encoded, format=kinds[path.suffix.lower()], quality=_JPEG_QUALITY)
    write_whole(path, encoded.getvalue())


def save_figure(path: Path, figure: Figure, dpi: int) -> None:
    """Write a figure in the format that the suffix of the file names; .png without one."""
    encoded = io.BytesIO()
    figure.savefig(encoded, format=path.suffix[1:] or 'png', dpi=dpi)
    write_whole(path, encoded.getvalue())

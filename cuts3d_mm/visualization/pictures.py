"""Write pictures and figures, each whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.files.atomic import write_whole

_QUALITY, _LOSSY = 90, ('jpg', 'jpeg', 'webp')
_KEPT_SUFFIXES = ('.jpg', '.jpeg', '.png')


def picture_name(name: str) -> str:
    """Name the picture of an image as the image; .jpg is added if that is no JPEG or PNG.

    The suffix of the image stays in the name: a.png and a.webp are two images.
    """
    return name if name.lower().endswith(_KEPT_SUFFIXES) else f'{name}.jpg'


def save_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    """Write pixels in the format that the suffix of the file names."""
    kinds = Image.registered_extensions()
    if path.suffix.lower() not in kinds:
        raise ValueError(f'a picture must have a suffix such as .png or .jpg, got {path.name}')
    write_whole(path, encode_picture(pixels, kinds[path.suffix.lower()]))


def encode_picture(pixels: NDArray[np.generic], kind: str) -> bytes:
    """Encode pixels as a file of a kind such as 'PNG' or 'JPEG'."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format=kind, quality=_QUALITY)
    return encoded.getvalue()


def save_figure(path: Path, figure: Figure, dpi: int) -> None:
    """Write a figure in the format that the suffix of the file names, or PNG without a suffix."""
    write_whole(path, encode_figure(figure, path.suffix[1:] or 'png', dpi))


def encode_figure(figure: Figure, kind: str, dpi: int) -> bytes:
    """Encode a figure as a file of a kind such as 'png' or 'svg'."""
    encoded = io.BytesIO()
    quality = {'quality': _QUALITY} if kind in _LOSSY else None
    figure.savefig(encoded, format=kind, dpi=dpi, pil_kwargs=quality)
    return encoded.getvalue()

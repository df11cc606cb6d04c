"""Read labels, however they are stored."""

from __future__ import annotations

from collections.abc import Iterator

from cuts3d_mm.files.remote import Place, find_place
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_store


def read_labels(path: str | Place) -> Iterator[ImageRecord]:
    """Read the records of a label store, or of a COCO JSON, one at a time.

    Args:
        path: on this machine, or `s3://BUCKET/PREFIX`.

    Raises:
        ValueError: the labels are damaged, or no labels at all.
        FileNotFoundError: there is nothing.
    """
    path = find_place(path)
    if not path.exists():
        raise FileNotFoundError(f'labels must be a label store or a COCO JSON, found no {path}')
    return read_store(path) if path.is_dir() else read_coco(path)

"""Scores that papers report, each with its source. Never ours."""

from __future__ import annotations

from dataclasses import dataclass

TABLE_2 = ('coco', 'coco20k', 'voc', 'objects365', 'openimages', 'kitti', 'lvis')


@dataclass(frozen=True)
class PublishedRow:
    """One method in a table of a paper: zero-shot, class-agnostic boxes, in percent."""

    method: str
    source: str
    ap50: dict[str, float]  # by data set; one that could not be read is left out
    ap: dict[str, float]
    average: tuple[float, float] | None = None  # AP50 and AP of Table 2, as printed


def _by_set(*values: float | None) -> dict[str, float]:
    pairs = zip(TABLE_2, values, strict=True)
    return {name: value for name, value in pairs if value is not None}


PUBLISHED = (
    PublishedRow(
        'CutLER',
        'CutS3D paper (arXiv 2411.16319v1), Table 2',
        _by_set(21.9, 22.4, 36.9, 21.6, 17.3, 18.4, 8.4),
        _by_set(12.5, 12.5, 20.2, 11.4, 9.7, 8.5, 4.5),
        (20.9, 11.3),
    ),
    PublishedRow(
        'CuVLER',
        'CutS3D paper (arXiv 2411.16319v1), Table 2',
        _by_set(23.0, 23.5, 39.4, 21.6, 19.6, None, 8.5),
        _by_set(12.6, 12.7, 22.3, 10.9, 11.6, 4.6, 4.5),
        (21.0, 11.3),
    ),
    PublishedRow(
        'CutS3D',
        'CutS3D paper (arXiv 2411.16319v1), Table 2',
        _by_set(23.9, 24.3, 40.6, 22.3, 18.1, 18.7, 8.5),
        _by_set(13.0, 13.0, 21.4, 11.4, 10.0, 8.7, 4.5),
        (22.3, 11.7),
    ),
    PublishedRow(
        'CutLER',
        'README of the CutLER repository',
        {'uvo': 31.7, 'clipart': 21.1, 'comic': 30.4, 'watercolor': 37.5},
        {},
    ),
)

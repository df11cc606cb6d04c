"""Scores that papers report, each with its source; none is our own."""

from __future__ import annotations

from dataclasses import dataclass, field

TABLE_2 = ('coco', 'coco20k', 'voc', 'objects365', 'openimages', 'kitti', 'lvis')


@dataclass(frozen=True)
class PublishedRow:
    """One method in a table of a paper: class-agnostic, in percent, zero-shot if not said."""

    method: str
    source: str
    ap50: dict[str, float] = field(default_factory=dict)  # of boxes, by data set
    ap: dict[str, float] = field(default_factory=dict)
    average: tuple[float, float] | None = None  # AP50 and AP of Table 2, as printed
    mask_ap50: dict[str, float] = field(default_factory=dict)
    mask_ap: dict[str, float] = field(default_factory=dict)
    is_gain: bool = False  # figures are differences to another method

    def figures(self, kind: str) -> tuple[dict[str, float], dict[str, float]]:
        """AP50 and AP of boxes (`bbox`) or masks (`segm`)."""
        return (self.ap50, self.ap) if kind == 'bbox' else (self.mask_ap50, self.mask_ap)


def _by_set(*values: float | None) -> dict[str, float]:
    pairs = zip(TABLE_2, values, strict=True)
    return {name: value for name, value in pairs if value is not None}


def _coco(val2017: float | None, coco20k: float | None) -> dict[str, float]:
    pairs = {'coco': val2017, 'coco20k': coco20k}
    return {name: value for name, value in pairs.items() if value is not None}


_FIRST = 'CutS3D paper (arXiv 2411.16319v1), Table'
_LATER = 'CutS3D paper, later version (ICCV 2025), from notes on it'

# What could not be read is left out. Table 1 gives CutLER 12.3 box AP on val2017, Table 2 12.5.
PUBLISHED = (
    PublishedRow(
        'CutLER',
        f'{_FIRST} 2',
        _by_set(21.9, 22.4, 36.9, 21.6, 17.3, 18.4, 8.4),
        _by_set(12.5, 12.5, 20.2, 11.4, 9.7, 8.5, 4.5),
        (20.9, 11.3),
    ),
    PublishedRow(
        'CuVLER',
        f'{_FIRST} 2',
        _by_set(23.0, 23.5, 39.4, 21.6, 19.6, None, 8.5),
        _by_set(12.6, 12.7, 22.3, 10.9, 11.6, 4.6, 4.5),
        (21.0, 11.3),
    ),
    PublishedRow(
        'CutS3D',
        f'{_FIRST} 2',
        _by_set(23.9, 24.3, 40.6, 22.3, 18.1, 18.7, 8.5),
        _by_set(13.0, 13.0, 21.4, 11.4, 10.0, 8.7, 4.5),
        (22.3, 11.7),
    ),
    PublishedRow(
        'CutLER',
        'README of the CutLER repository',
        {'uvo': 31.7, 'clipart': 21.1, 'comic': 30.4, 'watercolor': 37.5},
    ),
    PublishedRow('LOST', f'{_FIRST} 1', mask_ap50=_coco(None, 2.4), mask_ap=_coco(None, 1.1)),
    PublishedRow(
        'MaskDistill', f'{_FIRST} 1', mask_ap50=_coco(None, 6.8), mask_ap=_coco(None, 2.9)
    ),
    PublishedRow(
        'FreeSOLO',
        f'{_FIRST} 1',
        _coco(9.6, 9.7),
        _coco(4.2, 4.1),
        mask_ap50=_coco(9.4, 9.7),
        mask_ap=_coco(4.3, 4.3),
    ),
    PublishedRow('ProMerge+', f'{_FIRST} 1', mask_ap=_coco(8.9, 9.0)),
    PublishedRow('CutLER', f'{_FIRST} 1', mask_ap50=_coco(18.9, 19.6), mask_ap=_coco(9.7, 10.0)),
    PublishedRow('CuVLER', f'{_FIRST} 1', mask_ap50=_coco(19.3, 20.0), mask_ap=_coco(9.8, 10.0)),
    PublishedRow(
        'CutS3D, DINO',
        f'{_FIRST} 1',
        _coco(22.7, 23.6),
        _coco(12.7, 12.8),
        mask_ap50=_coco(19.2, 20.0),
        mask_ap=_coco(10.0, 10.2),
    ),
    PublishedRow(
        'CutS3D, DiffNCuts',
        f'{_FIRST} 1',
        mask_ap50=_coco(20.1, 20.6),
        mask_ap=_coco(10.2, 10.3),
    ),
    PublishedRow(
        'CutS3D, 3 rounds',
        _LATER,
        _coco(24.3, None),
        _coco(13.3, None),
        mask_ap50=_coco(20.8, 21.3),
        mask_ap=_coco(10.7, 10.9),  # repeated by TRACE (arXiv 2503.07982)
    ),
    PublishedRow(
        'CutS3D over CuVLER, both in-domain',
        'CutS3D paper (arXiv 2411.16319v1), text to Table 3',
        mask_ap={'coco': 0.7, 'coco20k': 0.7, 'lvis': 1.8},
        is_gain=True,
    ),
)

"""Merge label stores, and describe what is in them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from itertools import groupby, repeat
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.files.remote import Place

from .record import ImageRecord, InstanceRecord
from .store import Counts, read_scores, read_store, write_store

MOST_INSTANCES = 4  # images with 4 or more instances are one group
AREA_BOUNDS = (0.01, 0.04, 0.16, 0.36)  # shares of the image; bounds between the groups


@dataclass(frozen=True)
class MergeRule:
    """A rule that decides which predictions become labels, and which old labels stay."""

    score_thr: float  # smallest score of a prediction; CutLER: 0.7, then 0.65
    iou_thr: float = 0.5  # mask IoU with a kept prediction at which an old label is dropped

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {value}')


@dataclass(frozen=True)
class KeptPredictions:
    """The number of predictions that become labels by a rule."""

    num_kept: int
    num_all: int
    best_score: float  # 0 if there is no prediction
    score_thr: float

    @classmethod
    def of(
        cls, predictions: Place, rule: MergeRule, excluded: Set[str] = frozenset()
    ) -> KeptPredictions:
        """Count the predictions in a label store, without the images that are left out.

        Raises:
            ValueError: the folder is no store, or a shard is damaged.
        """
        scores = read_scores(predictions, excluded)
        num_kept = int((scores >= rule.score_thr).sum())
        return cls(num_kept, len(scores), float(scores.max(initial=0.0)), rule.score_thr)

    def describe(self) -> str:
        """Say the numbers in a line."""
        text = (
            f'{self.num_kept:,} of {self.num_all:,} predictions score {self.score_thr:g} or more '
            f'and become labels; the best scores {self.best_score:.2f}'
        )
        return text if self.num_kept else f'{text}; the labels stay as they are'


def merge_records(new: ImageRecord, old: ImageRecord, rule: MergeRule) -> ImageRecord:
    """Merge the labels of one image.

    Predictions with at least the rule's score are kept, and so are old labels that overlap with
    no kept prediction. If no prediction is kept, the old labels stay as they are.

    Args:
        new: predictions; a failure counts as an image without predictions.
        old: labels of the round before; a failure counts as an image without labels.
        rule: rule that decides what is kept.

    Raises:
        ValueError: the sizes differ.
    """
    if new.failure is not None:
        return old
    kept = tuple(one for one in new.instances if one.score >= rule.score_thr)
    if old.failure is not None:
        return replace(new, instances=kept)
    if new.image_hw != old.image_hw:
        raise ValueError(
            f'{new.name} must have one size, got (height, width) {new.image_hw} in the new and '
            f'{old.image_hw} in the old labels'
        )
    uncovered = _without_overlap(old, kept, rule.iou_thr) if kept else old.instances
    return replace(old, instances=kept + uncovered)


def merge_stores(
    new: Place, old: Place, out: Path, rule: MergeRule, excluded: Set[str] = frozenset()
) -> Counts:
    """Merge two label stores into a third; an image that is in only one store is kept.

    Args:
        new: store with the predictions.
        old: store with the labels of the round before.
        out: folder to make.
        rule: rule that decides what is kept.
        excluded: names of images that are left out.

    Raises:
        ValueError: a folder is no label store, or an image has two sizes.
        FileExistsError: `out` is there already.
    """
    ours, theirs = (
        (record for record in read_store(folder) if record.name not in excluded)
        for folder in (new, old)
    )
    return write_store(out, _merged(ours, theirs, rule))


def _merged(
    new: Iterable[ImageRecord], old: Iterable[ImageRecord], rule: MergeRule
) -> Iterator[ImageRecord]:
    """Join two streams, both in the order of the names."""
    streams = zip(new, repeat(True)), zip(old, repeat(False))
    joined = heapq.merge(*streams, key=lambda item: item[0].name)
    for name, group in groupby(joined, lambda item: item[0].name):
        found = {is_new: record for record, is_new in group}
        absent = ImageRecord(name, (0, 0), failure='not labelled')
        yield merge_records(found.get(True, absent), found.get(False, absent), rule)


def _without_overlap(
    old: ImageRecord, kept: tuple[InstanceRecord, ...], iou_thr: float
) -> tuple[InstanceRecord, ...]:
    if not old.instances:
        return ()
    size = list(old.image_hw)
    codes = [[{'size': size, 'counts': one.rle} for one in ones] for ones in (old.instances, kept)]
    overlap = coco_mask.iou(*codes, [0] * len(kept))  # (old, kept)
    return tuple(
        one for one, row in zip(old.instances, overlap, strict=True) if row.max() < iou_thr
    )


@dataclass
class LabelStatistics:
    """Counts that describe a set of labels."""

    num_images: int = 0  # failures are counted apart
    num_failures: int = 0
    num_instances: int = 0
    images_by_count: Counter[int] = field(default_factory=Counter)  # key: up to MOST_INSTANCES
    instances_by_area: Counter[int] = field(default_factory=Counter)  # key: place in AREA_BOUNDS

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> LabelStatistics:
        """Count images and instances; reads the records once."""
        found = cls()
        for record in records:
            if record.failure is not None:
                found.num_failures += 1
                continue
            count = len(record.instances)
            found.num_images += 1
            found.num_instances += count
            found.images_by_count[min(count, MOST_INSTANCES)] += 1
            height, width = record.image_hw
            shares = [one.area / (height * width) for one in record.instances]
            groups = np.searchsorted(AREA_BOUNDS, shares, side='right')
            found.instances_by_area.update(groups.tolist())
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Give the rows of a table: the name of each figure, and the figure."""
        mean = self.num_instances / max(1, self.num_images)
        edges = [0.0, *AREA_BOUNDS, 1.0]
        return [
            ('images', f'{self.num_images:,}'),
            ('failures', f'{self.num_failures:,}'),
            ('instances', f'{self.num_instances:,}'),
            ('instances per image', f'{mean:.2f}'),
            *(
                (
                    f'images with {count}{" or more" if count == MOST_INSTANCES else ""}',
                    _percent(self.images_by_count[count], self.num_images),
                )
                for count in range(MOST_INSTANCES + 1)
            ),
            *(
                (
                    f'area {low:.0%} to {high:.0%} of the image',
                    _percent(self.instances_by_area[group], self.num_instances),
                )
                for group, (low, high) in enumerate(zip(edges, edges[1:], strict=False))
            ),
        ]


def _percent(part: int, whole: int) -> str:
    return f'{100 * part / max(1, whole):.1f} %'

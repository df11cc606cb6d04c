"""Choose which labels are trained on: select by score, merge with predictions, count."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import compress, groupby, islice, pairwise, repeat
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.arrays import Double
from cuts3d_mm.files.remote import Place

from .record import ImageRecord, InstanceRecord
from .store import Counts, read_store, write_store

MOST_INSTANCES = 4  # images with 4 or more instances are one group
AREA_BOUNDS = (0.01, 0.04, 0.16, 0.36)  # shares of the image; bounds between the groups
_SETTLED_IMAGES, _AGREEING_IOU = 10_000, 0.5
_SELECTIONS = (
    'a selection of labels must be none, a smallest score in [0, 1] such as 0.5, or the share of '
    'the best such as 50%'
)
RuleName = Literal['cutler', 'old-labels-win']


@dataclass(frozen=True)
class LabelSelection:
    """Which labels of a set are trained on; by default all."""

    min_score: float = 0.0  # smallest score of a label
    best_share: float = 1.0  # share of the labels of the set, those with the best scores

    @classmethod
    def parse(cls, text: str | float) -> LabelSelection:
        """Read `none`, a smallest score such as `0.5`, or the share of the best such as `50%`."""
        word = str(text).strip()
        try:
            if word.endswith('%'):
                found = cls(best_share=float(word[:-1]) / 100)
            else:
                found = cls() if word == 'none' else cls(min_score=float(word))
        except ValueError as error:
            raise ValueError(f'{_SELECTIONS}, got {text!r}') from error
        if not (0 <= found.min_score <= 1 and 0 < found.best_share <= 1):
            raise ValueError(f'{_SELECTIONS}, got {text!r}')
        return found

    def threshold(self, scores: Double) -> float:
        """Smallest score of a selected label, for the scores (N,) of all labels of the set."""
        if self.best_share == 1 or not len(scores):
            return _as_stored(self.min_score)
        return float(np.quantile(scores, 1 - self.best_share, method='higher'))

    def describe(self, scores: Double | None = None) -> str:
        """Say in words which labels are chosen; `scores` (N,) are those of all labels."""
        if self.best_share < 1:
            if scores is not None and len(scores) and scores.min() == scores.max():
                return 'all labels, since their scores are equal'
            return f'the {100 * self.best_share:g} % of the labels with the best scores'
        if self.min_score:
            return f'labels with a score of {self.min_score:g} or more'
        return 'all labels'

    def __str__(self) -> str:
        """Say the selection in the words of `parse`."""
        if self.best_share < 1:
            return f'{100 * self.best_share:g}%'
        return f'{self.min_score:g}' if self.min_score else 'none'


def _as_stored(score: float) -> float:
    """The largest number that scores equal to one reach, stored in single precision or not."""
    return min(score, float(np.float32(score)))


def select_records(records: Iterable[ImageRecord], threshold: float) -> Iterator[ImageRecord]:
    """Leave out the labels below a score."""
    for record in records:
        chosen = tuple(one for one in record.instances if one.score >= threshold)
        yield replace(record, instances=chosen)


@dataclass(frozen=True)
class MergeRule:
    """A rule that decides which predictions become labels, and which old labels stay.

    `cutler`: predictions win. All with the smallest score are kept, and an old label goes where
    its mask has an IoU of `max_overlap` with a kept prediction.

    `old-labels-win`: old labels stay. A prediction is left out where an old label or a better
    prediction covers `max_overlap` of it or is covered by it so far, so that neither a worse mask
    of an object nor a part of an object becomes a label.
    """

    score_thr: float | Literal['auto']  # smallest score of a prediction; CutLER: 0.7, then 0.65
    max_overlap: float = 0.5
    name: RuleName = 'cutler'
    # For 'auto': share of the predictions from the smallest score on that overlap an old label.
    # Labels miss objects, so more predictions are right: about 0.85 on scenes where 0.7 agree.
    agreement: float = 0.7

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ('score_thr', 'max_overlap', 'agreement'):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            is_auto = name == 'score_thr' and value == 'auto'
            if not is_auto and not (is_number and 0 <= value <= 1):
                raise ValueError(f'{name} must lie in [0, 1], got {value!r}')
        if self.name not in get_args(RuleName):
            raise ValueError(f'name must be one of {get_args(RuleName)}, got {self.name!r}')


@dataclass
class KeptPredictions:
    """The number of predictions that became labels by a rule."""

    score_thr: float
    num_kept: int = 0
    num_all: int = 0
    best_score: float = 0.0  # 0 if there is no prediction

    def describe(self) -> str:
        """Say the numbers in a line."""
        text = (
            f'{self.num_kept:,} of {self.num_all:,} predictions become labels, by a smallest '
            f'score of {self.score_thr:.2g}; the best scores {self.best_score:.2f}'
        )
        return text if self.num_kept else f'{text}; the labels stay as they are'


def settle_rule(
    rule: MergeRule,
    new: Place,
    old: Place,
    excluded: Set[str] = frozenset(),
    old_thr: float = 0.0,
) -> MergeRule:
    """Find the smallest score of a rule that says 'auto', on 10,000 images at most.

    From this score on, the predictions agree with the labels as far as `agreement` says; it is 1
    where they never do. A prediction in old labels below `old_thr` is not counted. A rule with a
    score is returned as it is.
    """
    if rule.score_thr != 'auto':
        return rule
    scores, agrees = list[float](), list[bool]()
    for ours, theirs in islice(_paired(new, old, excluded), _SETTLED_IMAGES):
        if ours.failure is not None or theirs.failure is not None or not ours.instances:
            continue
        is_label = [one.score >= old_thr for one in theirs.instances]
        labels = list(compress(theirs.instances, is_label))
        others = list(compress(theirs.instances, np.logical_not(is_label)))
        iou = _iou(ours.instances, labels, ours.image_hw).max(axis=1, initial=0)
        covered = _shares(ours.instances, others, ours.image_hw, 'first').max(axis=1, initial=0)
        is_right = iou >= _AGREEING_IOU
        is_counted = is_right | (covered < 0.5)
        scores += [one.score for one in compress(ours.instances, is_counted)]
        agrees += is_right[is_counted].tolist()
    order = np.argsort(scores)[::-1]
    falling = np.array(scores)[order]
    share = np.cumsum(np.array(agrees, bool)[order]) / np.arange(1, len(order) + 1)
    is_last = np.append(falling[:-1] > falling[1:], np.ones(min(len(order), 1), bool))
    reached = np.flatnonzero((share >= rule.agreement) & is_last)
    return replace(rule, score_thr=float(falling[reached[-1]]) if len(reached) else 1.0)


def _paired(
    new: Place, old: Place, excluded: Set[str]
) -> Iterator[tuple[ImageRecord, ImageRecord]]:
    """Join two stores by the names of the images; a failure stands for an absent record."""
    # Both in the order of the names.
    streams = (
        zip(read_store(place), repeat(is_new)) for place, is_new in ((new, True), (old, False))
    )
    joined = heapq.merge(*streams, key=lambda item: item[0].name)
    for name, group in groupby(joined, lambda item: item[0].name):
        if name not in excluded:
            found = {is_new: record for record, is_new in group}
            absent = ImageRecord(name, (0, 0), failure='not labelled')
            yield found.get(True, absent), found.get(False, absent)


def merge_records(
    new: ImageRecord, old: ImageRecord, rule: MergeRule
) -> tuple[ImageRecord, tuple[InstanceRecord, ...]]:
    """Merge the labels of one image; if no prediction is kept, the old labels stay as they are.

    A failure counts as an image without predictions or labels.

    Returns:
        The labels, and the predictions among them.

    Raises:
        ValueError: the sizes differ.
    """
    if new.failure is not None:
        return old, ()
    score_thr = _as_stored(float(rule.score_thr))
    kept = tuple(one for one in new.instances if one.score >= score_thr)
    if old.failure is not None:
        old = replace(new, instances=())
    if new.image_hw != old.image_hw:
        raise ValueError(
            f'{new.name} must have one size, got (height, width) {new.image_hw} in the new and '
            f'{old.image_hw} in the old labels'
        )
    stay = old.instances
    if rule.name == 'old-labels-win':
        kept = _without_nested(kept, old, rule.max_overlap)
    elif kept:
        iou = _iou(stay, kept, old.image_hw)
        is_kept = iou.max(axis=1, initial=0) < rule.max_overlap
        kept = tuple(
            replace(one, category=_category_of(stay, shares, rule.max_overlap))
            if one.category is None
            else one
            for one, shares in zip(kept, iou.T, strict=True)
        )
        stay = tuple(compress(stay, is_kept))
    return replace(old, instances=kept + stay), kept


def _category_of(
    labels: Sequence[InstanceRecord], shares: Double, max_overlap: float
) -> str | None:
    """Class of the label that a prediction replaces; None if no such label has a class."""
    pairs = zip(shares, labels, strict=True)
    named = [(share, one.category) for share, one in pairs if one.category is not None]
    share, category = max(named, key=lambda one: one[0], default=(0.0, None))
    return category if share >= max_overlap else None


def _without_nested(
    predictions: tuple[InstanceRecord, ...], old: ImageRecord, max_overlap: float
) -> tuple[InstanceRecord, ...]:
    """Take predictions, the best first, that share little with old labels and with each other."""
    kept: list[InstanceRecord] = []
    for one in sorted(predictions, key=lambda one: -one.score):
        others = (*old.instances, *kept)
        if _shares((one,), others, old.image_hw, 'smaller').max(initial=0) < max_overlap:
            kept.append(one)
    return tuple(kept)


def _iou(
    first: Sequence[InstanceRecord], second: Sequence[InstanceRecord], image_hw: tuple[int, int]
) -> Double:
    """IoU of each mask with each other mask, (N, M)."""
    size = list(image_hw)
    codes = [[{'size': size, 'counts': one.rle} for one in ones] for ones in (first, second)]
    iou = np.asarray(coco_mask.iou(*codes, [0] * len(second)), np.float64)
    return iou.reshape(len(first), len(second))


def _shares(
    first: Sequence[InstanceRecord],
    second: Sequence[InstanceRecord],
    image_hw: tuple[int, int],
    of: Literal['smaller', 'first'],
) -> Double:
    """Share of the smaller or first of two masks that the other covers, (N, M)."""
    iou = _iou(first, second, image_hw)
    areas, others = (np.array([one.area for one in ones], np.float64) for ones in (first, second))
    shared = iou / (1 + iou) * np.add.outer(areas, others)
    return shared / (areas[:, None] if of == 'first' else np.minimum.outer(areas, others))


def merge_stores(
    new: Place,
    old: Place,
    out: Path,
    rule: MergeRule,
    excluded: Set[str] = frozenset(),
    old_thr: float = 0.0,
) -> tuple[Counts, KeptPredictions]:
    """Merge predictions, `new`, and the labels of the round before, `old`, into a third store.

    An image that is in only one store is kept. Old labels with a score below `old_thr` are not.

    Returns:
        What was written, and how many of the predictions.

    Raises:
        ValueError: a folder is no label store, or an image has two sizes.
        FileExistsError: `out` is there already.
    """
    rule = settle_rule(rule, new, old, excluded, old_thr)
    kept = KeptPredictions(float(rule.score_thr))

    def merged() -> Iterator[ImageRecord]:
        for ours, theirs in _paired(new, old, excluded):
            (selected,) = select_records([theirs], old_thr)
            record, taken = merge_records(ours, selected, rule)
            kept.num_kept += len(taken)
            kept.num_all += len(ours.instances)
            kept.best_score = max([kept.best_score, *(one.score for one in ours.instances)])
            yield record

    return write_store(out, merged()), kept


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

    def figures(self) -> dict[str, Any]:
        """Give the counts as JSON: images by their number of instances, instances by area."""
        return {
            'images': self.num_images,
            'failures': self.num_failures,
            'instances': self.num_instances,
            'images_by_count': [self.images_by_count[one] for one in range(MOST_INSTANCES + 1)],
            'area_bounds': list(AREA_BOUNDS),  # shares of the image
            'instances_by_area': [self.instances_by_area[i] for i in range(len(AREA_BOUNDS) + 1)],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Give the rows of a table: the name of each figure, and the figure."""
        counts = (self.num_images, self.num_failures, self.num_instances)
        names = ('images', 'failures', 'instances')
        rows = [(name, f'{count:,}') for name, count in zip(names, counts, strict=True)]
        mean = self.num_instances / max(1, self.num_images)
        rows.append(('instances per image', f'{mean:.2f}'))
        for count in range(MOST_INSTANCES + 1):
            name = f'images with {count}{" or more" if count == MOST_INSTANCES else ""}'
            rows.append((name, percent(self.images_by_count[count], self.num_images)))
        for group, (low, high) in enumerate(pairwise([0.0, *AREA_BOUNDS, 1.0])):
            name = f'area {low:.0%} to {high:.0%} of the image'
            rows.append((name, percent(self.instances_by_area[group], self.num_instances)))
        return rows


def percent(part: int, whole: int) -> str:
    """Format a share of a number of images or instances."""
    return f'{100 * part / max(1, whole):.1f} %'

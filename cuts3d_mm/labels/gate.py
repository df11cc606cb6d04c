"""Tell labels that are worth days of training from those that a fault has made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .merging import AREA_BOUNDS, LabelStatistics, percent
from .record import ImageRecord

# Shares above which labels are stopped. On 24 COCO photos with the embedded features the recipes
# `cuts3d` and `maskcut` leave no image without a label, and the letter of the paper a third.
MOST_EMPTY = 0.2  # images without a label
MOST_SMALL = 0.2  # masks under 1 % of their image
_SMALL = AREA_BOUNDS[0]


@dataclass(frozen=True)
class GateResult:
    """What the labels of some images are like, and what is wrong with them."""

    figures: tuple[str, ...]
    faults: tuple[str, ...]  # empty: nothing

    def __str__(self) -> str:
        return '; '.join(self.figures)


def check_labels(
    records: Iterable[ImageRecord],
    mask_ap: float | None = None,
    ap_range: tuple[float, float] | None = None,
) -> GateResult:
    """Check labels before a detector is trained on labels of the same recipe.

    Args:
        records: labels of a few images; images that failed count as images without a label.
        mask_ap: mask AP of these labels against annotations, percent; None: not known.
        ap_range: smallest and largest AP that is to be expected, percent.
    """
    found = LabelStatistics.of(records)
    num_images = found.num_images + found.num_failures
    empty = found.images_by_count[0] + found.num_failures
    small = found.instances_by_area[0]
    figures = [
        f'{empty} of {num_images} images without a label ({percent(empty, num_images)}, at most '
        f'{MOST_EMPTY:.0%})',
        f'{small} of {found.num_instances} masks under {_SMALL:.0%} of the image '
        f'({percent(small, found.num_instances)}, at most {MOST_SMALL:.0%})',
    ]
    faults = []
    if empty > MOST_EMPTY * num_images:
        faults.append('too many images without a label')
    if small > MOST_SMALL * found.num_instances:
        faults.append('too many small masks')
    if mask_ap is not None and ap_range is not None:
        low, high = ap_range
        figures.append(f'mask AP {mask_ap:.2f} % (from {low:g} to {high:g})')
        if not low <= mask_ap <= high:
            faults.append('a mask AP out of range')
    return GateResult(tuple(figures), tuple(faults))

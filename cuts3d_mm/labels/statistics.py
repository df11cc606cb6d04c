"""Count instances and their areas in a set of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cuts3d_mm.labels.record import ImageRecord

MOST_INSTANCES = 4  # images with as many or more are one group
AREA_BOUNDS = (0.01, 0.04, 0.16, 0.36)  # shares of the image, between the groups


@dataclass
class LabelStatistics:
    """What a set of labels looks like."""

    num_images: int = 0  # failures are counted apart
    num_failures: int = 0
    num_instances: int = 0
    images_by_count: Counter[int] = field(default_factory=Counter)  # up to MOST_INSTANCES
    instances_by_area: Counter[int] = field(default_factory=Counter)  # by place in AREA_BOUNDS

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> LabelStatistics:
        """Count; reads the records once."""
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
        """What to print: a name and a figure each."""
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

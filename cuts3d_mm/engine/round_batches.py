"""Give the training loop the batches of a round of self-training."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler


def merged_config(base: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Change a config as a child config would: dicts are merged, lists are replaced."""
    config = Config({'base': base})
    config.merge_from_dict({'base': changes})
    return config.base


class RoundBatches:
    """Batches of a round; stands in for the loop's own iterator.

    A loop that resumes advances its iterator by all iterations so far, by one call of
    `skip_iter` or by as many `next`. The data of a round begin with the round instead.

    Args:
        dataloader: of the round.
        num_done: batches of the round that are done.
        num_advances: by how many batches the loop will advance.

    Raises:
        ValueError: the data have an end.
    """

    def __init__(self, dataloader: Any, num_done: int, num_advances: int) -> None:
        sampler = dataloader.sampler
        if not isinstance(sampler, InfiniteSampler) or not hasattr(sampler, 'skip'):
            raise ValueError(
                "self-training needs sampler=dict(type='cuts3d_mm.SeededInfiniteSampler') and "
                f'batch_sampler=None in train_dataloader, got {type(sampler).__name__}'
            )
        sampler.skip(num_done * dataloader.batch_size)
        self._batches = iter(dataloader)
        self._num_advances = num_advances

    def __iter__(self) -> RoundBatches:
        return self

    def __next__(self) -> Any:
        if self._num_advances:
            self._num_advances -= 1
            return None
        return next(self._batches)

    def skip_iter(self, num_iters: int) -> None:
        """Advance, as MMEngine's own iterator does."""
        self._num_advances -= num_iters

"""Samplers whose samples are the same whenever a training is resumed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler

from cuts3d_mm.registry import DATA_SAMPLERS


class SeededIndex(int):
    """Index of a sample that carries the seed for its random transforms."""

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> SeededIndex:
        """Make an index with a seed."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def seed_generators(self) -> None:
        """Seed NumPy, Python and torch of this process."""
        np.random.seed(self.seed)
        random.seed(self.seed)
        torch.manual_seed(self.seed)


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """`mmengine.InfiniteSampler` that gives every sample a seed of its own.

    The state of the random generators of a data worker depends on all samples that it has loaded,
    which a resumed run does not load again. So `PseudoLabelDataset` seeds the generators for each
    sample.

    The arguments are those of `mmengine.InfiniteSampler`.
    """

    _position = 0

    def __init__(self, dataset: Sized, *args: Any, **kwargs: Any) -> None:
        if not len(dataset):  # the sampler would search for a sample forever
            raise ValueError(
                'the training data must hold an image with an instance, they hold no such image; '
                'count the instances of the labels by cuts3d describe'
            )
        super().__init__(dataset, *args, **kwargs)

    def __iter__(self) -> Iterator[SeededIndex]:
        """Iterate over the indices, without end."""
        for index in self.indices:
            entropy = (self.seed, self.rank, self._position)
            self._position += 1
            seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
            yield SeededIndex(index, seed)

    def skip(self, num_samples: int) -> None:
        """Continue after the first `num_samples` samples of this rank."""
        self._position = num_samples
        self.indices = itertools.islice(self._indices_of_rank(), num_samples, None)

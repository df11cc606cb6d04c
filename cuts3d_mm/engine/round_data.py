"""Prepare the data of a round of self-training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.table import LabelTable


def merged_config(base: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
    """Change a config as a child config would: dicts are merged, lists are replaced."""
    config = Config({'base': base})
    config.merge_from_dict({'base': changes})
    return config.base


def training_labels(dataset: ConfigDict) -> ConfigDict:
    """Find the `PseudoLabelDataset` in the config of a data set, whatever wraps it.

    Raises:
        ValueError: there is none.
    """
    part = dataset
    while part is not None:
        if str(part.get('type')).endswith('PseudoLabelDataset'):
            return part
        part = part.get('dataset')
    raise ValueError(
        f'self-training needs a cuts3d_mm.PseudoLabelDataset to train on, got {dataset.type}'
    )


def labelled_images(dataset: ConfigDict) -> tuple[Path, ImageList]:
    """Find the label store of a `PseudoLabelDataset`, and its images that could be read."""
    root = Path(dataset.get('data_root', ''))
    labels = root / dataset.ann_file
    table = LabelTable(labels)
    names = [
        name for name, failed in zip(table.names(), table.is_failure, strict=True) if not failed
    ]
    folder = root / dataset.get('data_prefix', {}).get('img', '')
    return labels, ImageList(folder, tuple(sorted(names)))


def round_begins(rounds: Sequence[dict[str, Any]], max_iters: int) -> list[int]:
    """First iteration of each round.

    Raises:
        ValueError: they do not rise, or a round begins when the training is over.
    """
    begins = [int(one['begin']) for one in rounds]
    if not begins or sorted(set(begins)) != begins or begins[0] < 1 or begins[-1] >= max_iters:
        raise ValueError(
            'rounds must begin one after another, the first at 1 or later and the last before '
            f'max_iters {max_iters}, got {begins}'
        )
    return begins


def require_skippable(dataloader: Any) -> None:
    """Let a data loader pass that a resumed training can advance.

    Raises:
        ValueError: the data have an end, or their sampler cannot skip.
    """
    sampler = dataloader.sampler
    if (
        not isinstance(sampler, InfiniteSampler)
        or not hasattr(sampler, 'skip')
        or not dataloader.batch_size
    ):
        raise ValueError(
            "self-training needs sampler=dict(type='cuts3d_mm.SeededInfiniteSampler') and "
            f'batch_sampler=None in train_dataloader, got {type(sampler).__name__}'
        )


def batches_after(dataloader: Any, num_done: int) -> Iterator[Any]:
    """Iterate over the batches of a round after those that are done."""
    require_skippable(dataloader)
    dataloader.sampler.skip(num_done * dataloader.batch_size)
    return iter(dataloader)

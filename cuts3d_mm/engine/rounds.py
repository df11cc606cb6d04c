"""Label the images of the next round of self-training."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from cuts3d_mm.engine.heartbeats import Heartbeats
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.merging import MergeRule, merge_stores
from cuts3d_mm.labels.random_access import LabelTable
from cuts3d_mm.pipeline.executors.local import LocalExecutor
from cuts3d_mm.pipeline.plan import Split, is_whole
from cuts3d_mm.pipeline.progress import ProgressLine
from cuts3d_mm.pipeline.run import label_images
from cuts3d_mm.pipeline.work_order import BuiltLabeller, WorkOrder
from cuts3d_mm.weights.digest import digest_weights


@dataclass(frozen=True)
class RoundFolders:
    """Where a round keeps what it makes."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The whole state of the training when the round begins."""
        return self.folder / 'begin.pth'

    @property
    def predictions(self) -> Path:
        """Label store of the detector of the round before."""
        return self.folder / 'predictions'

    @property
    def heartbeats(self) -> Path:
        """Signs of life of the ranks while they label."""
        return self.folder / 'heartbeats'

    @property
    def labels(self) -> Path:
        """Label store that the round trains on."""
        return self.folder / 'labels'


def labelled_images(labels: Path, image_folder: Path) -> ImageList:
    """List the images of a label store that could be read."""
    table = LabelTable(labels)
    names = [
        name for name, failed in zip(table.names(), table.is_failure, strict=True) if not failed
    ]
    return ImageList(image_folder, tuple(sorted(names)))


def label_next_round(
    labeller: DetectorLabeller,
    images: ImageList,
    old_labels: Path,
    folders: RoundFolders,
    rule: MergeRule,
    split: Split,
    silence_limit_s: float,
) -> None:
    """Predict, merge with the labels of the round before, and write the labels of a round.

    All ranks call this, each does its part, and all return when the labels are there. They wait
    for files instead of a barrier, because a long prediction would exceed its time limit. Resumes.

    Args:
        labeller: the detector as it is now.
        images: of the whole data set.
        old_labels: store that the detector was trained on.
        folders: of the round, on a file system that all ranks share.
        rule: which predictions become labels.
        split: part of this rank.
        silence_limit_s: after which a rank that others wait for counts as dead.

    Raises:
        RankLost: another rank has died.
    """
    if folders.labels.is_dir():
        return
    source = BuiltLabeller(labeller, _identity(labeller))
    order = WorkOrder(source, images.root, folders.predictions, batch_size=1)
    alive = Heartbeats(folders.heartbeats, split.part, split.parts, silence_limit_s)
    progress_line = ProgressLine() if split.part == 0 else nullcontext(_Silent())
    with alive, progress_line as progress:
        label_images(order, images, LocalExecutor(0), split, progress)
        if split.part == 0:
            alive.wait_until(lambda: is_whole(folders.predictions, len(images.names)))
            merge_stores(folders.predictions, old_labels, folders.labels, rule)
        alive.wait_until(folders.labels.is_dir)


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


class _Silent:
    """Progress that is not shown, for all ranks but the first."""

    def start(self, total_images: int, done: Any) -> None:
        """Ignore."""

    def add(self, counts: Any) -> None:
        """Ignore."""


def _identity(labeller: DetectorLabeller) -> dict[str, Any]:
    return {
        'weights_sha256': digest_weights(labeller.detector.state_dict()),
        'max_per_image': labeller.max_per_image,
        'confidence_source': labeller.confidence_source,
    }

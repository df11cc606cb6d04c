"""Label the images of the next round of self-training."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dist import get_rank, get_world_size

from cuts3d_mm.engine.heartbeats import Heartbeats
from cuts3d_mm.engine.round_data import labelled_images
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labels.merging import MergeRule, merge_stores
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.progress import ProgressLine
from cuts3d_mm.pipeline.run import Split, is_whole, label_images
from cuts3d_mm.pipeline.work import BuiltLabeller, WorkOrder
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

    @property
    def origin(self) -> Path:
        """What the labels were made from, as JSON."""
        return self.folder / 'labels.json'


def label_next_round(
    labeller: DetectorLabeller,
    dataset: ConfigDict,
    earlier: Path | None,
    folders: RoundFolders,
    rule: MergeRule,
    silence_limit_s: float,
) -> None:
    """Predict, merge with the labels of the round before, and write the labels of a round.

    All ranks call this, each does its part, and all return when the labels are there. They wait
    for files instead of a barrier, because a long prediction would exceed its time limit. Resumes.

    Args:
        labeller: the detector as it is now.
        dataset: `PseudoLabelDataset` of the initial round; its images are labelled.
        earlier: labels of the round before; None means those of `dataset`.
        folders: of the round, on a file system that all ranks share.
        rule: which predictions become labels.
        silence_limit_s: after which a rank that others wait for counts as dead.

    Raises:
        RankLost: another rank has died.
        ValueError: the folder holds labels of another training.
    """
    first_labels, images = labelled_images(dataset)
    identity = _identity(labeller)
    origin = {**identity, **asdict(rule), 'earlier_labels': _sizes(earlier or first_labels)}
    if folders.labels.is_dir():
        _require_origin(folders, origin)
        return
    split = Split(get_rank(), get_world_size())
    source = BuiltLabeller(labeller, identity)
    device = next(labeller.parameters()).device.type
    order = WorkOrder(source, images.root, folders.predictions, 1, device)
    alive = Heartbeats(folders.heartbeats, split.part, split.parts, silence_limit_s)
    task = f'{folders.folder.name}: labelling {images.root.name}'
    progress_line = ProgressLine(task) if split.part == 0 else nullcontext(_Silent())
    with alive, progress_line as progress:
        label_images(order, images, LocalExecutor(0), split, progress)
        if split.part == 0:
            alive.wait_until(lambda: is_whole(folders.predictions, len(images.names)))
            write_whole(folders.origin, json.dumps(origin, indent=1))
            merge_stores(folders.predictions, earlier or first_labels, folders.labels, rule)
        alive.wait_until(folders.labels.is_dir)


def _require_origin(folders: RoundFolders, origin: dict[str, Any]) -> None:
    found = json.loads(folders.origin.read_text()) if folders.origin.is_file() else {}
    differing = [key for key, value in origin.items() if found.get(key) != value]
    if differing:
        raise ValueError(
            f'{folders.labels} must come from this training, it was made with another '
            f'{", ".join(differing)}; choose another --work-dir, or remove {folders.folder}'
        )


def _sizes(labels: Path) -> dict[str, int]:
    """Name and size of each file of a label store."""
    return {path.name: path.stat().st_size for path in sorted(labels.glob('labels-*'))}


class _Silent:
    """Progress that is not shown, for all ranks but the first."""

    def start(self, total_images: int, done: Any) -> None:
        """Ignore."""

    def add(self, report: Any) -> None:
        """Ignore."""


def _identity(labeller: DetectorLabeller) -> dict[str, Any]:
    return {
        'weights_sha256': digest_weights(labeller.detector.state_dict()),
        'max_per_image': labeller.max_per_image,
        'confidence_source': labeller.confidence_source,
    }

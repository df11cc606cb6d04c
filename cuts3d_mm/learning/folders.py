"""Where a run of `cuts3d learn` keeps what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PassFolders:
    """Of one pass: one set of images, one training with its rounds."""

    folder: Path

    @property
    def images(self) -> Path:
        """Names of the images of the pass, and of those that it cuts, JSON."""
        return self.folder / 'images.json'

    @property
    def cut(self) -> Path:
        """Label store of the images that this pass was the first to see."""
        return self.folder / 'cut'

    @property
    def is_cut(self) -> bool:
        """Whether `cut` holds labels; a run that was killed early has only claimed it."""
        return any(self.cut.glob('labels-*.parquet'))

    @property
    def labels(self) -> Path:
        """Label store to train on."""
        return self.folder / 'labels'

    @property
    def held_out(self) -> Path:
        """Pseudo-labels of the held-out images, COCO JSON."""
        return self.folder / 'held_out.json'

    @property
    def config(self) -> Path:
        """Config of the training."""
        return self.folder / 'training.py'

    @property
    def work_dir(self) -> Path:
        """Checkpoints and logs of the training."""
        return self.folder / 'training'

    def predictions(self, number: int) -> Path:
        """Label store of the images to train on, by the detector before a round (from 1)."""
        return self.work_dir / f'round_{number}' / 'predictions'

    def detections(self, number: int) -> Path:
        """Label store of the held-out images, by the detector after a round (0: initial)."""
        return self.folder / 'detections' / f'round_{number}'


@dataclass(frozen=True)
class Folders:
    """Of a whole run."""

    out: Path

    @property
    def plan(self) -> Path:
        """What is done, with all schedules, JSON."""
        return self.out / 'plan.json'

    @property
    def steps(self) -> Path:
        """Time and memory of each step, JSON."""
        return self.out / 'steps.json'

    @property
    def contact_sheet(self) -> Path:
        """Pseudo-labels of some images, drawn."""
        return self.out / 'contact_sheet.jpg'

    @property
    def report(self) -> Path:
        """The page about all of it."""
        return self.out / 'report.html'

    @property
    def release(self) -> Path:
        """The detector, as others load it."""
        return self.out / 'release'

    @property
    def class_release(self) -> Path:
        """The detector that was fine-tuned on a few labels."""
        return self.out / 'release_classes'

    def of_pass(self, number: int) -> PassFolders:
        """Folders of a pass, counted from 1."""
        return PassFolders(self.out / f'pass_{number}')

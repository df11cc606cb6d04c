"""Describe the work of a run: what labels the images, where they are, where the labels go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from mmengine.utils import import_modules_from_strings
from numpy.typing import NDArray

from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.labellers.registry import LABELLERS, has_foreign_parts, resolve_config
from cuts3d_mm.pipeline.one_thread import use_one_thread

Shard = tuple[int, tuple[str, ...]]  # index, image names


class LabelledInstance(Protocol):
    """One instance of an image."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W)."""

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """(h, w) on a grid that covers the image, in [0, 1]; None where all is certain."""

    @property
    def score(self) -> float:
        """In [0, 1]."""


class ImageLabeller(Protocol):
    """What finds the instances of images: a registered model.

    One that also has `extract` and `stages`, as `PseudoLabelGenerator` has, lets a run do
    the work that needs no network in other processes.
    """

    def predict_batch(self, images: Sequence[NamedImage]) -> Sequence[Sequence[LabelledInstance]]:
        """Label images; raises ImageFailure where one cannot be labelled."""


class LabellerSource(Protocol):
    """Builds the labeller of a run; can be sent to another process."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that the labels depend on, in plain JSON values."""

    def build(self, device: str) -> ImageLabeller:
        """Make the labeller in this process."""

    def prepare(self) -> None:
        """Let this process run the stages of a labeller that another one has."""


@dataclass(frozen=True)
class ConfiguredLabeller:
    """A labeller that each process builds from its config.

    Args:
        config: of the labeller.
        custom_imports: MMEngine's option of that name, for the modules that register its parts.
    """

    config: dict[str, Any]
    custom_imports: dict[str, Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The config with all defaults."""
        resolved: dict[str, Any] = resolve_config(self.config)
        return resolved

    def build(self, device: str) -> ImageLabeller:
        """Build it, and give this process one thread, so that sums are taken in one order."""
        self.prepare()
        labeller: ImageLabeller = LABELLERS.build(self.config).to(choose_device(device))
        use_one_thread()  # when what it needs is imported
        return labeller

    def import_parts(self) -> None:
        """Import all classes that the config names, and torch, which a foreign one may need."""
        self.prepare()
        resolve_config(self.config)
        if has_foreign_parts(self.config):
            with suppress(ImportError):
                import torch  # noqa: F401

    def prepare(self) -> None:
        """Import the modules that register parts."""
        if self.custom_imports:
            import_modules_from_strings(**self.custom_imports)


@dataclass(frozen=True)
class BuiltLabeller:
    """A labeller that exists already, on its device, such as a detector in training."""

    labeller: ImageLabeller
    identity: dict[str, Any]

    def build(self, device: str) -> ImageLabeller:
        """Return it as it is."""
        return self.labeller

    def prepare(self) -> None:
        """Do nothing: its modules are imported with its stages."""


@dataclass(frozen=True)
class WorkOrder:
    """What all workers of a run share."""

    labeller: LabellerSource
    root: Place  # image folder
    out: Place  # label store
    batch_size: int  # images that go through the networks together
    device: str = 'cpu'  # of the networks

    @property
    def extraction(self) -> dict[str, Any]:
        """How the networks run, which changes the last bits of what they compute."""
        return {'device': self.device.partition(':')[0], 'batch_size': self.batch_size}

"""Decide whether two runs are the same run; `run.json` next to the labels says which one.

Labels belong together if the settings that they depend on, defaults included, and the images
are the same. The version of the package is not one of them: each shard has its own.

Formats: 1 had the config as written, a digest of the image names and the package version;
2 has the completed config, and sizes and times of the images in `images.arrow`. A store of
format 1 is continued as one of format 2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import write_first, write_whole
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.registry import resolve_config
from cuts3d_mm.labels.image_stats import ImageStats, read_image_stats, write_image_stats
from cuts3d_mm.pipeline.differences import differing_keys
from cuts3d_mm.pipeline.image_changes import describe_changes, is_copy, stat_images

FORMAT = 2
_PACKAGES = ('torch', 'numpy', 'scipy', 'numba', 'pillow', 'mmpretrain', 'onedl-mmpretrain')


class RunMismatch(ValueError):
    """The folder holds labels of another run."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything that the labels depend on."""

    model: dict[str, Any]  # identity of the labeller
    images: str  # digest of the image names, in order
    num_images: int
    images_per_shard: int
    extraction: dict[str, Any] = field(default_factory=dict)  # {}: of an earlier version

    @classmethod
    def of(
        cls,
        model: dict[str, Any],
        images: ImageList,
        images_per_shard: int,
        extraction: dict[str, Any],
    ) -> RunIdentity:
        """Identify a run.

        Args:
            model: identity of what labels the images.
            images: in their order.
            images_per_shard: size of a shard.
            extraction: how the networks run; it changes the last bits of what they compute.
        """
        digest = hashlib.sha256('\n'.join(images.names).encode()).hexdigest()
        return cls(model, digest, len(images.names), images_per_shard, extraction)

    def claim(self, folder: Place, images: ImageList) -> bool:
        """Write `run.json` into a fresh folder, or check that it is this run's.

        Args:
            folder: of the labels.
            images: the list that this identity was made from.

        Returns:
            Whether the folder was fresh.

        Raises:
            RunMismatch: the folder belongs to another run; the message says what differs.
        """
        stats, run = stat_images(images), folder / 'run.json'
        is_fresh = not run.is_file()
        if is_fresh and any(folder.glob('labels-*.parquet')):
            raise RunMismatch(f'{folder} must have a run.json next to its labels, has none')
        # Of parts that begin at the same moment, one is the first.
        is_fresh = is_fresh and write_first(run, _encoded({'identity': vars(self)}))
        if not is_fresh:
            before = read_image_stats(folder / 'images.arrow')
            theirs = self._check(folder, before, stats)
            if theirs.extraction and before is not None and not is_copy(before, stats):
                return False
            write_whole(run, _encoded({'identity': vars(self)}))
        write_image_stats(folder / 'images.arrow', stats)
        return is_fresh

    def _check(self, folder: Place, before: ImageStats | None, stats: ImageStats) -> RunIdentity:
        theirs = read_run(folder / 'run.json')
        differing = differing_keys(theirs.model, self.model, 'model')
        if theirs.extraction:
            differing += differing_keys(theirs.extraction, self.extraction, 'extraction')
        if before is not None:
            differing += describe_changes(before, stats)
        elif theirs.num_images != self.num_images:
            differing.append(f'{theirs.num_images} -> {self.num_images} images')
        elif theirs.images != self.images:
            differing.append('the names of the images')
        if differing:
            raise RunMismatch(
                f'{folder} holds labels of another run; differing: {"; ".join(differing)}. '
                'Choose another OUT, or the same images and settings, --exclude, --precision '
                'and --batch-size included'
            )
        return theirs

    def record_counts(self, folder: Place, counts: dict[str, int]) -> None:
        """Add what was done to `run.json`."""
        write_whole(folder / 'run.json', _encoded({'identity': vars(self), 'counts': counts}))


@contextmanager
def given_up_on_failure(folder: Place, is_ours_alone: bool) -> Iterator[None]:
    """Remove the claim on a folder if the run fails before any image of it is labelled.

    So a config that is wrong in what only a worker finds out can be corrected in the same folder.
    The claim on a bucket stays.

    Args:
        folder: of the labels.
        is_ours_alone: whether this call made the claim, and no other part of the run relies on it.
    """
    try:
        yield
    except Exception:
        if is_ours_alone and isinstance(folder, Path) and not any(folder.glob('labels-*.parquet')):
            for name in ('run.json', 'images.arrow'):
                (folder / name).unlink(missing_ok=True)
        raise


def read_run(path: Place) -> RunIdentity:
    """Read a `run.json` of this format or an earlier one.

    Raises:
        RunMismatch: of a later format, or none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise RunMismatch(f'{path} must be the run.json of a label store: {error}') from error
    found = content.get('format', 1) if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise RunMismatch(
            f'{path} must have a format up to {FORMAT}, it has {found}; a later version of '
            'cuts3d_mm wrote it, which is needed to go on'
        )
    identity: Any = content.get('identity') if isinstance(content, dict) else None
    try:
        identity.setdefault('extraction', {})
        run = RunIdentity(**{key: identity[key] for key in RunIdentity.__annotations__})
    except (TypeError, KeyError, AttributeError) as error:
        raise RunMismatch(f'{path} must be the run.json of a label store, it is not') from error
    if not isinstance(run.images_per_shard, int) or run.images_per_shard < 1:
        raise RunMismatch(f'{path} must have images_per_shard above 0, it has not')
    if not _is_extraction(run.extraction):
        raise RunMismatch(f'{path} must have extraction with a batch_size above 0, it has not')
    return replace(run, model=_completed(run.model))


def _is_extraction(value: Any) -> bool:
    """Whether a run says how its networks ran, or nothing about it."""
    if not isinstance(value, dict):
        return False
    size = value.get('batch_size', 1)
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1


def _completed(model: Any) -> Any:
    try:
        return resolve_config(model)
    except ValueError:  # an argument that there is no longer: then they differ
        return model


def _encoded(content: dict[str, Any]) -> bytes:
    content = {'format': FORMAT, 'versions': _versions(), **content}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b'\n'


def _versions() -> dict[str, str]:
    found = {'cuts3d_mm': __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

"""What makes two runs the same run, kept in `run.json` beside the labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.labelling.images import ImageList
from cuts3d_mm.labels.atomic import open_atomically

_PACKAGES = ('torch', 'numpy', 'scipy', 'numba', 'pillow', 'mmpretrain', 'onedl-mmpretrain')


class RunMismatch(ValueError):
    """The folder holds labels of another run."""


@dataclass(frozen=True)
class RunIdentity:
    """Everything that the labels depend on."""

    model: dict[str, Any]  # config of the generator
    images: str  # digest of the image names, in order
    num_images: int
    images_per_shard: int

    @classmethod
    def of(cls, model: dict[str, Any], images: ImageList, images_per_shard: int) -> RunIdentity:
        """Identify a run."""
        digest = hashlib.sha256('\n'.join(images.names).encode()).hexdigest()
        plain = json.loads(json.dumps(model, default=str))
        return cls(plain, digest, len(images.names), images_per_shard)

    def claim(self, folder: Path) -> None:
        """Write `run.json` into a fresh folder, or check that it is this run's.

        Raises:
            RunMismatch: the folder belongs to another run; the message names what differs.
        """
        path = folder / 'run.json'
        ours = self._to_dict()
        if not path.is_file():
            if any(folder.glob('labels-*.parquet')):
                raise RunMismatch(f'{folder} must have a run.json beside its labels, has none')
            _write_json(path, {'identity': ours, 'versions': _versions()})
            return
        try:
            theirs = json.loads(path.read_text(encoding='utf-8'))['identity']
        except (ValueError, KeyError) as error:
            raise RunMismatch(f'{path} must be a run.json of cuts3d generate') from error
        differing = _differing_keys(theirs, ours)
        if differing:
            raise RunMismatch(
                f'{folder} holds labels of another run; differing: {"; ".join(differing)}. '
                'Choose another OUT or the same settings'
            )

    def record_counts(self, folder: Path, counts: dict[str, int]) -> None:
        """Add what was done to `run.json`."""
        content = {'identity': self._to_dict(), 'versions': _versions(), 'counts': counts}
        _write_json(folder / 'run.json', content)

    def _to_dict(self) -> dict[str, Any]:
        return {'cuts3d_mm': __version__, **vars(self)}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with open_atomically(path) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode() + b'\n')


def _differing_keys(theirs: Any, ours: Any, where: str = '') -> list[str]:
    """Dotted keys whose values differ, as `key: theirs -> ours`."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(theirs.keys() | ours.keys())
        return [
            line
            for key in keys
            for line in _differing_keys(
                theirs.get(key), ours.get(key), f'{where}.{key}'.strip('.')
            )
        ]
    return [] if theirs == ours else [f'{where}: {theirs!r} -> {ours!r}']


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

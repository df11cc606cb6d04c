"""Write the depth maps of many images, as a network estimates them; resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from cuts3d_mm.files.atomic import remove_leftovers, write_lines, write_whole
from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.images.listing import ImageList, first_repeated
from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_named_image
from cuts3d_mm.labellers.depth.files import encode_depth, read_marks
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.labellers.registry import DEPTH, resolve_config
from cuts3d_mm.labels.store import Counts

from .devices import choose_batch_size
from .progress import ProgressLine, Report


def write_depth_maps(
    depth: dict[str, Any],
    images: ImageList,
    out: Path,
    device: str = 'auto',
    batch_size: int | None = None,
) -> Counts:
    """Write a PNG for each image, under its path and name; images that have one are left out.

    Images without depth are listed in `out/failures.jsonl`, a line each.

    Args:
        depth: config of a depth source that is no folder.
        device: device of the network; 'auto' for a GPU where there is one.
        batch_size: images that go through the network together; None: by the memory of the
            device.

    Returns:
        Counts of this call and of earlier calls.

    Raises:
        ValueError: the config is wrong, `out` holds a map of another network, or two images
            would have the same map.
        FolderInUse: another process writes depth maps there.
    """
    kind = DEPTH.check(depth)  # imports torch where a network needs it
    if hasattr(kind, 'FOLDER_ARGUMENT'):
        raise ValueError(f'--network must estimate depth, {kind.__name__} reads it from files')
    device = choose_device(device)
    network = json.dumps(resolve_config(depth), sort_keys=True)
    out.mkdir(parents=True, exist_ok=True)
    with hold_folder(out), ProgressLine(f'depth of {images.root.name}') as progress:
        left = _without_map(images, out, network)
        failures: list[dict[str, str]] = []
        earlier = Counts(len(images.names) - len(left))
        progress.start(len(images.names), earlier)
        source = DEPTH.build(depth).to(device) if left else None
        size = batch_size or choose_batch_size(out, device)
        for start in range(0, len(left), size):
            names = left[start : start + size]
            reasons = _write_batch(source, images, names, out, network)
            failures += reasons
            progress.add(Report(Counts(len(names), 0, len(reasons))))
        write_lines(out / 'failures.jsonl', failures)
    return earlier + Counts(len(left), 0, len(failures))


def _without_map(images: ImageList, out: Path, network: str) -> list[str]:
    """Names of the images whose map is not there, after a check of those that are."""
    maps = [_map_name(name) for name in images.names]
    if (twice := first_repeated(maps)) is not None:
        raise ValueError(f'two images would have the depth map {twice}; rename one of them')
    for folder in {(out / name).parent for name in maps}:
        remove_leftovers(folder)
    left = []
    for image, name in zip(images.names, maps, strict=True):
        if not (out / name).is_file():
            left.append(image)
        elif (found := read_marks(out / name).get('network', 'another tool')) != network:
            raise ValueError(
                f'OUT must hold depth maps of {network} only, {name} is of {found}; '
                'name another OUT'
            )
    return left


def _map_name(name: str) -> str:
    return str(PurePosixPath(name).with_suffix('.png'))


def _write_batch(
    source: Any, images: ImageList, names: Sequence[str], out: Path, network: str
) -> list[dict[str, str]]:
    """Write the maps of some images; return name and reason of each image that has none."""
    try:
        batch = [NamedImage(name, read_named_image(images.root, name)) for name in names]
        unit = getattr(source, 'unit', 'relative')
        for name, depth in zip(names, source(batch), strict=True):
            content = encode_depth(depth, unit, network)
            write_whole(path_to_write(out, _map_name(name)), content)
    except (ImageFailure, BadName) as failure:
        if len(names) == 1:
            return [{'path': names[0], 'reason': str(failure)}]
        alone = (_write_batch(source, images, [name], out, network) for name in names)
        return list(chain.from_iterable(alone))
    return []

"""Cut the pseudo-labels of a pass, and gather those that it trains on."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuts3d_mm.configs import read_generator_config
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.registry import with_depth_folder
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_store
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.pass_images import read_pass_images, watched_names
from cuts3d_mm.learning.plan import Settings
from cuts3d_mm.pipeline.labelling import label


def cut_images(settings: Settings, images: ImageList, store: Path, workers: int | None) -> Counts:
    """Cut instances out of images, as `cuts3d generate` does."""
    config = read_generator_config(settings.generator, [])
    model = with_depth_folder(config.to_dict()['model'], settings.depth)
    task = f'cutting {Path(str(images.root)).name}'
    return label(model, config.get('custom_imports'), images, store, workers, task)


def gather_labels(stores: Sequence[Path], folders: PassFolders) -> None:
    """Write the labels of all passes as those to train on and those of the held-out images.

    Args:
        stores: of all passes so far, each image in one of them.
        folders: of this pass; what is there already is kept.

    Raises:
        ValueError: no image to train on has an instance.
    """
    images = read_pass_images(folders.images)
    chosen, watched = set(images.names) - set(images.held_out), set(watched_names(folders))
    if not folders.held_out.is_file():
        write_coco(folders.held_out, lambda: _records(stores, watched))
    if folders.labels.is_dir():
        return
    if not any(record.instances for record in _records(stores, chosen)):
        failed = [one for one in _records(stores, chosen) if one.failure is not None]
        reason = f', the first with "{failed[0].failure}"' if failed else ''
        raise ValueError(
            f'the images must hold something that {folders.cut} finds, none of {len(chosen)} '
            f'images to train on has an instance, and {len(failed)} of them failed{reason}; look '
            'at contact_sheet.jpg, and choose another OUT for another --config or --depth'
        )
    write_store(folders.labels, _records(stores, chosen))


def _records(stores: Sequence[Path], names: set[str]) -> Iterator[ImageRecord]:
    """Records of some images, in the order of their names."""
    merged = heapq.merge(*map(read_store, stores), key=lambda record: record.name)
    return (record for record in merged if record.name in names)

"""Through how many files of the package a thing passes; prints them in the order of first use.

One image through `generate` until it is in the store, one label through a training step from
`LoadPseudoLabels` to the losses, one release through `detect` until the first detection. A file
counts when a Python function of it runs; compiled code, and what runs only while a module is
imported, does not count.

    python benchmarks/trace_files.py
    python benchmarks/trace_files.py image
"""

from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
PACKAGE = ROOT / 'cuts3d_mm'


class Trace:
    """Collects files while a block runs.

    Args:
        until: qualified name of the function that ends the collection; '': none does.
    """

    def __init__(self, until: str = '') -> None:
        self.files: list[str] = []
        self._until = until
        self._is_over = False

    def __enter__(self) -> Trace:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        # numba reports calls of compiled functions, which have no frame of their own.
        if event != 'call' or self._is_over or sys._getframe(1) is not frame:
            return
        path = Path(frame.f_code.co_filename)
        if PACKAGE not in path.parents:
            return
        if frame.f_code.co_qualname == self._until:
            self._is_over = True
        name = path.relative_to(PACKAGE).as_posix()
        if name not in self.files and not _is_importing(frame):
            self.files.append(name)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            return True
        frame = frame.f_back
    return False


def image_files(folder: Path) -> list[str]:
    """Trace one image from its file to the store, in one process."""
    from helpers.drawn import write_depths, write_images

    from cuts3d_mm.configs import load_generator_config
    from cuts3d_mm.labellers.registry import with_depth_folder
    from cuts3d_mm.pipeline.work import ConfiguredLabeller, Worker, WorkOrder

    rng = np.random.default_rng(0)
    names = write_images(folder / 'images', 1, rng)
    write_depths(folder / 'depth', names, rng)
    model = load_generator_config('cuts3d_color-texture_file-depth', [])
    labeller = ConfiguredLabeller(with_depth_folder(model, str(folder / 'depth')))
    (folder / 'store').mkdir()
    worker = Worker(WorkOrder(labeller, folder / 'images', folder / 'store', 1))
    with Trace() as trace:
        list(worker.label([(0, names)]))
    return trace.files


def label_files(folder: Path) -> list[str]:
    """Trace the labels of an image from `LoadPseudoLabels` to the losses."""
    from helpers.tiny_detectors import NARROW, tiny_config
    from helpers.training import data_options, write_training_set
    from mmdet.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate

    root = write_training_set(folder / 'data')
    config = tiny_config([*NARROW, *data_options(root, root / 'labels')])
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model = MODELS.build(config.model)
    with Trace() as trace:
        batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
        model(**batch, mode='loss')
    return trace.files


def release_files(folder: Path) -> list[str]:
    """Trace a release through `detect` until the first detection is written."""
    from helpers.drawn import write_images
    from helpers.tiny_detectors import write_checkpoint

    from cuts3d_mm.configs import load_config
    from cuts3d_mm.hub.publishing import ReleaseFacts, write_release
    from cuts3d_mm.weights import read_state

    write_images(folder / 'images', 1, np.random.default_rng(0))
    config = load_config(write_checkpoint(folder / 'weights.pth'), [])
    (folder / 'release').mkdir()
    weights = read_state(str(folder / 'weights.pth')).weights
    facts = ReleaseFacts('owner/repo', {}, 'apache-2.0')
    write_release(str(folder / 'weights.pth'), config, weights, facts, folder / 'release')
    detect = runpy.run_path(str(ROOT / 'tools' / 'detect.py'))['main']
    arguments = [folder / 'images', '--model', folder / 'release', '--out', folder / 'out']
    with _command('detect', *arguments), Trace('DetectionWriter.add') as trace:
        detect()
    return trace.files


@contextlib.contextmanager
def _command(*arguments: object) -> Iterator[None]:
    before, sys.argv = sys.argv, list(map(str, arguments))
    try:
        yield
    finally:
        sys.argv = before


TRACES: dict[str, Callable[[Path], list[str]]] = {
    'image': image_files,
    'label': label_files,
    'release': release_files,
}


def main() -> None:
    """Run the traces that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('thing', nargs='?', choices=TRACES, help='default: all')
    chosen = parser.parse_args().thing
    for thing in [chosen] if chosen else TRACES:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            files = TRACES[thing](Path(folder))
        print(f'{thing}: {len(files)} files', *files, sep='\n  ')


if __name__ == '__main__':
    main()

"""Measure what the process in front of a GPU does itself: CPU time of its main thread, per image.

    python benchmarks/feeder.py [--photos DIR] [--num 64] [--batch-size 16]

The networks do nothing, and tensors lie on torch's device `meta`: what an operator does there is
not counted, the way to it through Python is, which takes no less than a launch on a GPU. What
comes back is made up. Images are read, and sent to the helper processes, by threads, as in a run
on a GPU. Not counted: waiting, and what the networks launch. Next to it stands the CPU time of
all threads of the process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers.tiny_networks import zoe  # noqa: E402

from cuts3d_mm.images.listing import list_images  # noqa: E402
from cuts3d_mm.labellers.depth.huggingface import HFDepth  # noqa: E402
from cuts3d_mm.labellers.generator import PseudoLabelGenerator  # noqa: E402
from cuts3d_mm.labellers.networks import to_device  # noqa: E402
from cuts3d_mm.labellers.registry import FEATURES  # noqa: E402
from cuts3d_mm.pipeline.local import Crew, Helpers  # noqa: E402
from cuts3d_mm.pipeline.progress import Stopwatch  # noqa: E402
from cuts3d_mm.pipeline.work import ConfiguredLabeller, Extraction, use_one_thread  # noqa: E402

CHANNELS = 768
COCO_HW = ((480, 640), (640, 480), (427, 640), (640, 427), (426, 640), (500, 375), (375, 500))
READERS = 4
DEVICE = 'meta'


@FEATURES.register_module()
class NoFeatures:
    """Features of a network that does nothing; images are brought to it as to a ViT/8."""

    def __init__(self) -> None:
        self.device = torch.device('cpu')

    def to(self, device: str) -> NoFeatures:
        """Take note of the device."""
        self.device = torch.device(device)
        return self

    def __call__(self, images: list[Any]) -> list[Tensor]:
        """Features that hold nothing."""
        ones = torch.ones(1, 3, 1, 1)
        values = to_device(images, self.device).permute(0, 3, 1, 2).float() / 255
        batch = (values - ones.to(self.device)) / ones.to(self.device)
        height, width = batch.shape[2] // 8, batch.shape[3] // 8
        return list(torch.empty((len(images), height, width, CHANNELS), device=self.device))


class Launches(TorchDispatchMode):
    """Counts the operators on the device, and the CPU time that they would not take on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.seconds = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        values = (*tree_leaves(args), *(kwargs or {}).values())
        if not any(_is_on_device(value) for value in values):
            return func(*args, **(kwargs or {}))
        began = time.thread_time()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.seconds += time.thread_time() - began
            self.count += 1


def _is_on_device(value: Any) -> bool:
    return value.is_meta if isinstance(value, Tensor) else value == torch.device(DEVICE)


class NoNetwork:
    """A depth network that does nothing; counts the images that it gets together."""

    def __init__(self) -> None:
        self.groups: Counter[int] = Counter()

    def __call__(self, pixel_values: Tensor) -> Any:
        """Depth that holds nothing."""
        self.groups[len(pixel_values)] += 1
        return SimpleNamespace(predicted_depth=pixel_values.new_empty(pixel_values[:, 0].shape))

    def to(self, *_: object) -> NoNetwork:
        """Stay."""
        return self


def fetch_made_up_values() -> None:
    """Let tensors of the device `meta` be copied to the CPU, as values that are made up."""
    known: dict[tuple[Any, ...], Tensor] = {}
    originals = {name: getattr(Tensor, name) for name in ('cpu', 'to', '__bool__')}

    def fetched(tensor: Tensor) -> Tensor:
        key = (*tensor.shape, tensor.dtype)
        if key not in known:
            values = torch.rand(tensor.shape) + 1
            known[key] = values.to(tensor.dtype)
        return known[key].clone()

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        target = args[0] if args else kwargs.get('device')
        if tensor.is_meta and str(target) == 'cpu':
            return fetched(tensor)
        found: Tensor = originals['to'](tensor, *args, **kwargs)
        return found

    Tensor.cpu = lambda tensor: fetched(tensor) if tensor.is_meta else originals['cpu'](tensor)  # type: ignore[method-assign,assignment,misc]
    Tensor.to = to  # type: ignore[method-assign,assignment]
    Tensor.__bool__ = lambda tensor: tensor.is_meta or originals['__bool__'](tensor)  # type: ignore[method-assign,assignment]


def build(folder: Path) -> tuple[PseudoLabelGenerator, NoNetwork]:
    """The default recipe with networks that do nothing."""
    from transformers import ZoeDepthImageProcessor

    zoe()[0].save_pretrained(folder)
    ZoeDepthImageProcessor().save_pretrained(folder)
    generator = PseudoLabelGenerator(
        features={'type': 'NoFeatures'}, depth={'type': 'HFDepth', 'model': str(folder)}
    )
    network = NoNetwork()
    assert isinstance(generator.depth, HFDepth)
    generator.depth.network = network
    return generator.to(DEVICE), network


def measure(
    root: Path, names: list[str], batch_size: int, shard: int, folder: Path
) -> tuple[float, float, int, Counter[int]]:
    """CPU seconds of the main thread and of all, operators on the device, and sizes of groups."""
    generator, network = build(folder)
    extraction = Extraction(generator, root, batch_size, Stopwatch(), READERS, in_flight=2)
    shards = [(i, names[i : i + shard]) for i in range(0, len(names), shard)]
    with Crew() as crew:
        helpers = Helpers(crew, ConfiguredLabeller({}), 1)
        lead(extraction, shards[:1], helpers)  # what is done once: imports
        network.groups.clear()
        with Launches() as launches:
            began, all_began = time.thread_time(), time.process_time()
            lead(extraction, shards, helpers)
            own = time.thread_time() - began - launches.seconds
            everything = time.process_time() - all_began - launches.seconds
        return own, everything, launches.count, network.groups


def lead(extraction: Extraction, shards: list[tuple[int, list[str]]], helpers: Helpers) -> None:
    """Lead images to a process, which does nothing with them."""
    sent = [helpers.submit(partial(_forget, image)) for _, _, image in extraction.run(shards)]
    for one in sent:
        one.result()


def _forget(image: Any, watch: Stopwatch) -> None:
    pass


def draw_photos(folder: Path, num: int) -> Path:
    """Photos in sizes of COCO: smooth noise."""
    rng = np.random.default_rng(0)
    for index in range(num):
        height, width = COCO_HW[rng.integers(len(COCO_HW))]
        small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(folder / f'{index:04}.jpg')
    return folder


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--photos', type=Path, help='folder of images; without it, made-up ones')
    parser.add_argument('--num', type=int, default=64)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--shard', type=int, default=64, help='images of a shard')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    use_one_thread()
    fetch_made_up_values()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'photos').mkdir()
        root = args.photos or draw_photos(folder / 'photos', args.num)
        names = list(list_images(root).names)
        names = (names * -(-args.num // len(names)))[: args.num]
        for _ in range(args.repeats):
            own, everything, launches, groups = measure(
                root, names, args.batch_size, args.shard, folder / 'network'
            )
            batches = -(-args.shard // args.batch_size) * args.num / args.shard
            print(
                f'main thread {1e3 * own / len(names):.2f} ms per image, all threads '
                f'{1e3 * everything / len(names):.1f} ms, '
                f'{launches / len(names):.0f} operators; {groups.total() / batches:.1f} groups '
                'of one size in a batch'
            )


if __name__ == '__main__':
    main()

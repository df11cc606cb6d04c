"""Check what runs on a GPU against the CPU, and measure rates: `gpu_session.sh` calls each part.

    bash benchmarks/gpu_session.sh OUT [PHOTOS]

Networks have random weights: the labels say whether device and CPU agree, not how good they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers.tiny_detectors import write_checkpoint  # noqa: E402
from helpers.tiny_networks import zoe  # noqa: E402
from helpers.training import train_command, write_training_set  # noqa: E402

from cuts3d_mm.algorithm.cut_instances import (  # noqa: E402
    ImageCuts,
    cut_patches,
    link_image,
    link_images,
    refine_cuts,
)
from cuts3d_mm.algorithm.cut_on_device import DeviceCutter  # noqa: E402
from cuts3d_mm.algorithm.masks import mask_iou  # noqa: E402
from cuts3d_mm.algorithm.params import CutParams  # noqa: E402
from cuts3d_mm.images.listing import list_images  # noqa: E402
from cuts3d_mm.labellers.features.vit import ViTKeyFeatures  # noqa: E402
from cuts3d_mm.labels.record import ImageRecord, decode_mask  # noqa: E402
from cuts3d_mm.labels.store import read_store  # noqa: E402
from cuts3d_mm.learning.training import read_log  # noqa: E402
from cuts3d_mm.scenes.rendering import render_scenes  # noqa: E402

# Least mean IoU of the CPU's masks with those of the device. float32 sums in another order, which
# decides ties; in bfloat16 links at the threshold change, by which a mask can come or go.
LEAST_IOU = {'fp32': 0.98, 'bf16': 0.6}
SMALL_VIT = {'embed_dims': 24, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 48}
STEPS = 20  # steps of the training
Run = Callable[..., None]


def command(name: str, *arguments: object) -> None:
    """Run a command of the package in a process of its own."""
    subprocess.run([sys.executable, '-m', 'cuts3d_mm', name, *map(str, arguments)], check=True)


def photos_of(source: Path | None, folder: Path, num: int) -> Path:
    """Photos to label: the first ones of a folder, or rendered scenes."""
    images = folder / 'images'
    if not images.is_dir():
        images.mkdir(parents=True)
        if source is None:
            for scene in render_scenes(num, seed=1):
                Image.fromarray(scene.image).save(images / f'{Path(scene.name).stem}.png')
        else:
            for name in list_images(source / 'images').names[:num]:
                shutil.copy(source / 'images' / name, images / name.replace('/', '_'))
    return images


def write_generator(folder: Path, arch: object, input_hw: tuple[int, int], tau: float) -> Path:
    """A generator of a random ViT and a random small ZoeDepth; its config."""
    torch.manual_seed(0)
    backbone = {'arch': arch, 'patch_size': 8, 'img_size': 224}
    torch.save(ViTKeyFeatures(backbone).network.state_dict(), folder / 'vit.pth')
    for part in zoe():
        part.save_pretrained(folder / 'zoe')
    features = {'type': 'cuts3d_mm.ViTKeyFeatures', 'backbone': backbone}
    model = {
        'type': 'cuts3d_mm.PseudoLabelGenerator',
        'features': {**features, 'checkpoint': str(folder / 'vit.pth')},
        'depth': {'type': 'cuts3d_mm.HFDepth', 'model': str(folder / 'zoe')},
        'recipe': {'ncut': {'tau_ncut': tau}},
        'input_hw': input_hw,
    }
    Config({'model': model}).dump(folder / 'generator.py')
    return folder / 'generator.py'


def agreement(one: Path, other: Path) -> tuple[float, int]:
    """Mean of the best IoU of each mask of one store with the other's, and their number."""
    others = {record.name: record for record in read_store(other)}
    best = [
        max((mask_iou(mask, found) for found in _masks(others[record.name])), default=0.0)
        for record in read_store(one)
        for mask in _masks(record)
    ]
    return float(np.mean(best)) if best else 0.0, len(best)


def _masks(record: ImageRecord) -> list[np.ndarray]:
    return [decode_mask(instance, record.image_hw) for instance in record.instances]


def check(
    run: Run,
    folder: Path,
    images: Path,
    device: str = 'cuda',
    arch: object = 'deit-small',
    input_hw: tuple[int, int] = (480, 480),
) -> list[str]:
    """Label, train, predict and detect on a device; a line for each, with what the CPU does.

    Raises:
        ValueError: the device does not agree with the CPU.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, lines = write_generator(folder, arch, input_hw, 0.7), list[str]()
    run('generate', config, images, folder / 'cpu', '--device', 'cpu')
    ways = [('fp32', 'cpu'), ('bf16', 'cpu'), ('fp32', 'device')]
    for precision, place in ways:
        out = folder / f'{precision}_{place}'
        options = ('--device', device, '--precision', precision, '--cut-on', place)
        run('generate', config, images, out, *options)
        what = f'labels, {precision}, cut on the {place}'
        lines.append(_require(what, folder / 'cpu', out, LEAST_IOU[precision]))
    data = write_training_set(folder / 'training')
    words = train_command(data, folder / 'run', STEPS)[2:]
    run('train', *words)
    losses = [line['loss'] for line in read_log(folder / 'run') if 'loss' in line]
    if not losses or not np.isfinite(losses).all():
        raise ValueError(f'losses of a training must be finite numbers, got {losses}')
    lines.append(f'training: {STEPS} steps, last loss {losses[-1]:.3f}')
    detector = write_checkpoint(folder / 'detector.pth')
    for name in ('predict', 'detect'):
        outs = {}
        for place in ('cpu', device):
            outs[place] = folder / f'{name}_{place.replace(":", "_")}'
            options = ('--device', place, '--score-thr', 0)
            if name == 'predict':
                run(name, detector, folder / 'detector.pth', images, outs[place], *options)
            else:
                model = ('--model', detector, '--weights', folder / 'detector.pth')
                run(name, images, *model, *options, '--out', outs[place])
                outs[place] = outs[place] / 'labels'
        lines.append(_require(name, outs['cpu'], outs[device], LEAST_IOU['fp32']))
    return lines


def _require(what: str, cpu: Path, device: Path, least: float) -> str:
    found, count = agreement(cpu, device)
    line = f'{what}: mean IoU {found:.4f} of {count} masks (at least {least})'
    if not count or found < least:
        raise ValueError(f'masks of the device must be those of the CPU, got {line}')
    return line


def cores(counts: tuple[int, ...] = (1, 4, 8, 16), seconds: float = 6.0) -> list[str]:
    """Time of an image on the CPU while that many processes cut images at the same time."""
    lines = []
    for count in counts:
        if count > (os.cpu_count() or 1):
            continue
        with ProcessPoolExecutor(count, get_context('spawn')) as pool:
            found = np.array(list(pool.map(_cut_for, [seconds] * count)))
        ncut, crf = 1e3 * np.median(found, axis=0)
        lines.append(f'{count} processes: cutting {ncut:.0f} ms, CRF {crf:.0f} ms an image')
    return lines


def _cut_for(seconds: float) -> tuple[float, float]:
    """Mean seconds of cutting and of refining an image."""
    images, params = linked_scenes(2), CutParams()
    for image in images:  # compiles
        refine_cuts(cut_patches(image, params), params)
    count, spent, began = 0, np.zeros(2), time.perf_counter()
    while time.perf_counter() - began < seconds:
        times = [time.perf_counter()]
        cut = cut_patches(images[count % 2], params)
        times.append(time.perf_counter())
        refine_cuts(cut, params)
        spent += np.diff([*times, time.perf_counter()])
        count += 1
    return spent[0] / count, spent[1] / count


def linked_scenes(num: int) -> list[ImageCuts]:
    """Scenes with exact depth, ready to be cut."""
    from samples import argument_parser, load_samples

    samples = load_samples(argument_parser(None).parse_args(['--num', str(num)]))
    return [
        replace(
            link_image(one.features, one.depth, CutParams()),
            resized=one.image,
            image_hw=(480, 480),
        )
        for one in samples
    ]


def rates(device: str = 'cuda', seconds: float = 3.0) -> list[str]:
    """Time and arithmetic of the networks at full size, with random weights, and of the links."""
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation

    lines, pixels = [], np.zeros((480, 480, 3), np.uint8)
    for half in (True, False):
        backbone = {'arch': 'base', 'patch_size': 8, 'img_size': 224}
        work = partial(ViTKeyFeatures(backbone, half=half).to(device), [pixels] * 16)
        lines.append(_rate(f'ViT-B/8, {_name(half)}', work, 16, seconds))
    network = ZoeDepthForDepthEstimation(ZoeDepthConfig()).eval().to(device)
    for half in (False, True):
        dtype = torch.bfloat16 if half else torch.float32
        for size_hw in ((384, 512), (384, 544), (544, 384)):
            batch = torch.zeros(8, 3, *size_hw, dtype=dtype, device=device)
            with torch.no_grad():
                work = partial(network.to(dtype), batch)
                lines.append(_rate(f'ZoeDepth, {_name(half)}, {size_hw}', work, 8, seconds))
    features = list(torch.randn(16, 60, 60, 768, device=device))
    depths = list(torch.rand(16, 384, 512, device=device) + 1)
    lines.append(_rate('links', lambda: link_images(features, depths, CutParams())(), 16, seconds))
    return lines


def _name(half: bool) -> str:
    return 'bf16' if half else 'fp32'


def _rate(what: str, work: Callable[[], object], images: int, seconds: float) -> str:
    with FlopCounterMode(display=False) as counter:
        work()
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        torch.cuda.synchronize()
        count += images
    each = (time.perf_counter() - began) / count
    tera = counter.get_total_flops() / images / 1e12
    return f'{what}: {1e3 * each:.2f} ms an image, {tera / each:.1f} TFLOP/s'


def cutting(device: str = 'cuda', num: int = 16) -> list[str]:
    """Time of cutting and refining a batch on the device, and whether the CPU finds the same."""
    images, params = linked_scenes(num), CutParams()
    cutter = DeviceCutter(params, torch.device(device))
    lines, cut = [], cutter.start(lambda: images).result()
    for name, work in (
        ('NCut on the device, with minimum cuts', lambda: cutter._cut_patches(images)),
        ('all of it', lambda: cutter.start(lambda: images).result()),
    ):
        began = time.perf_counter()
        work()
        lines.append(f'{name}: {1e3 * (time.perf_counter() - began) / num:.1f} ms an image')
    pairs = [(one, cut_patches(image, params)) for one, image in zip(cut, images, strict=True)]
    masks = [
        (ours.mask, theirs.mask)
        for one, other in pairs
        for ours, theirs in zip(
            refine_cuts(one, params).instances, refine_cuts(other, params).instances, strict=False
        )
    ]
    counts = [sum(len(pair[side].instances) for pair in pairs) for side in (0, 1)]
    overlaps = [mask_iou(*pair) for pair in masks]
    lines.append(
        f'masks of the device {counts[0]}, of the CPU {counts[1]}; IoU mean '
        f'{np.mean(overlaps):.6f}, least {np.min(overlaps):.6f}'
    )
    return lines


def machine(run: Run, folder: Path, images: Path) -> list[str]:
    """Label many copies of the photos by all GPUs and cores; a trace says where time goes."""
    folder.mkdir(parents=True, exist_ok=True)
    many = folder / 'images'
    many.mkdir()
    paths = sorted(images.iterdir())
    for number in range(10):
        for path in paths:
            shutil.copy(path, many / f'{number}_{path.name}')
    config, lines = write_generator(folder, 'base', (480, 480), 0.7), []
    for place in ('cpu', 'device'):
        options = ('--cut-on', place, '--profile', folder / f'{place}.json')
        began = time.perf_counter()
        run('generate', config, many, folder / place, *options)
        rate = 10 * len(paths) / (time.perf_counter() - began)
        gpus = torch.cuda.device_count()
        lines.append(
            f'whole command with its start, cut on the {place}: {rate:.1f} images/s, {gpus} GPUs'
        )
    return lines


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('part', choices=('cores', 'check', 'rates', 'cutting', 'machine'))
    parser.add_argument('out', type=Path)
    parser.add_argument('--photos', type=Path, metavar='DIR', help='folder with images/')
    args = parser.parse_args()
    images = photos_of(args.photos, args.out / 'photos', 24)
    parts: dict[str, Callable[[], list[str]]] = {
        'cores': cores,
        'check': partial(check, command, args.out / 'check', images),
        'rates': rates,
        'cutting': cutting,
        'machine': partial(machine, command, args.out / 'machine', images),
    }
    print('\n'.join(parts[args.part]()))


if __name__ == '__main__':
    main()

"""Check what runs on a GPU against the CPU, and measure rates: `gpu_session.sh` calls each part.

    bash benchmarks/gpu_session.sh OUT [PHOTOS]

Networks have random weights: the labels say whether device and CPU agree, not how good they are.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers.tiny_detectors import write_checkpoint  # noqa: E402
from helpers.tiny_networks import zoe  # noqa: E402
from helpers.training import train_command, write_training_set  # noqa: E402

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
        max((_iou(mask, found) for found in _masks(others[record.name])), default=0.0)
        for record in read_store(one)
        for mask in _masks(record)
    ]
    return float(np.mean(best)) if best else 0.0, len(best)


def _masks(record: ImageRecord) -> list[np.ndarray]:
    return [decode_mask(instance, record.image_hw) for instance in record.instances]


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


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
    for precision, least in LEAST_IOU.items():
        out = folder / precision
        run('generate', config, images, out, '--device', device, '--precision', precision)
        lines.append(_require(f'labels, {precision}', folder / 'cpu', out, least))
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


def rates(device: str = 'cuda', seconds: float = 5.0) -> list[str]:
    """Images/s of the networks at full size, with random weights."""
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation

    lines, pixels = [], np.zeros((480, 480, 3), np.uint8)
    for half in (True, False):
        backbone = {'arch': 'base', 'patch_size': 8, 'img_size': 224}
        work = partial(ViTKeyFeatures(backbone, half=half).to(device), [pixels] * 16)
        lines.append(_rate(f'ViT-B/8, {_name(half)}', work, 16, seconds))
    network = ZoeDepthForDepthEstimation(ZoeDepthConfig()).eval().to(device)
    for half in (False, True):
        dtype = torch.bfloat16 if half else torch.float32
        batch = torch.zeros(8, 3, 384, 512, dtype=dtype, device=device)
        with torch.no_grad():
            work = partial(network.to(dtype), batch)
            lines.append(_rate(f'ZoeDepth, {_name(half)}', work, 8, seconds))
    return lines


def _name(half: bool) -> str:
    return 'bf16' if half else 'fp32'


def _rate(what: str, work: Callable[[], object], images: int, seconds: float) -> str:
    work()
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        torch.cuda.synchronize()
        count += images
    return f'{what}: {count / (time.perf_counter() - began):.1f} images/s'


def machine(run: Run, folder: Path, images: Path) -> list[str]:
    """Label many copies of the photos by all GPUs and cores; a trace says where time goes."""
    folder.mkdir(parents=True, exist_ok=True)
    many = folder / 'images'
    many.mkdir()
    paths = sorted(images.iterdir())
    for number in range(40):
        for path in paths:
            shutil.copy(path, many / f'{number}_{path.name}')
    config, began = write_generator(folder, 'base', (480, 480), 0.7), time.perf_counter()
    run('generate', config, many, folder / 'labels', '--profile', folder / 'trace.json')
    rate = 40 * len(paths) / (time.perf_counter() - began)
    gpus = torch.cuda.device_count()
    return [f'the whole command with its start: {rate:.1f} images/s, {gpus} GPUs']


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('part', choices=('check', 'rates', 'machine'))
    parser.add_argument('out', type=Path)
    parser.add_argument('--photos', type=Path, metavar='DIR', help='folder with images/')
    args = parser.parse_args()
    images = photos_of(args.photos, args.out / 'photos', 24)
    if args.part == 'check':
        lines = check(command, args.out / 'check', images)
    elif args.part == 'rates':
        lines = rates()
    else:
        lines = machine(command, args.out / 'machine', images)
    print('\n'.join(lines))


if __name__ == '__main__':
    main()

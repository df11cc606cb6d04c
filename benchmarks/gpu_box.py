"""Estimate images/s of a machine with GPUs: counted FLOPs, measured CPU time, and assumptions.

    python benchmarks/gpu_box.py --cpu-ms 230 [--utilization 0.4]

CPU time per image is what `benchmarks/pipeline.py` prints for the stages behind the networks.
No figure of it was measured on a GPU.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

INPUT_HW = (480, 480)  # input of the features
PHOTO_HW = (480, 640)  # input of the depth network: COCO's usual size
NUM_PATCHES = 3600
IMAGES = 1_281_167  # ImageNet's training set


@dataclass(frozen=True)
class Box:
    """A machine."""

    name: str
    gpus: int
    cores: int


BOXES = (Box('1 H100, 16 cores', 1, 16), Box('8 H100, 128 cores', 8, 128))


def main() -> None:
    """Print the table."""
    args = parse_args()
    flops = {
        'ViT-B/8 to the keys': vit_flops('base'),
        'ViT-S/8 to the keys': vit_flops('deit-small'),
        'ZoeDepth': zoe_flops(),
        'affinity (float32)': 2 * NUM_PATCHES**2 * 768,
    }
    for name, count in flops.items():
        print(f'{name}: {count / 1e9:.0f} GFLOP per image')
    table = Table(
        title=f'Images/s at {args.utilization:.0%} of {args.peak:.0f} TFLOP/s in bf16 and '
        f'{args.peak_fp32:.0f} in float32'
    )
    for column in ('machine', 'networks', 'GPUs', 'cores', 'limit', 'images/s', 'ImageNet, h'):
        table.add_column(column)
    for box in BOXES:
        for vit in ('ViT-B/8', 'ViT-S/8'):
            table.add_row(*row(box, vit, flops, args))
    Console(width=120).print(table)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--cpu-ms', type=float, required=True, help='CPU time of an image on one core'
    )
    parser.add_argument('--read-ms', type=float, default=9.0, help='decode and resize (default 9)')
    parser.add_argument('--peak', type=float, default=989.0, help='TFLOP/s in bf16 (default 989)')
    parser.add_argument('--peak-fp32', type=float, default=67.0, help='TFLOP/s (default 67)')
    parser.add_argument(
        '--half-depth', action='store_true', help='ZoeDepth in bf16 too (depth.half=True)'
    )
    parser.add_argument(
        '--utilization', type=float, default=0.35, help='share of the peak (default 0.35)'
    )
    parser.add_argument(
        '--slower-core',
        type=float,
        default=1.0,
        help='CPU time of a core over that of the measured core',
    )
    return parser.parse_args()


def vit_flops(arch: str) -> int:
    """Count the FLOPs of a ViT up to the keys of its last block."""
    from cuts3d_mm.labellers.features.vit import ViTKeyFeatures

    features = ViTKeyFeatures({'arch': arch, 'patch_size': 8, 'img_size': 224})
    batch = torch.zeros((1, 3, *INPUT_HW), device='meta')
    features.network.to('meta')
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features._part(batch)
    return int(counter.get_total_flops())


def zoe_flops() -> int:
    """Count the FLOPs of ZoeDepth (BEiT-L) at the size that its processor brings a photo to."""
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation

    with torch.device('meta'):
        network = ZoeDepthForDepthEstimation(ZoeDepthConfig()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(pixel_values=torch.zeros(1, 3, 384, 512))
    return int(counter.get_total_flops())


def row(box: Box, vit: str, flops: dict[str, int], args: argparse.Namespace) -> list[str]:
    """One machine with one ViT."""
    half, full = flops[f'{vit} to the keys'], flops['affinity (float32)']
    half += args.half_depth * flops['ZoeDepth']
    full += (not args.half_depth) * flops['ZoeDepth']
    gpu_s = half / (args.utilization * args.peak * 1e12)
    gpu_s += full / (args.utilization * args.peak_fp32 * 1e12)
    cpu_s = args.slower_core * (args.cpu_ms + args.read_ms) / 1e3
    rates = {'GPUs': box.gpus / gpu_s, 'cores': box.cores / cpu_s}
    limit = min(rates, key=lambda part: rates[part])
    hours = IMAGES / rates[limit] / 3600
    figures = [f'{rates[part]:.0f}/s' for part in ('GPUs', 'cores')]
    return [box.name, f'{vit}, ZoeDepth', *figures, limit, f'{rates[limit]:.0f}', f'{hours:.1f}']


if __name__ == '__main__':
    main()

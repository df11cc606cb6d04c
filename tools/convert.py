"""Convert weights of detectron2 and DINO, and pseudo-labels of CutLER, CuVLER and CutS3D.

Examples:
    cuts3d convert labels labels labels.json
    cuts3d convert labels labels.json labels-2
    cuts3d convert detectron2 cutler_cascade_final.pth cutler.pth
    cuts3d convert dino dino_RN50_pretrain_d2_format.pkl dino.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuts3d_mm.cli import (
    LABELS_HELP,
    labels_path,
    local_place,
    make_parser,
    report_refused,
    run_command,
    weights_location,
)

DETECTORS = {
    'cascade': 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py',
    'standard': 'cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet.py',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    kinds = parser.add_subparsers(
        dest='kind', required=True, metavar='detectron2|dino|labels', help='what to convert:'
    )
    converters = add_kind(
        kinds, 'detectron2', 'R-CNN checkpoint of CutLER, CuVLER or CutS3D, to MMDetection'
    )
    add_weights(converters)
    converters.add_argument(
        '--reverse', action='store_true', help='from MMDetection to detectron2'
    )
    dino = add_kind(
        kinds, 'dino', 'DINO, DINOv2 or DiffNCuts backbone, to a ViT of MMPretrain or a ResNet'
    )
    add_weights(dino)
    labels = add_kind(kinds, 'labels', 'COCO JSON of pseudo-labels to a label store, or back')
    labels.add_argument('--crowd')
    labels.add_argument('source', type=labels_path, metavar='LABELS', help=LABELS_HELP)
    labels.add_argument(
        'target',
        type=local_place,
        metavar='OUT',
        help='file to write from a label store, or label store to write from a JSON',
    )
    return parser.parse_args()


def add_kind(kinds: Any, name: str, what: str) -> argparse.ArgumentParser:
    """Add a kind of conversion, with its own lines of the examples."""
    lines = [line for line in (__doc__ or '').splitlines() if f'convert {name} ' in line]
    epilog = '\n'.join(['Examples:', *lines])
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=what, description=f'Convert: {what}.', epilog=epilog
    )
    return parser


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a conversion of weights: what it reads and writes."""
    parser.add_argument(
        'source',
        type=weights_location,
        metavar='CHECKPOINT',
        help='weights, .pth or .pkl: file, https:// or hf:// location',
    )
    parser.add_argument(
        'target', type=local_place, metavar='OUT', help='file to write, .pth or .safetensors'
    )


def main() -> int | None:
    """Run the command."""
    args = parse_args()
    convert: Callable[[argparse.Namespace], int | None] = {
        'detectron2': convert_detectron2,
        'dino': convert_dino,
        'labels': convert_labels,
    }[args.kind]
    return convert(args)


def convert_detectron2(args: argparse.Namespace) -> None:
    """Convert a detector, in the direction asked for."""
    from cuts3d_mm.configs import load_config
    from cuts3d_mm.engine.runner import build_detector
    from cuts3d_mm.labels.coco_json import DATASET_META
    from cuts3d_mm.weights import converters, read_state, require_tensors
    from cuts3d_mm.weights.checkpoints import check_weights_fit, write_checkpoint

    content = read_state(args.source).content
    inner = content.get('state_dict' if args.reverse else 'model', content)
    weights = require_tensors(inner, args.source)
    architecture = converters.architecture_of(weights)
    if args.reverse:
        renamed = converters.to_detectron2(weights)
        wrapper: dict[str, Any] = {'model': None, '__author__': 'cuts3d_mm'}
    else:
        renamed = converters.from_detectron2(weights)
        network = build_detector(load_config(DETECTORS[architecture], []))
        check_weights_fit(renamed.weights, network.state_dict())
        wrapper = {'state_dict': None, 'meta': {'dataset_meta': DATASET_META}}
    write_checkpoint(args.target, renamed.weights, wrapper)
    report(renamed, args.target)
    if not args.reverse:
        print(f'config: {DETECTORS[architecture]}')


def convert_dino(args: argparse.Namespace) -> None:
    """Convert a backbone."""
    from cuts3d_mm.weights import read_state
    from cuts3d_mm.weights.checkpoints import write_checkpoint
    from cuts3d_mm.weights.converters import convert_backbone

    renamed = convert_backbone(read_state(args.source).content)
    write_checkpoint(args.target, renamed.weights, {'state_dict': None})
    report(renamed, args.target)


def convert_labels(args: argparse.Namespace) -> int:
    """Convert a label store to a JSON, or a JSON to a label store."""
    from cuts3d_mm.labels.coco import export_store, read_coco
    from cuts3d_mm.labels.record import with_safe_name
    from cuts3d_mm.labels.store import write_store

    if args.source.is_dir():
        exported = export_store(args.source, args.target)
        print(f'{exported.num_images} images -> {args.target}')
        return report_refused(exported.refused)
    records = [with_safe_name(record) for record in read_coco(args.source, args.crowd)]
    counts = write_store(args.target, sorted(records, key=lambda record: record.name))
    print(f'{counts.images} images -> {args.target}')
    return report_refused([record.failure for record in records if record.failure is not None])


def report(renamed: Any, target: Path) -> None:
    """Say what became of the weights."""
    print(f'{len(renamed.weights)} weights -> {target}')
    if renamed.left_out:
        print(f'left out, since nothing reads them there: {", ".join(renamed.left_out)}')


if __name__ == '__main__':
    run_command(main)

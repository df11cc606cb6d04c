"""Convert weights of detectron2 and DINO, and pseudo-labels of CutLER, CuVLER and CutS3D."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuts3d_mm.cli import make_parser, report_refused, run_command

DETECTORS = {
    'cascade': 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py',
    'standard': 'cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet.py',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='detectron2|dino|labels')
    detectron2 = kinds.add_parser(
        'detectron2', help='R-CNN checkpoint of CutLER, CuVLER or CutS3D -> MMDetection'
    )
    detectron2.add_argument('source', help='a file, https:// or hf:// location; .pth or .pkl')
    detectron2.add_argument('target', type=Path, help='file to write, .pth or .safetensors')
    detectron2.add_argument('--reverse', action='store_true', help='MMDetection -> detectron2')
    dino = kinds.add_parser(
        'dino', help='DINO, DINOv2 or DiffNCuts backbone -> mmpretrain ViT, MMDetection ResNet'
    )
    dino.add_argument('source', help='a file, https:// or hf:// location; .pth or .pkl')
    dino.add_argument('target', type=Path, help='file to write, .pth or .safetensors')
    labels = kinds.add_parser('labels', help='COCO JSON of pseudo-labels <-> label store')
    labels.add_argument('source', type=Path, help='JSON file, or label store')
    labels.add_argument('target', type=Path, help='label store to make, or JSON file')
    return parser.parse_args()


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
    from cuts3d_mm.labels.coco import DATASET_META
    from cuts3d_mm.weights import read_state, require_tensors
    from cuts3d_mm.weights.converters import detectron2
    from cuts3d_mm.weights.fit import check_weights_fit
    from cuts3d_mm.weights.write import write_checkpoint

    content = read_state(args.source).content
    inner = content.get('state_dict' if args.reverse else 'model', content)
    weights = require_tensors(inner, args.source)
    architecture = detectron2.architecture_of(weights)
    if args.reverse:
        renamed = detectron2.to_detectron2(weights)
        wrapper: dict[str, Any] = {'model': None, '__author__': 'cuts3d_mm'}
    else:
        renamed = detectron2.from_detectron2(weights)
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
    from cuts3d_mm.weights.converters.dino import convert_backbone
    from cuts3d_mm.weights.write import write_checkpoint

    renamed = convert_backbone(read_state(args.source).content)
    write_checkpoint(args.target, renamed.weights, {'state_dict': None})
    report(renamed, args.target)


def convert_labels(args: argparse.Namespace) -> int:
    """Convert labels, in the direction that the source tells."""
    from cuts3d_mm.labels.coco import read_coco
    from cuts3d_mm.labels.export import export_store
    from cuts3d_mm.labels.record import with_safe_name
    from cuts3d_mm.labels.store import write_store

    if args.source.is_dir():
        exported = export_store(args.source, args.target)
        print(f'{exported.num_images} images -> {args.target}')
        return report_refused(exported.refused)
    records = [with_safe_name(record) for record in read_coco(args.source)]
    counts = write_store(args.target, sorted(records, key=lambda record: record.name))
    print(f'{counts.images} images -> {args.target}')
    return report_refused([one.failure for one in records if one.failure is not None])


def report(renamed: Any, target: Path) -> None:
    """Say what became of the weights."""
    print(f'{len(renamed.weights)} weights -> {target}')
    if renamed.left_out:
        print(f'left out, of no use there: {", ".join(renamed.left_out)}')


if __name__ == '__main__':
    run_command(main)

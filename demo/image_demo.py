"""Outline every object in one photo, by a detector that was trained without labels.

python demo/image_demo.py PHOTO OWNER/REPO
python demo/image_demo.py PHOTO CONFIG --weights CHECKPOINT
"""

from __future__ import annotations

import argparse

from cuts3d_mm.inference import CutS3DInferencer


def main() -> None:
    """Detect in the photo and write the picture into `outputs/vis`."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('photo', help='a file, folder or URL')
    parser.add_argument('model', help='owner/repo on the Hugging Face Hub, a folder, or a config')
    parser.add_argument('--weights', help='with a config: a file, https:// or hf:// location')
    parser.add_argument('--out', default='outputs', help='default outputs')
    args = parser.parse_args()
    inferencer = CutS3DInferencer(args.model, args.weights)
    inferencer(args.photo, out_dir=args.out)


if __name__ == '__main__':
    main()

"""Average precision of made-up detections by both libraries: CPU seconds and equality.

python benchmarks/evaluation.py [--images 5000] [--per-image 100]
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.evaluation.average_precision import KINDS, class_agnostic_ap, run_evaluation
from cuts3d_mm.evaluation.label_scores import scores_by_count

HW = (120, 160)
LIBRARIES = 'faster_coco_eval', 'pycocotools'


def main() -> None:
    """Print the seconds of each library, and how far their scores are apart."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--per-image', type=int, default=100, help='detections of an image')
    args = parser.parse_args()
    truth, found = make_up(args.images, args.per_image, np.random.default_rng(0))
    scores: dict[str, list[float]] = {}
    for library in LIBRARIES:
        if library == 'pycocotools':
            sys.modules['faster_coco_eval'] = None  # type: ignore[assignment]
        for kind in KINDS:
            start = time.process_time()
            values = class_agnostic_ap(truth, found, [kind])[kind]
            print(f'{library:18s}{kind:6s}{time.process_time() - start:7.1f} CPU s')
            scores.setdefault(library, []).extend(values.values())
        start = time.process_time()
        groups = scores_by_count(truth, {'segm': run_evaluation(truth, found, 'segm')})
        print(f'{library:18s}segm, and by count {time.process_time() - start:7.1f} CPU s')
        scores[library] += [v for _, one in groups.values() for v in one['segm'].values()]
    difference = np.subtract(*scores.values())
    print(f'{len(difference)} scores, largest difference {np.abs(difference).max():.1e}')


def make_up(
    num_images: int, per_image: int, rng: np.random.Generator
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotate ellipses, and detect them at other places and with scores that often tie."""
    rows, columns = np.mgrid[: HW[0], : HW[1]]

    def ellipse() -> dict[str, Any]:
        (y, x), (b, a) = rng.uniform((0, 0), HW), rng.uniform(4, 40, 2)
        mask = ((rows - y) / b) ** 2 + ((columns - x) / a) ** 2 <= 1
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        box = [float(value) for value in coco_mask.toBbox(code)]
        return {'segmentation': code, 'bbox': box, 'area': float(coco_mask.area(code))}

    shapes = [ellipse() for _ in range(2000)]
    images = [{'id': i, 'height': HW[0], 'width': HW[1]} for i in range(num_images)]
    annotations, detections = [], []
    for index in range(num_images):
        true = rng.choice(len(shapes), 1 + rng.poisson(6))
        annotations += [{**shapes[k], 'image_id': index, 'iscrowd': 0} for k in true]
        for k in (*true[::2], *rng.choice(len(shapes), per_image - len(true[::2]))):
            score = float(np.round(rng.random(), 2))
            one = {key: shapes[k][key] for key in ('segmentation', 'bbox')}
            detections.append({**one, 'image_id': index, 'score': score})
    numbered = [{**one, 'id': number} for number, one in enumerate(annotations, 1)]
    return {'images': images, 'annotations': numbered}, detections


if __name__ == '__main__':
    main()

"""Labels of one image in, masks with confidence out."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence_map import CONFIDENCE_STEPS, doubt_of_grid
from cuts3d_mm.labels.record import decode_confidence
from cuts3d_mm.registry import TRANSFORMS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks


@TRANSFORMS.register_module()
class LoadPseudoLabels(LoadAnnotations):
    """Load boxes, labels and bitmap masks, the masks with their Spatial Confidence.

    Annotations without confidence, of any data set, are taken as certain.

    Required Keys: height, width, instances, ori_shape. Added keys: gt_bboxes,
    gt_bboxes_labels, gt_ignore_flags, gt_masks (`ConfidenceBitmapMasks`).

    Args:
        confidence (str): `map`: the confidence of each pixel; `score`: the score of the
            instance in all of its pixels (paper Table 5b, and CuVLER); `ones`: none.
            Defaults to `map`.
        min_confidence (float): Smallest confidence, in [0, 1]; raising it over that of the
            labels is the ablation of paper Table 5c. Defaults to 0.
        align_to_mask (bool): Whether to follow the border of the refined mask instead of that
            of the patches (paper Table 5d). Defaults to False.
    """

    def __init__(
        self,
        confidence: str = 'map',
        min_confidence: float = 0.0,
        align_to_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if confidence not in ('map', 'score', 'ones'):
            raise ValueError(f"confidence must be 'map', 'score' or 'ones', got {confidence!r}")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f'min_confidence must lie in [0, 1], got {min_confidence}')
        super().__init__(with_mask=True, poly2mask=True, **kwargs)
        self.confidence = confidence
        self.min_confidence = min_confidence
        self.align_to_mask = align_to_mask

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the annotations of one image.

        Raises:
            ValueError: the image is not of the size that its labels have.
        """
        labelled_hw = results.get('height'), results.get('width')
        if None not in labelled_hw and tuple(results['ori_shape'][:2]) != labelled_hw:
            raise ValueError(
                f'{results.get("img_path")} must have the size of its labels {labelled_hw} (H, W),'
                f' got {tuple(results["ori_shape"][:2])}; load images as they are stored, with '
                "dict(type='LoadImageFromFile', color_type='color_ignore_orientation')"
            )
        return super().transform(results)

    def _load_masks(self, results: dict[str, Any]) -> None:
        super()._load_masks(results)
        masks = results['gt_masks']
        instances = results.get('instances', [])
        scores = np.array([one.get('score', 1.0) for one in instances], np.float32)
        doubt = np.zeros(masks.masks.shape, np.uint8)
        for index, instance in enumerate(instances):
            doubt[index] = self._doubt_of(instance, masks.masks[index])
        results['gt_masks'] = ConfidenceBitmapMasks(
            masks.masks, masks.height, masks.width, doubt, scores
        )

    def _doubt_of(self, instance: dict[str, Any], mask: NDArray[np.uint8]) -> Any:
        most = round(CONFIDENCE_STEPS * (1 - self.min_confidence))
        if self.confidence == 'score':
            return mask * min(round(CONFIDENCE_STEPS * (1 - instance.get('score', 1.0))), most)
        crop = instance.get('confidence')
        if self.confidence == 'ones' or crop is None:
            return 0
        doubt = doubt_of_grid(decode_confidence(crop), extend=self.align_to_mask)
        resized = cv2.resize(doubt, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        if self.align_to_mask:
            resized = resized * mask
        return np.minimum(resized, most)

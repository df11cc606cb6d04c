"""Load the pseudo-labels of an image: masks with their confidence."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence import (
    CONFIDENCE_STEPS,
    LOWER_BOUND,
    Steps,
    doubt_of_grid,
    raise_to,
    raised_score,
    require_confidence_source,
    steps_of,
)
from cuts3d_mm.algorithm.masks import patches_touched
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
        confidence_source (str): `map`: the confidence of each pixel; `score`: the score of the
            instance in all of its pixels (paper Table 5b, and CuVLER); `none`: labels are
            certain. Defaults to `map`.
        min_confidence (float): Lower bound of a confidence map, in [0, 1], SC_min (paper Table
            5c). The score of an instance, the mean of its map, rises with it. Defaults to 0.5.
        added_by_refinement (str): Pixels that only refinement has added to a mask, which no cut
            has seen: `certain`: 1, as the paper says of all that is outside the map;
            `lower_bound`: `min_confidence`. Not read with `align_to_mask`. Defaults to
            `certain`.
        align_to_mask (bool): Whether the map follows the border of the refined mask instead of
            that of the patches; a pixel off the map then takes the confidence of the nearest
            patch in it (paper Table 5d). Defaults to False.
    """

    def __init__(
        self,
        confidence_source: str = 'map',
        min_confidence: float = LOWER_BOUND,
        added_by_refinement: str = 'certain',
        align_to_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        require_confidence_source(confidence_source)
        if not 0 <= min_confidence <= 1:
            raise ValueError(f'min_confidence must lie in [0, 1], got {min_confidence}')
        if added_by_refinement not in ('certain', 'lower_bound'):
            raise ValueError(
                f"added_by_refinement must be 'certain' or 'lower_bound', got "
                f'{added_by_refinement!r}'
            )
        super().__init__(with_mask=True, poly2mask=True, **kwargs)
        self.confidence_source = confidence_source
        self.lower_bound = steps_of(min_confidence)
        self.added_by_refinement = added_by_refinement
        self.align_to_mask = align_to_mask

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the annotations of one image.

        Raises:
            ValueError: the image is not of the size that its labels have, or the labels were
                raised to a higher bound than `min_confidence` when they were made.
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
            grid = self._map_of(instance, results.get('img_path'))
            if grid is not None:
                scores[index] = raised_score(float(scores[index]), grid, self.lower_bound)
            doubt[index] = self._doubt_of(grid, masks.masks[index], scores[index])
        results['gt_masks'] = ConfidenceBitmapMasks(
            masks.masks, masks.height, masks.width, doubt, scores
        )

    def _map_of(self, instance: dict[str, Any], path: Any) -> Steps | None:
        """The confidence map of an instance as it is stored; None where it has none."""
        crop = instance.get('confidence')
        if crop is None:
            return None
        if self.confidence_source != 'none' and crop.lower_bound > self.lower_bound:
            raise ValueError(
                f'min_confidence must be at least {crop.lower_bound / CONFIDENCE_STEPS:.2f} for '
                f'the labels of {path}, whose confidence was raised to it when they were made, '
                f'got {self.lower_bound / CONFIDENCE_STEPS:.2f}; label the images again for a '
                'lower one'
            )
        return decode_confidence(crop)

    def _doubt_of(self, grid: Steps | None, mask: NDArray[np.uint8], score: float) -> Any:
        if self.confidence_source == 'score':
            return mask * np.uint8(CONFIDENCE_STEPS - steps_of(score))
        if self.confidence_source == 'none' or grid is None:
            return 0
        doubt = doubt_of_grid(raise_to(grid, self.lower_bound), extend=self.align_to_mask)
        if self.added_by_refinement == 'lower_bound' and not self.align_to_mask:
            added = patches_touched(mask > 0, grid.shape) & (grid == 0)
            doubt[added] = CONFIDENCE_STEPS - self.lower_bound
        resized = cv2.resize(doubt, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return resized * mask if self.align_to_mask else resized

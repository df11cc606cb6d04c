"""Transforms that read the confidence of pseudo-labels, and paste by it."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import CopyPaste, LoadAnnotations
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence import (
    CONFIDENCE_STEPS,
    LOWER_BOUND,
    Steps,
    blend,
    doubt_of_grid,
    may_be_pasted,
    paste_alpha,
    raised_score,
    require_confidence_source,
    steps_of,
)
from cuts3d_mm.algorithm.masks import patches_touched
from cuts3d_mm.arrays import Float, Index
from cuts3d_mm.labels.record import decode_confidence, turning_advice
from cuts3d_mm.registry import TRANSFORMS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks

Window = tuple[slice, slice]  # rows and columns of an image


@TRANSFORMS.register_module()
class LoadPseudoLabels(LoadAnnotations):
    """Load boxes, labels and bitmap masks; the masks carry doubt, 1 - Spatial Confidence.

    Annotations without confidence, as in most data sets, are certain.

    Required keys: ori_shape, and instances with bbox, bbox_label, ignore_flag, mask and, where
    they are known, score and confidence; height and width are optional. Added keys: gt_bboxes
    (HorizontalBoxes[torch.float32]), gt_bboxes_labels (np.int64), gt_ignore_flags (bool), gt_masks
    (ConfidenceBitmapMasks).

    Args:
        confidence_source (str): `map`: the confidence of each pixel; `score`: the score of the
            instance in all of its pixels (paper Table 5b, and CuVLER); `none`: labels are
            certain. Defaults to `map`.
        min_confidence (float): Lower bound of a confidence map, in [0, 1], SC_min (paper Table
            5c). The score of an instance, the mean of its map, rises with it. Defaults to 0.5.
        added_by_refinement (str): Confidence of the pixels that refinement has added to a mask,
            which no cut has seen: `certain`: 1, as the paper says of all that is outside the
            map; `lower_bound`: `min_confidence`. Not read with `align_to_mask`. Defaults to
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
        """Load the annotations of an image.

        Raises:
            ValueError: the image does not have the size of its labels, or the labels were
                raised to a higher bound than `min_confidence` when they were made.
        """
        labelled_hw = results.get('height'), results.get('width')
        if None not in labelled_hw and tuple(results['ori_shape'][:2]) != labelled_hw:
            raise ValueError(
                f'{results.get("img_path")} must have the size of its labels {labelled_hw} (H, W),'
                f' got {tuple(results["ori_shape"][:2])}; load images as they are stored, with '
                "dict(type='LoadImageFromFile', color_type='color_ignore_orientation')"
                + turning_advice(labelled_hw, results['ori_shape'][:2])
            )
        return super().transform(results)

    def _load_masks(self, results: dict[str, Any]) -> None:
        super()._load_masks(results)
        masks = results['gt_masks']
        instances = results.get('instances', [])
        scores = np.array([instance.get('score', 1.0) for instance in instances], np.float32)
        doubt = np.zeros(masks.masks.shape, np.uint8)
        for index, instance in enumerate(instances):
            grid = self._stored_map(instance, results.get('img_path'))
            if grid is not None:
                scores[index] = raised_score(float(scores[index]), grid, self.lower_bound)
            doubt[index] = self._doubt_of(grid, masks.masks[index], scores[index])
        results['gt_masks'] = ConfidenceBitmapMasks(
            masks.masks, masks.height, masks.width, doubt, scores
        )

    def _stored_map(self, instance: dict[str, Any], path: Any) -> Steps | None:
        """Confidence map of an instance as the labels store it; None if they store no map."""
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
        """Doubt of each pixel, (H, W) uint8 in steps of 1/255, from the confidence of a label."""
        if self.confidence_source == 'score':
            return mask * np.uint8(CONFIDENCE_STEPS - steps_of(score))
        if self.confidence_source == 'none' or grid is None:
            return 0
        doubt = doubt_of_grid(grid, self.lower_bound, extend=self.align_to_mask)
        if self.added_by_refinement == 'lower_bound' and not self.align_to_mask:
            added = patches_touched(mask > 0, grid.shape) & (grid == 0)
            doubt[added] = CONFIDENCE_STEPS - self.lower_bound
        resized = cv2.resize(doubt, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return resized * mask if self.align_to_mask else resized


class _DoubtPaste(CopyPaste):
    """Base of both copy-pastes, which select instances in different ways.

    The source image is scaled to a share of the target's size, whatever its own size, and placed
    at random inside the target. An instance that would cover too much of an existing instance is
    left out; pixels that pasted instances cover are cut from the existing masks (CutLER's rules).

    The number of pasted instances is drawn as in CutLER, whatever the selection: uniformly from 1
    to n - 1 for n instances.
    """

    # A list of our own: the decorator would add the names of our methods to CopyPaste's.
    _methods_with_randomness: ClassVar[list[str]] = ['get_indexes']

    def __init__(
        self,
        alpha: bool = True,
        paste_all: bool = False,
        scale_range: tuple[float, float] = (0.3, 1.0),
        max_cover: float = 0.5,
        max_num_pasted: int = 100,
    ) -> None:
        if not 0 < scale_range[0] <= scale_range[1] <= 1:
            raise ValueError(f'scale_range must be 0 < low <= high <= 1, got {scale_range}')
        if not 0 < max_cover <= 1:
            raise ValueError(f'max_cover must lie in (0, 1], got {max_cover}')
        super().__init__(max_num_pasted=max_num_pasted)
        self.alpha = alpha
        self.paste_all = paste_all
        self.scale_range = scale_range
        self.max_cover = max_cover

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paste instances of the other image.

        Raises:
            ValueError: `mix_results` or `gt_masks` is missing.
        """
        others = results.get('mix_results') or []
        if len(others) != 1:
            raise ValueError(
                f'{type(self).__name__} must get one other image in mix_results, got '
                f'{len(others)}; put it into the pipeline of a data set of '
                "type='cuts3d_mm.MixedImagesDataset'"
            )
        source = others[0]
        for sample in (results, source):
            if sample.get('gt_masks') is None:
                raise ValueError(
                    f'{type(self).__name__} must get gt_masks, got None; load annotations by '
                    "dict(type='cuts3d_mm.LoadPseudoLabels')"
                )
        masks = ConfidenceBitmapMasks.certain(source['gt_masks'])
        trained_on = np.flatnonzero(~np.asarray(source['gt_ignore_flags'], bool))
        chosen = trained_on[self._select(masks.scores[trained_on])]
        if len(chosen):
            self._paste(results, source, masks[chosen], chosen)
        return results

    def _select(self, scores: Float) -> Index:
        """Choose the instances of the source to paste, by their scores; return their indices."""
        # Not an abstractmethod: `cache_randomness` cannot override one.
        raise NotImplementedError

    @cache_randomness
    def _draw_count(self, available: int) -> int:
        """Draw the number of available instances to paste."""
        if available == 0:
            return 0
        count = available if self.paste_all else np.random.randint(1, max(available, 2))
        return min(count, self.max_num_pasted)

    @cache_randomness
    def _draw_window(self, target_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw the place of the scaled source: left, top, width, height in pixels."""
        scale = np.random.uniform(*self.scale_range)
        height, width = (max(1, round(scale * side)) for side in target_hw)
        top = np.random.randint(target_hw[0] - height + 1)
        left = np.random.randint(target_hw[1] - width + 1)
        return left, top, width, height

    def _paste(
        self,
        results: dict[str, Any],
        source: dict[str, Any],
        masks: ConfidenceBitmapMasks,
        chosen: Index,
    ) -> None:
        """Paste chosen instances: image, masks, boxes and labels of the target change."""
        left, top, width, height = self._draw_window(results['img'].shape[:2])
        rows, columns = window = np.s_[top : top + height, left : left + width]
        existing = ConfidenceBitmapMasks.certain(results['gt_masks'])
        inside = existing.masks[:, rows, columns] > 0
        areas = np.array([np.count_nonzero(mask) for mask in existing.masks])
        pasted = masks.resize((height, width))
        fits = may_be_pasted(pasted.masks > 0, inside, areas, self.max_cover)
        if not fits.any():
            return
        pasted, chosen = pasted[fits], chosen[fits]
        is_pasted = pasted.masks > 0
        alpha = paste_alpha(is_pasted, pasted.doubt if self.alpha else np.zeros_like(pasted.doubt))
        results['img'] = _blend_into(results['img'], source['img'], alpha, window)

        covered = np.count_nonzero(inside & is_pasted.any(axis=0), axis=(1, 2))
        kept = np.flatnonzero((covered == 0) | (covered < areas))
        joined = _join_masks(existing, kept, pasted, window)
        boxes = results['gt_bboxes'][kept].clone()
        cut = np.flatnonzero(covered[kept])
        if len(cut):
            boxes.tensor[cut] = joined[cut].get_bboxes(type(boxes)).tensor
        added = pasted.get_bboxes(type(boxes))
        added.translate_((left, top))
        if isinstance(results['gt_masks'], ConfidenceBitmapMasks):
            results['gt_masks'] = joined
        else:  # masks without doubt stay so: a head that needs doubt must notice
            results['gt_masks'] = BitmapMasks(joined.masks, joined.height, joined.width)
        results['gt_bboxes'] = boxes.cat([boxes, added])
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = np.concatenate([results[key][kept], source[key][chosen]])


def _blend_into(
    target: NDArray[Any], source: NDArray[Any], alpha: Steps, window: Window
) -> NDArray[Any]:
    """Scale a source to a window of a copy of the target, and blend it there (Eq. 5)."""
    image = np.array(target)
    rows, columns = (np.flatnonzero(alpha.any(axis=axis)) for axis in (1, 0))
    if len(rows):  # otherwise no pasted pixel has any confidence
        scaled = cv2.resize(source, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)
        extent = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        place = image[window]
        place[extent] = blend(scaled[extent], place[extent], alpha[extent])
    return image


def _join_masks(
    existing: ConfidenceBitmapMasks, kept: Index, pasted: ConfidenceBitmapMasks, window: Window
) -> ConfidenceBitmapMasks:
    """Append pasted masks to the kept masks, which are cut where pasted masks cover them."""
    rows, columns = window
    count = len(kept)
    shape = count + len(pasted), existing.height, existing.width
    masks, doubt = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for index, old in enumerate(kept):
        masks[index], doubt[index] = existing.masks[old], existing.doubt[old]
    masks[:count, rows, columns] *= ~pasted.masks.any(axis=0)
    masks[count:, rows, columns] = pasted.masks
    doubt[count:, rows, columns] = pasted.doubt
    return ConfidenceBitmapMasks(
        masks,
        existing.height,
        existing.width,
        doubt,
        np.concatenate([existing.scores[kept], pasted.scores]),
        np.concatenate([existing.is_pasted[kept], np.ones(len(pasted), bool)]),
    )


@TRANSFORMS.register_module()
class ConfidentCopyPaste(_DoubtPaste):
    """Paste the instances of another image that have the highest mean confidence (Sec. 3.4).

    Required keys: img, gt_bboxes (BaseBoxes[torch.float32]), gt_bboxes_labels (np.int64),
    gt_ignore_flags (bool), gt_masks (ConfidenceBitmapMasks or BitmapMasks), mix_results
    (list[dict]). All but the last are modified.

    Args:
        alpha (bool): Blend by the confidence (Eq. 5); False pastes without blending. Defaults
            to True.
        paste_all (bool): Paste all instances instead of a drawn number, as CuVLER does in its
            in-domain round. Defaults to False.
        scale_range (tuple[float]): Sides of the source as a share of the target's, in (0, 1].
            Defaults to (0.3, 1.0).
        max_cover (float): Share of an existing instance that may be covered, in (0, 1].
            Defaults to 0.5.
        max_num_pasted (int): Largest number of pasted instances of an image. Defaults to 100.
    """

    def _select(self, scores: Float) -> Index:
        return np.argsort(-scores, kind='stable')[: self._draw_count(len(scores))]


@TRANSFORMS.register_module()
class AlphaBlendCopyPaste(_DoubtPaste):
    """Paste random instances of another image.

    Keys and arguments are those of `ConfidentCopyPaste`.
    """

    @cache_randomness
    def _select(self, scores: Float) -> Index:
        count = self._draw_count(len(scores))
        if count == 0:
            return np.empty(0, np.int64)
        return np.random.choice(len(scores), count, replace=False)

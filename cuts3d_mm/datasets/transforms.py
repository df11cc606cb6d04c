"""Transforms that read and use the confidence of pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import CopyPaste, LoadAnnotations
from mmdet.structures.bbox import autocast_box_type
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
from cuts3d_mm.labels.record import decode_confidence
from cuts3d_mm.registry import TRANSFORMS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks

_NOTHING: Index = np.empty(0, np.int64)


class _ConfidencePaste(CopyPaste):
    """What both copy-pastes share; they differ in which instances they select.

    The source image is scaled to a share of the target's size, which need not be its own, and
    placed at random inside it. An instance that would cover too much of an existing one is
    left out; what the others cover is cut from the existing masks (CutLER's rules).

    Required keys: img, gt_bboxes, gt_bboxes_labels, gt_ignore_flags, gt_masks, mix_results.
    Modified keys: all but mix_results.

    How many are pasted is drawn as in CutLER, whatever the selection: uniformly from 1 to one
    less than there are.

    Args:
        alpha (bool): Blend by the confidence (Eq. 5); otherwise paste hard. Defaults to True.
        paste_all (bool): Paste all instances instead of drawing how many, as CuVLER does in its
            in-domain round. Defaults to False.
        scale_range (tuple[float]): Sides of the source as a share of the target's, in (0, 1].
            Defaults to (0.3, 1.0).
        max_cover (float): Share of an existing instance that may be covered, in (0, 1].
            Defaults to 0.5.
        max_num_pasted (int): Instances per image at most. Defaults to 100.
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
        if len(results.get('mix_results') or []) != 1:
            raise ValueError(
                f'{type(self).__name__} must get one other image in mix_results, got none; put it '
                "into the pipeline of a data set of type='cuts3d_mm.MixedImagesDataset'"
            )
        source = results['mix_results'][0]
        for one in (results, source):
            if one.get('gt_masks') is None:
                raise ValueError(
                    f'{type(self).__name__} must get gt_masks, got none; load annotations by '
                    "dict(type='cuts3d_mm.LoadPseudoLabels')"
                )
        masks = ConfidenceBitmapMasks.certain(source['gt_masks'])
        chosen = self._select(masks.scores)
        if len(chosen):
            self._paste(results, source, masks[chosen], chosen)
        return results

    def _select(self, scores: Float) -> Index:
        """Index of the source's instances to paste, from their scores."""
        # Not an abstractmethod: `cache_randomness` cannot override one.
        raise NotImplementedError

    @cache_randomness
    def _draw_count(self, available: int) -> int:
        """How many of the available instances to paste."""
        if available == 0:
            return 0
        count = available if self.paste_all else np.random.randint(1, max(available, 2))
        return min(count, self.max_num_pasted)

    @cache_randomness
    def _draw_window(self, target_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the scaled source goes: left, top, width, height in pixels."""
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
        existing = ConfidenceBitmapMasks.certain(results['gt_masks'])
        left, top, width, height = self._draw_window(results['img'].shape[:2])
        window = np.s_[top : top + height, left : left + width]
        scaled = masks.resize((height, width))
        inside = existing.masks[:, window[0], window[1]] > 0
        areas = np.array([np.count_nonzero(mask) for mask in existing.masks])
        kept = may_be_pasted(scaled.masks > 0, inside, areas, self.max_cover)
        if not kept.any():
            return
        scaled, chosen = scaled[kept], chosen[kept]
        pasted = scaled.masks > 0
        doubt = scaled.doubt if self.alpha else np.zeros_like(scaled.doubt)
        share = paste_alpha(pasted, doubt)
        piece = cv2.resize(source['img'], (width, height), interpolation=cv2.INTER_LINEAR)
        part = _extent(share)
        results['img'] = np.array(results['img'])
        target = results['img'][window]
        target[part] = blend(piece[part], target[part], share[part])
        covered = np.count_nonzero(inside & pasted.any(axis=0), axis=(1, 2))
        join_pasted(results, source, Pasted(scaled, chosen, window, covered, areas))


@TRANSFORMS.register_module()
class ConfidentCopyPaste(_ConfidencePaste):
    """Paste the instances of highest score, the mean confidence, of another image (Sec. 3.4)."""

    def _select(self, scores: Float) -> Index:
        return np.argsort(-scores, kind='stable')[: self._draw_count(len(scores))]


@TRANSFORMS.register_module()
class AlphaBlendCopyPaste(_ConfidencePaste):
    """Paste random instances of another image."""

    @cache_randomness
    def _select(self, scores: Float) -> Index:
        count = self._draw_count(len(scores))
        return np.random.choice(len(scores), count, replace=False) if count else _NOTHING


def _extent(share: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns in which anything is pasted."""
    rows, columns = (np.flatnonzero(share.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:  # without any confidence
        return np.s_[:0, :0]
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@dataclass(frozen=True)
class Pasted:
    """What is pasted, and where it goes."""

    masks: ConfidenceBitmapMasks  # (K) of the window's size
    chosen: Index  # (K,) of the source's instances
    window: tuple[slice, slice]  # rows and columns of the target
    covered: NDArray[Any]  # (N,) pixels that each existing instance loses
    areas: NDArray[Any]  # (N,) pixels that each existing instance had


def join_pasted(results: dict[str, Any], source: dict[str, Any], pasted: Pasted) -> None:
    """Cut what is covered, drop what has vanished, append what is pasted."""
    existing = ConfidenceBitmapMasks.certain(results['gt_masks'])
    kept = np.flatnonzero((pasted.covered == 0) | (pasted.covered < pasted.areas))
    joined = _joined_masks(existing, kept, pasted)
    boxes = results['gt_bboxes'][kept].clone()
    cut = np.flatnonzero(pasted.covered[kept])
    if len(cut):
        boxes.tensor[cut] = joined[cut].get_bboxes(type(boxes)).tensor
    added = pasted.masks.get_bboxes(type(boxes))
    added.translate_((pasted.window[1].start, pasted.window[0].start))
    results['gt_bboxes'] = boxes.cat([boxes, added])
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        results[key] = np.concatenate([results[key][kept], source[key][pasted.chosen]])
    results['gt_masks'] = joined


def _joined_masks(
    existing: ConfidenceBitmapMasks, kept: Index, pasted: Pasted
) -> ConfidenceBitmapMasks:
    """Join masks of two sizes on one canvas, each copied once."""
    rows, columns = pasted.window
    count = len(kept)
    shape = count + len(pasted.masks), existing.height, existing.width
    masks, doubt = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for index, old in enumerate(kept):
        masks[index], doubt[index] = existing.masks[old], existing.doubt[old]
    masks[:count, rows, columns] *= ~pasted.masks.masks.any(axis=0)
    masks[count:, rows, columns] = pasted.masks.masks
    doubt[count:, rows, columns] = pasted.masks.doubt
    return ConfidenceBitmapMasks(
        masks,
        existing.height,
        existing.width,
        doubt,
        np.concatenate([existing.scores[kept], pasted.masks.scores]),
        np.concatenate([existing.is_pasted[kept], np.ones(len(pasted.masks), bool)]),
    )


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
        doubt = doubt_of_grid(grid, self.lower_bound, extend=self.align_to_mask)
        if self.added_by_refinement == 'lower_bound' and not self.align_to_mask:
            added = patches_touched(mask > 0, grid.shape) & (grid == 0)
            doubt[added] = CONFIDENCE_STEPS - self.lower_bound
        resized = cv2.resize(doubt, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return resized * mask if self.align_to_mask else resized

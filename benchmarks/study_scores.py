"""Score cuts on the patch grid against true objects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from study_data import INPUT_HW, StudyImage

from cuts3d_mm.algorithm.crf import refine_to_image
from cuts3d_mm.algorithm.cut_instances import (
    Instance,
    cut_in_3d,
    cut_patches,
    depth_on_grid,
    link_image,
)
from cuts3d_mm.algorithm.masks import component_of, mask_iou
from cuts3d_mm.algorithm.params import CutParams, RefineParams, Similarity

_IOU_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
_AREAS_PX = (32**2, 96**2)  # small, medium and large objects, as in COCO
SIGNALS = (
    'mean confidence',
    'area',
    'mean confidence * sqrt(area)',
    'eigengap',
    'depth step along the border',
    'IoU before and after the CRF',
)


@dataclass(frozen=True)
class ImageScore:
    """How one recipe did on one image."""

    found: NDArray[np.bool_]  # (M, 10) whether an object is matched at each IoU threshold
    is_right: NDArray[np.bool_]  # (K, 10) whether a cut matches an object at each IoU threshold
    best_iou: NDArray[np.float64]  # (M,) best IoU of each object with a cut
    area_px: NDArray[np.float64]  # (M,) area of each object
    cuts: NDArray[np.float64]  # (K, 3) mean confidence, best IoU and patch AUC of each cut
    signals: NDArray[np.float64]  # (K, 6) by SIGNALS; not a number where they were not asked for

    def size_class(self) -> NDArray[np.int64]:
        """0 for small, 1 for medium, 2 for large objects."""
        return np.digitize(self.area_px, _AREAS_PX)


def score_image(
    image: StudyImage,
    features: NDArray,
    depth: NDArray,
    params: CutParams,
    similarity: Similarity = 'cosine',
    with_signals: bool = False,
) -> ImageScore:
    """Cut an image and compare with its objects."""
    objects = image.objects.reshape(len(image.masks), -1)
    area_px = image.masks.sum((1, 2)).astype(float)
    found = cut_patches(link_image(features, depth, params, similarity), params)
    if not found.instances:
        nothing = np.zeros(len(objects))
        empty = np.zeros((0, 3)), np.zeros((0, len(SIGNALS)))
        none = [np.zeros((count, 10), bool) for count in (len(objects), 0)]
        return ImageScore(*none, nothing, area_px, *empty)
    masks = np.array([cut.mask.ravel() for cut in found.instances])
    iou = _iou(objects, masks)
    rows = []
    for index, cut in enumerate(found.instances):
        confidence = cut.confidence.ravel()[masks[index]]
        best = iou[:, index].argmax()
        auc = area_under_curve(confidence, objects[best][masks[index]] > 0.5)
        rows.append((float(confidence.mean()), float(iou[best, index]), auc))
    signals = np.full((len(rows), len(SIGNALS)), np.nan)
    if with_signals:
        grid = depth_on_grid(depth, image.objects.shape[1:], CutParams())
        signals = np.array([_signals_of(cut, grid, image) for cut in found.instances])
    scores = np.array(rows)
    pairs = [_matched(iou, -scores[:, 0], threshold) for threshold in _IOU_THRESHOLDS]
    matched, is_right = (np.stack(flags, axis=1) for flags in zip(*pairs, strict=True))
    return ImageScore(matched, is_right, iou.max(1), area_px, scores, signals)


def change_of_fixed_cuts(
    image: StudyImage,
    features: NDArray,
    depth: NDArray,
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> NDArray[np.float64]:
    """Best IoU of 2D cuts before and after LocalCut, and whether the mask changed, (K, 3).

    Both start from the patches of the semantic mask that no earlier cut holds, and from its
    strongest patch.
    """
    grid_hw = image.objects.shape[1:]
    objects = image.objects.reshape(len(image.masks), -1)
    grid = depth_on_grid(depth, grid_hw, params)
    is_free, rows = np.ones(grid_hw, bool), []
    flat = replace(params, local_cut=None)
    for cut in cut_patches(link_image(features, depth, flat, similarity), flat).instances:
        semantic, vector = cut.semantic_mask & is_free, cut.eigenvector.ravel()
        is_free &= ~cut.mask
        if semantic.any():
            seed = np.unravel_index(
                np.argmax(np.where(semantic, np.abs(cut.eigenvector), -1)), grid_hw
            )
            before = component_of(semantic, seed).ravel()
            after, _ = cut_in_3d(semantic.ravel(), vector, grid, grid_hw, params.local_cut)
            iou = _iou(objects, np.stack([before, after])).max(0)
            rows.append((*iou, (before != after).any()))
    return np.array(rows, float).reshape(-1, 3)


def area_under_curve(values: NDArray, is_positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; not a number where all or none are positive."""
    num_positive, num_negative = is_positive.sum(), (~is_positive).sum()
    if not num_positive or not num_negative:
        return float('nan')
    ranks = rankdata(values)[is_positive].sum()
    return float((ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def _iou(objects: NDArray, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Overlap of (M, N) shares of patches with (K, N) masks, (M, K)."""
    shared = objects.astype(np.float64) @ masks.T
    union = objects.sum(1)[:, None] + masks.sum(1) - shared
    return shared / np.maximum(union, 1e-9)


def _matched(
    iou: NDArray, order_by: NDArray, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match cuts in order, each with the best object that is still free."""
    is_free, is_right = np.ones(len(iou), bool), np.zeros(iou.shape[1], bool)
    for index in np.argsort(order_by, kind='stable'):
        best = int(np.argmax(np.where(is_free, iou[:, index], -1)))
        if is_free[best] and iou[best, index] >= threshold:
            is_free[best], is_right[index] = False, True
    return ~is_free, is_right


def _signals_of(cut: Instance, depth: NDArray, image: StudyImage) -> tuple[float, ...]:
    confidence, area = float(cut.confidence[cut.mask].mean()), float(cut.mask.mean())
    steps = []
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis))
        steps.append(step[np.diff(cut.mask, axis=axis)])
    steps = np.concatenate(steps)
    whole = np.kron(cut.mask, np.ones(np.array(INPUT_HW) // cut.mask.shape, bool))
    params = RefineParams(min_iou=0.0)
    refined = refine_to_image([cut.mask], image.resized, INPUT_HW, params)[0]
    crf_iou = 0.0 if refined is None else mask_iou(refined, whole)
    border = float(np.median(steps)) if steps.size else 0.0
    return confidence, area, confidence * area**0.5, cut.eigengap, border, crf_iou

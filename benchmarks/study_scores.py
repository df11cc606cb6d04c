"""Score cuts on the patch grid against true objects."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from earlier import import_earlier
from numpy.typing import NDArray
from scipy.stats import rankdata
from study_data import INPUT_HW, StudyImage

from cuts3d_mm.algorithm.cut_instances import (
    cut_patches,
    depth_on_grid,
    link_image,
    refine_cuts,
)
from cuts3d_mm.algorithm.local_cut import cut_in_3d
from cuts3d_mm.algorithm.masks import component_of
from cuts3d_mm.algorithm.params import CutParams, Similarity

IOU_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
_AREAS_PX = (32**2, 96**2)  # small, medium and large objects, as in COCO


@dataclass(frozen=True)
class ImageScore:
    """How one recipe did on one image."""

    found: NDArray[np.bool_]  # (M, 10) whether an object is matched at each IoU threshold
    is_right: NDArray[np.bool_]  # (K, 10) whether a cut matches an object at each IoU threshold
    best_iou: NDArray[np.float64]  # (M,) best IoU of each object with a cut
    area_px: NDArray[np.float64]  # (M,) area of each object
    cuts: NDArray[np.float64]  # (K, 4) score, best IoU, patch AUC and share of the grid of a cut

    def size_class(self) -> NDArray[np.int64]:
        """0 for small, 1 for medium, 2 for large objects."""
        return np.digitize(self.area_px, _AREAS_PX)


def score_image(
    image: StudyImage,
    features: NDArray,
    depth: NDArray,
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> ImageScore:
    """Cut an image and compare with its objects; the refinement only takes part in the score."""
    found = cut_patches(link_image(features, depth, params, similarity), params)
    if params.score is not None:
        found = replace(found, resized=image.resized, image_hw=INPUT_HW)
        found = refine_cuts(found, replace(params, refine=replace(params.refine, min_iou=0.0)))
    return compare(image, [(cut.patches, cut.confidence, cut.score) for cut in found.instances])


def score_earlier(
    revision: str, image: StudyImage, features: NDArray, depth: NDArray, similarity: Similarity
) -> ImageScore:
    """The same by the recipe that an earlier revision recommended, with its own code."""
    recipe = _import_once(revision, 'params').CutParams()
    recipe = replace(recipe, refine=replace(recipe.refine, min_iou=0.0))
    cut = _import_once(revision, 'cut_instances').cut_instances
    found = cut(features, depth, image.resized, INPUT_HW, recipe, similarity).instances
    patches = [one.patches if hasattr(one, 'patches') else one.cut.mask for one in found]
    cuts = [(m, one.confidence, one.score) for m, one in zip(patches, found, strict=True)]
    return compare(image, cuts)


_import_once = functools.cache(import_earlier)


def compare(image: StudyImage, cuts: list[tuple[NDArray, NDArray, float]]) -> ImageScore:
    """Compare cuts on the patch grid, each with its confidence and score, with the objects."""
    objects = image.objects.reshape(len(image.masks), -1)
    area_px = image.masks.sum((1, 2)).astype(float)
    if not cuts:
        nothing = np.zeros(len(objects))
        none = [np.zeros((count, 10), bool) for count in (len(objects), 0)]
        return ImageScore(*none, nothing, area_px, np.zeros((0, 4)))
    masks = np.array([patches.ravel() for patches, _, _ in cuts])
    iou = mask_ious(objects, masks)
    rows = []
    for index, (_, confidence, score) in enumerate(cuts):
        best = iou[:, index].argmax()
        is_object = objects[best][masks[index]] > 0.5
        auc = area_under_curve(confidence.ravel()[masks[index]], is_object)
        rows.append((score, float(iou[best, index]), auc, masks[index].mean()))
    scores = np.array(rows)
    pairs = [matched(iou, -scores[:, 0], threshold) for threshold in IOU_THRESHOLDS]
    is_found, is_right = (np.stack(flags, axis=1) for flags in zip(*pairs, strict=True))
    return ImageScore(is_found, is_right, iou.max(1), area_px, scores)


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
            after = cut_in_3d(semantic.ravel(), vector, grid, params.local_cut, params.confidence)[
                -1
            ]
            iou = mask_ious(objects, np.stack([before, after])).max(0)
            rows.append((*iou, (before != after).any()))
    return np.array(rows, float).reshape(-1, 3)


def area_under_curve(values: NDArray, is_positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; not a number where all or none are positive."""
    num_positive, num_negative = is_positive.sum(), (~is_positive).sum()
    if not num_positive or not num_negative:
        return float('nan')
    ranks = rankdata(values)[is_positive].sum()
    return float((ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def mask_ious(objects: NDArray, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Overlap of (M, N) shares of patches with (K, N) masks, (M, K)."""
    shared = objects.astype(np.float64) @ masks.T
    union = objects.sum(1)[:, None] + masks.sum(1) - shared
    return shared / np.maximum(union, 1e-9)


def matched(
    iou: NDArray, order_by: NDArray, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match cuts in order, each with the best object that is still free."""
    is_free, is_right = np.ones(len(iou), bool), np.zeros(iou.shape[1], bool)
    for index in np.argsort(order_by, kind='stable'):
        best = int(np.argmax(np.where(is_free, iou[:, index], -1)))
        if is_free[best] and iou[best, index] >= threshold:
            is_free[best], is_right[index] = False, True
    return ~is_free, is_right

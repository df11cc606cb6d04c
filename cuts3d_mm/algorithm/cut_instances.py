"""Cut the instances of one image: the whole recipe of Sec. 3. Read this file first.

One image is one pure call: link its patches, then propose a cut, judge it, remove its patches and
repeat; at last bring the masks to image size. The same steps run CutS3D and, with
`CutParams.maskcut()`, the 2D baseline MaskCut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Double, Float, Mask, Pixels

from .affinity import PackedLinks, link_patches, spatial_importance
from .crf import refine_to_image
from .depth import normalize_depth, resize_depth
from .local_cut import around_strongest, cut_in_3d, spatial_confidence
from .masks import component_at, mask_iou
from .ncut import Eigenpair, second_eigenvector, split_foreground
from .params import BackgroundParams, CutParams, Similarity
from .score import mask_signals, plane_residual, score_mask


@dataclass(frozen=True)
class Instance:
    """One pseudo-mask, with the cut that led to it."""

    mask: Mask  # (H, W) of the image; before the refinement (h, w), the patches of the cut
    confidence: Float  # (h, w) share of the cuts that hold a patch, in [0, 1]; 0: off the cut
    score: float  # see `score_mask`, in (0, 1); before the refinement the mean confidence
    patches: Mask  # (h, w) the cut on the patch grid
    semantic_mask: Mask  # (h, w) side of the normalized cut that LocalCut starts from
    eigenvector: Double  # (h, w) larger means more foreground
    eigenvalue: float  # lambda2 of the normalized cut; small means a clear cut
    eigengap: float  # estimate of lambda3 - lambda2; near 0 means an ambiguous cut
    embedding: Float | None = None  # (C,) see `embed_masks`; None: not asked for


@dataclass(frozen=True)
class RejectedCut:
    """A cut that did not become an instance."""

    mask: Mask  # (h, w)
    reason: str  # what was measured and what must hold
    eigenvector: Double  # (h, w) as in `Instance`


@dataclass(frozen=True)
class ImageCuts:
    """One image on its way through the recipe; every step returns it with more filled in."""

    grid_hw: tuple[int, int]  # (h, w) of the patch grid
    depth: Float | None  # (h, w) in [0, 1]; None for a recipe that uses none
    importance: Float | None  # (h, w) in [beta, 1]; None where sharpening is off
    disparity: Float | None = None  # (h, w) 1 / z in [0, 1]; None for a recipe that uses none
    links: PackedLinks | None = None  # between h * w patches; None once they are cut
    instances: tuple[Instance, ...] = ()  # in the order of the cuts, without overlap of patches
    rejected: tuple[RejectedCut, ...] = ()  # in the order of the cuts; empty and refined ones last
    ended: str = ''  # why no further cut was made
    resized: Pixels | None = None  # (H', W', 3) RGB that masks are refined on
    image_hw: tuple[int, int] | None = None  # size that refined masks have
    on_edges: Mask | None = None  # (n, H', W') instances that a device has refined; else None
    described: Any = None  # (h, w, C) float16 features for embeddings; None: not asked for
    parts: tuple[tuple[Any, ImageCuts], ...] = ()  # each `crops.Window` that is cut, too


def cut_instances(
    features: Any,
    depth: Float | None,
    resized: Pixels,
    image_hw: tuple[int, int],
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> ImageCuts:
    """Cut the objects out of one image.

    Args:
        features: (h, w, C) patch features, for instance the keys of a ViT.
        depth: (H'', W'') of any size and unit, finite, larger is farther; None only where
            the parameters use no depth.
        resized: (H', W', 3) uint8 RGB, the resized image that the refinement works on.
        image_hw: size of the masks to return, that of the original image.
        params: the recipe.
        similarity: how two features compare.

    Returns:
        At most `params.max_instances` instances; none for an image without structure.
    """
    image = link_image(features, depth, params, similarity)
    image = replace(image, resized=resized, image_hw=image_hw)
    return refine_cuts(cut_patches(image, params), params)


class DepthNotFinite(ValueError):
    """A depth map from a device holds NaN or inf."""


def link_image(
    features: Any, depth: Float | None, params: CutParams, similarity: Similarity = 'cosine'
) -> ImageCuts:
    """Link the patches of an image, and bring its depth to their grid.

    Args:
        features: (h, w, C) array, or a tensor on the device where its patches are linked.
        depth: (H'', W'') finite, larger is farther; None only where the parameters use none.
    """
    return link_images([features], [depth], params, similarity)()[0]


def link_images(
    features: Sequence[Any],
    depths: Sequence[Any],
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> Callable[[], list[ImageCuts]]:
    """Link the patches of images as `link_image` does; a device is not waited for.

    Args:
        features: arrays, or tensors on one device.
        depths: arrays; for features on a device also tensors there, in which NaN and inf are
            found when the links come.

    Returns:
        What waits for the images and returns them.
    """
    if all(isinstance(one, np.ndarray) for one in features):
        pairs = zip(features, depths, strict=True)
        linked = [_link_here(*pair, params, similarity) for pair in pairs]
        return lambda: linked
    from .on_device import launch_links  # torch takes seconds, which CPU features need not

    used = [_used(depth, params) for depth in depths]
    wait_for_links = launch_links(features, used, params, similarity)

    def wait() -> list[ImageCuts]:
        arrays, found = wait_for_links(), []
        for index, (height, width, _) in enumerate(image.shape for image in features):
            one = {name: values[index] for name, values in arrays.items()}
            if not one['is_finite']:
                raise ValueError('features must be finite, got NaN or inf')
            if not np.isfinite(one.get('depth_ends', 0)).all():
                raise DepthNotFinite('depth must be finite, got NaN or inf')
            links = PackedLinks(one['words'].view('<u2'), height * width)
            grids: dict[str, Any] = {
                name: one.get(name) for name in ('depth', 'importance', 'disparity')
            }
            found.append(ImageCuts((height, width), **grids, links=links))
        return found

    return wait


def _link_here(
    features: Float, depth: Float | None, params: CutParams, similarity: Similarity
) -> ImageCuts:
    grid_hw = features.shape[0], features.shape[1]
    depth, depth_grid = _used(depth, params), depth_on_grid(depth, grid_hw, params)
    importance = disparity = None
    if depth is not None and params.background is not None:
        scaled = normalize_depth(depth, params.depth_outlier_spans, 'inverse')
        disparity = 1 - resize_depth(scaled, grid_hw)
    if depth_grid is not None and params.importance is not None:
        importance = spatial_importance(depth_grid, params.importance)
    flat = features.reshape(-1, features.shape[-1])
    values = None if importance is None else importance.ravel()
    links = link_patches(flat, params.ncut.tau_ncut, values, similarity)
    return ImageCuts(grid_hw, depth_grid, importance, disparity, links)


def depth_on_grid(
    depth: Float | None, grid_hw: tuple[int, int], params: CutParams
) -> Float | None:
    """Scale depth to [0, 1] on the patch grid; None for a recipe that uses no depth."""
    depth = _used(depth, params)
    if depth is None:
        return None
    scaled = normalize_depth(depth, params.depth_outlier_spans, params.depth_function)
    return resize_depth(scaled, grid_hw)


def _used(depth: Any, params: CutParams) -> Any:
    """Depth for a recipe that uses it, else None."""
    if params.importance is None and params.local_cut is None:
        return None
    if depth is None:
        raise ValueError('depth must be given where importance or local_cut is on, got None')
    return depth


def cut_patches(image: ImageCuts, params: CutParams) -> ImageCuts:
    """Cut instances on the patch grid.

    Args:
        image: with links, made with the same parameters.
        params: the recipe; its refinement is not used here.

    Returns:
        The image with instances on the patch grid, and without its links.
    """
    links, steps = linked(image), cutting_steps(image, params)
    was_free = np.ones(len(links), bool)
    is_free = next_graph(steps, None)
    while not isinstance(is_free, ImageCuts):
        if params.ncut.claimed == 'removed' and not np.array_equal(is_free, was_free):
            links, was_free = links.among(is_free[was_free]), is_free
        is_free = next_graph(steps, second_eigenvector(links, is_free, params.ncut))
    return is_free


def linked(image: ImageCuts) -> PackedLinks:
    """Links of an image that is not cut yet."""
    if image.links is None:
        raise ValueError('image must have links between its patches, see link_image')
    return image.links


CuttingSteps = Generator[Mask, Eigenpair | None, ImageCuts]


def next_graph(steps: CuttingSteps, pair: Eigenpair | None) -> Mask | ImageCuts:
    """Go on with the eigenpair of the last graph, None at first, to the next one or the end."""
    try:
        return steps.send(pair)
    except StopIteration as end:
        image: ImageCuts = end.value
        return image


def cutting_steps(image: ImageCuts, params: CutParams) -> CuttingSteps:
    """Cut instances on the patch grid, and leave the eigenvectors to who drives it.

    Args:
        image: with links, made with the same parameters.

    Yields:
        (N,) patches that are free. The second eigenpair of their graph is sent.

    Returns:
        The image with instances on the patch grid, and without its links.
    """
    depth, grid_hw = image.depth, image.grid_hw
    accepted: list[Instance] = []
    rejected: list[RejectedCut] = []
    is_free = np.ones(grid_hw[0] * grid_hw[1], bool)
    previous: Instance | None = None
    pair, is_solved, ended = None, False, 'no patch is left'
    for attempt in range(len(is_free)):
        counted = len(accepted) + len(rejected) * params.count_rejected
        if counted == params.max_instances:
            ended = f'{counted} cuts are made, the most that max_instances allows'
            break
        if not is_free.any():
            break
        if not is_solved:
            pair = yield is_free
        if pair is None:
            ended = 'the patches that are left cannot be cut'
            break
        if params.max_eigenvalue is not None and pair.value > params.max_eigenvalue:
            asked = f'at most {params.max_eigenvalue:g}'
            ended = f'the next cut has an eigenvalue of {pair.value:.3f}, must be {asked}'
            break
        proposal = propose(pair, is_free, depth, grid_hw, params)
        if proposal is None:
            ended = 'no patch that is left is foreground'
            break
        if is_the_rest(proposal, is_free, params):
            share = is_free.mean()
            ended = f'the next cut is all that is left, {share:.1%} of the image'
            break
        reason = reason_to_reject(proposal, previous, attempt, image.disparity, params)
        if reason is None:
            accepted.append(proposal)
        else:
            rejected.append(RejectedCut(proposal.mask, reason, proposal.eigenvector))
            if is_solved:
                ended = 'the same graph gives the same cut again'
                break
        is_solved = reason is not None and not params.remove_rejected  # the graph is the same
        if not is_solved:
            is_free = is_free & ~proposal.mask.ravel()
        previous = proposal if reason is None else None
    separate, emptied = _without_overlap(accepted)
    rejected += emptied
    return replace(image, links=None, instances=separate, rejected=tuple(rejected), ended=ended)


def _without_overlap(
    cuts: list[Instance],
) -> tuple[tuple[Instance, ...], tuple[RejectedCut, ...]]:
    """Remove the patches of earlier masks from each mask; reject masks that become empty."""
    separate: list[Instance] = []
    emptied: list[RejectedCut] = []
    for cut in cuts:
        patches = cut.patches.copy()
        for earlier in separate:
            patches &= ~earlier.patches
        if patches.any():
            confidence = np.where(patches, cut.confidence, 0).astype(np.float32)
            score = float(confidence[patches].mean())
            held = replace(cut, mask=patches, patches=patches, confidence=confidence, score=score)
            separate.append(held)
        else:
            reason = f'earlier instances hold all of its {cut.patches.sum()} patches'
            emptied.append(RejectedCut(cut.patches, reason, cut.eigenvector))
    return tuple(separate), tuple(emptied)


def refine_cuts(image: ImageCuts, params: CutParams) -> ImageCuts:
    """Bring the instances on the patch grid to image size, along the edges of the image.

    The confidence is not cropped to the refined mask: the cuts say nothing about patches that
    the refinement adds.

    Args:
        image: with `resized` and `image_hw`, cut with the same parameters.
    """
    if image.resized is None or image.image_hw is None:
        raise ValueError('image must have resized and image_hw to refine its masks, got None')
    masks = [cut.patches for cut in image.instances]
    refined = refine_to_image(masks, image.resized, image.image_hw, params.refine, image.on_edges)
    instances, rejected = [], [*image.rejected]
    for cut, (mask, iou) in zip(image.instances, refined, strict=True):
        if mask is None:
            reason = f'IoU {iou:.2f} before and after the refinement'
            least = params.refine.min_iou
            reason += f', must be at least {least:g}' if iou < least else ', but no pixel is left'
            rejected.append(RejectedCut(cut.patches, reason, cut.eigenvector))
            continue
        score = cut.score
        if params.score is not None:
            known = cut.patches, cut.confidence, image.depth, iou, cut.eigenvalue
            score = score_mask(mask_signals(*known, params.score), params.score)
        instances.append(replace(cut, mask=mask, score=score))
    found, others = tuple(instances), tuple(rejected)
    return replace(image, instances=found, rejected=others, on_edges=None)


def is_the_rest(proposal: Instance, is_free: Mask, params: CutParams) -> bool:
    """Whether the cut is all that earlier cuts have left: all objects are found (Sec. 3.1)."""
    if params.stop_at_rest_iou is None or is_free.all():
        return False
    return mask_iou(proposal.semantic_mask.ravel(), is_free) > params.stop_at_rest_iou


def reason_to_reject(
    proposal: Instance,
    previous: Instance | None,
    attempt: int,
    disparity: Float | None,
    params: CutParams,
) -> str | None:
    """Judge a cut: it must be large enough, not repeat the previous one, and be no background.

    Args:
        previous: the instance that was cut just before; None if that cut was rejected.
        attempt: number of the cut in its image, from 0.
        disparity: (h, w) 1 / z in [0, 1]; None where the depth has no scale or is not used.

    Returns:
        None for a cut that is accepted.
    """
    mask = proposal.mask
    if attempt >= params.min_area_from_cut and mask.mean() <= params.min_area_ratio:
        return f'{mask.mean():.1%} of the image, must be above {params.min_area_ratio:.1%}'
    if previous is not None:
        iou = mask_iou(mask, previous.mask)
        if iou > params.max_overlap_iou:
            asked = f'must be at most {params.max_overlap_iou:g}'
            return f'IoU {iou:.2f} with the previous instance, {asked}'
    if params.background is not None and disparity is not None:
        return _background(mask, disparity, params.background)
    return None


def _background(mask: Mask, disparity: Float, params: BackgroundParams) -> str | None:
    borders = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    held = max(border.mean() for border in borders)
    if held < params.min_border_share:
        return None
    if mask.mean() <= params.min_area_ratio or mask.all():
        return None
    is_facing = float(np.ptp(np.quantile(disparity[mask], (0.05, 0.95)))) < params.min_slant
    if is_facing and np.median(disparity[mask]) > np.quantile(disparity[~mask], 0.05):
        return None  # a sign or a screen, not the wall behind everything
    residual = plane_residual(disparity, mask, params.plane_share)
    if residual > params.max_residual:
        return None
    return (
        f'background: {residual:.3f} off a plane, must be above {params.max_residual:g} for what '
        f'holds {params.min_border_share:.0%} of an image border, here {held:.0%}'
    )


def propose(
    pair: Eigenpair,
    is_free: Mask,
    depth: Float | None,
    grid_hw: tuple[int, int],
    params: CutParams,
) -> Instance | None:
    """Take one instance from an eigenvector, on the patch grid.

    Args:
        pair: second eigenpair of the patches that are left.
        is_free: (N,) patches that no instance has claimed.
        depth: (h, w) in [0, 1]; None for a cut in 2D.

    Returns:
        None where no free patch is foreground.
    """
    is_cut = is_free if params.ncut.claimed == 'removed' else None
    split = split_foreground(pair.vector, grid_hw, is_cut)
    semantic, confidence = split.foreground & is_free, None
    is_2d = params.local_cut is None or depth is None
    if is_2d and params.ncut.claimed == 'epsilon':  # MaskCut lets a mask reach into earlier ones
        semantic = split.foreground
        mask = component_at(semantic, split.seed, grid_hw)
    elif not semantic.any():
        return None
    elif params.local_cut is None or depth is None:
        mask = around_strongest(semantic, split.eigenvector, grid_hw)
    else:
        cuts = cut_in_3d(semantic, split.eigenvector, depth, params.local_cut, params.confidence)
        mask = cuts[-1]
        confidence = None if params.confidence is None else spatial_confidence(cuts)
    if confidence is None:
        confidence = mask.astype(np.float32)
    patches = mask.reshape(grid_hw)
    return Instance(
        mask=patches,
        confidence=confidence.reshape(grid_hw),
        score=float(confidence[mask].mean()),
        patches=patches,
        semantic_mask=semantic.reshape(grid_hw),
        eigenvector=split.eigenvector.reshape(grid_hw),
        eigenvalue=pair.value,
        eigengap=pair.gap,
    )

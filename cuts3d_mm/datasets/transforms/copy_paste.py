"""Select and blend the instances of copy-paste by their confidence."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import CopyPaste
from mmdet.structures.bbox import autocast_box_type
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS, blend, may_be_pasted, paste_alpha
from cuts3d_mm.arrays import Float, Index
from cuts3d_mm.datasets.transforms.joining import Pasted, join_pasted
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
        certain = np.broadcast_to(np.uint8(CONFIDENCE_STEPS), pasted.shape)
        share = paste_alpha(pasted, scaled.confidence if self.alpha else certain)
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

"""Bitmap masks that carry doubt, 1 - Spatial Confidence, through MMDetection's transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray
from torch import Tensor

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS, Steps
from cuts3d_mm.arrays import Float, Mask


class ConfidenceBitmapMasks(BitmapMasks):
    """Masks with a doubt per pixel and a score per instance.

    Doubt is 1 - confidence. So the zeros that a transform fills in at a border mean "certain", and
    any transform of MMDetection can be used.

    Args:
        masks: (N, H, W) uint8, 0 or 1.
        height: H in pixels.
        width: W in pixels.
        doubt: (N, H, W) uint8 in steps of 1/255. Required; it is missing only if a transform has
            rebuilt the masks and lost the doubt.
        scores: (N,) float32 in [0, 1]; None stands for a score of 1.
        is_pasted: (N,) bool, instances that copy-paste has added; None for no such instance.

    Raises:
        ValueError: `doubt` is missing, or its shape is not that of the masks.
    """

    def __init__(
        self,
        masks: Any,
        height: int,
        width: int,
        doubt: Steps | None = None,
        scores: Float | None = None,
        is_pasted: Mask | None = None,
    ) -> None:
        super().__init__(masks, height, width)
        count = len(self.masks)
        if doubt is None:
            raise ValueError(
                'ConfidenceBitmapMasks must be built with their doubt, got None: a transform '
                '(Albu does it) has rebuilt the masks and lost the doubt. Use the geometric '
                "transforms of MMDetection, and Albu for colour only, before the annotations' "
                'loading'
            )
        self.doubt = doubt if count else np.empty((0, height, width), np.uint8)
        if self.doubt.shape != self.masks.shape:
            raise ValueError(
                f'doubt must have the shape of the masks {self.masks.shape}, got {doubt.shape}'
            )
        self.scores = np.ones(count, np.float32) if scores is None else scores
        self.is_pasted = np.zeros(count, bool) if is_pasted is None else is_pasted

    @classmethod
    def certain(cls, masks: BitmapMasks) -> ConfidenceBitmapMasks:
        """Give masks without doubt a doubt of 0; masks with doubt are returned as they are.

        Raises:
            TypeError: the masks are no bitmaps.
        """
        if isinstance(masks, ConfidenceBitmapMasks):
            return masks
        if not isinstance(masks, BitmapMasks):
            raise TypeError(
                f'masks must be bitmaps, got {type(masks).__name__}; load the annotations with '
                'with_mask=True, poly2mask=True'
            )
        return cls(masks.masks, masks.height, masks.width, np.zeros_like(masks.masks, np.uint8))

    def __getitem__(self, index: Any) -> ConfidenceBitmapMasks:
        """Select instances; the result always has three dimensions."""
        return ConfidenceBitmapMasks(
            self.masks[index].reshape(-1, self.height, self.width),
            self.height,
            self.width,
            self.doubt[index].reshape(-1, self.height, self.width),
            np.atleast_1d(self.scores[index]),
            np.atleast_1d(self.is_pasted[index]),
        )

    def rescale(self, scale: Any, interpolation: str = 'nearest') -> ConfidenceBitmapMasks:
        """Scale, keeping the aspect ratio."""
        return self._with(
            super().rescale(scale, interpolation), self._doubts.rescale(scale, 'bilinear')
        )

    def resize(
        self, out_shape: tuple[int, int], interpolation: str = 'nearest'
    ) -> ConfidenceBitmapMasks:
        """Resize to (H, W)."""
        return self._with(
            super().resize(out_shape, interpolation), self._doubts.resize(out_shape, 'bilinear')
        )

    def flip(self, flip_direction: str = 'horizontal') -> ConfidenceBitmapMasks:
        """Mirror masks and doubt."""
        return self._with(super().flip(flip_direction), self._doubts.flip(flip_direction))

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> ConfidenceBitmapMasks:
        """Extend to the right and the bottom; added pixels are certain."""
        return self._with(super().pad(out_shape, pad_val), self._doubts.pad(out_shape))

    def crop(self, bbox: NDArray[Any]) -> ConfidenceBitmapMasks:
        """Cut out a box x1, y1, x2, y2."""
        return self._with(super().crop(bbox), self._doubts.crop(bbox))

    def expand(self, *args: Any, **kwargs: Any) -> ConfidenceBitmapMasks:
        """Place on a larger canvas; added pixels are certain."""
        return self._with(super().expand(*args, **kwargs), self._doubts.expand(*args, **kwargs))

    def translate(self, *args: Any, border_value: int = 0, **kwargs: Any) -> ConfidenceBitmapMasks:
        """Move masks and doubt; pixels that come in are certain."""
        masks = super().translate(*args, border_value=border_value, **kwargs)
        return self._with(masks, self._doubts.translate(*args, **kwargs))

    def shear(self, *args: Any, border_value: int = 0, **kwargs: Any) -> ConfidenceBitmapMasks:
        """Shear masks and doubt; pixels that come in are certain."""
        masks = super().shear(*args, border_value=border_value, **kwargs)
        return self._with(masks, self._doubts.shear(*args, **kwargs))

    def rotate(self, *args: Any, border_value: int = 0, **kwargs: Any) -> ConfidenceBitmapMasks:
        """Rotate masks and doubt; pixels that come in are certain."""
        masks = super().rotate(*args, border_value=border_value, **kwargs)
        return self._with(masks, self._doubts.rotate(*args, **kwargs))

    def crop_and_resize(
        self,
        bboxes: Any,
        out_shape: tuple[int, int],
        inds: Any,
        device: Any = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """Crop the masks to boxes; as in BitmapMasks, without a copy of a mask per box."""
        crops = _crop_boxes(self.masks, bboxes, out_shape, inds, device)
        values = (crops >= 0.5) if binarize else crops
        return BitmapMasks(values.cpu().numpy(), *out_shape)

    def crop_doubt(
        self, bboxes: Any, out_shape: tuple[int, int], inds: Any, device: Any = 'cpu'
    ) -> Tensor:
        """Crop the doubt to (R, 4) boxes x1, y1, x2, y2 in pixels, each of the instance in `inds`.

        Returns:
            (R, h, w) float in [0, 1].
        """
        boxes, index = (torch.as_tensor(one, device=device) for one in (bboxes, inds))
        has_doubt = self.doubt.any(axis=(1, 2))
        if not has_doubt.any():
            return boxes.new_zeros((len(boxes), *out_shape))
        # Maps without doubt are not copied to the device: any other one stands in for them.
        places = torch.from_numpy(np.maximum(np.cumsum(has_doubt) - 1, 0)).to(device)
        shares = torch.from_numpy(has_doubt).to(boxes) / CONFIDENCE_STEPS
        crops = _crop_boxes(self.doubt[has_doubt], boxes, out_shape, places[index], device)
        return crops * shares[index][:, None, None]

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> ConfidenceBitmapMasks:
        """Join masks of the same image size; masks without doubt are certain."""
        parts = [cls.certain(part) for part in masks]
        return cls(
            np.concatenate([part.masks for part in parts]),
            parts[0].height,
            parts[0].width,
            np.concatenate([part.doubt for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.is_pasted for part in parts]),
        )

    @property
    def _doubts(self) -> BitmapMasks:
        return BitmapMasks(self.doubt, self.height, self.width)

    def _with(self, masks: BitmapMasks, doubts: BitmapMasks) -> ConfidenceBitmapMasks:
        return ConfidenceBitmapMasks(
            masks.masks, masks.height, masks.width, doubts.masks, self.scores, self.is_pasted
        )


def _crop_boxes(
    values: Steps, bboxes: Any, out_shape: tuple[int, int], inds: Any, device: Any
) -> Tensor:
    """Crop a map of (N, H, W) per box, as `crop_doubt`: (R, h, w) float means of the pixels."""
    boxes = torch.as_tensor(bboxes, device=device)
    if len(boxes) == 0 or len(values) == 0:
        return boxes.new_zeros((0, *out_shape))
    index = torch.as_tensor(inds, device=device)
    rois = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    maps = torch.from_numpy(values).to(device)[:, None].to(boxes.dtype)
    return roi_align(maps, rois, out_shape, 1.0, 0, 'avg', True)[:, 0]

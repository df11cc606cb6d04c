"""Label images with a detector that MMDetection has trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from torch import Tensor, nn

from cuts3d_mm.algorithm.confidence import require_confidence_source
from cuts3d_mm.arrays import Double, Float, Mask, Pixels
from cuts3d_mm.configs import read_arrays
from cuts3d_mm.images.reading import NamedImage, check_rgb
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit, digest_weights
from cuts3d_mm.weights.mmengine_loader import install

from .generator import Stage
from .registry import LABELLERS, SCOPE, with_defaults

_CELL_PX = 8  # of the confidence grid, as the patches of the pseudo-labels
_PROBABILITY_STEPS = 255  # MMDetection's masks without a threshold are uint8


@LABELLERS.register_module()
class DetectorLabeller:
    """A detector that labels images as `PseudoLabelGenerator` does.

    Images go through the network one by one, as in an evaluation, so that the labels of an
    image do not depend on its neighbours.

    Args:
        detector (dict | nn.Module): A detector of MMDetection with masks, or its config.
        pipeline (list[dict]): Test pipeline; its loading of files and annotations is left out.
        checkpoint (str, optional): Weights; a file, `https://` or `hf://` location. Defaults
            to None, for a detector that has its weights.
        weights_sha256 (str, optional): What `digest_weights` must give for the weights, so that
            a run that is resumed has the same ones. Defaults to None.
        score_thr (float): Smallest score, in [0, 1]. Defaults to 0.
        max_per_image (int): Most instances of an image, best first. Defaults to 100.
        confidence_source (str): Confidence of the labels: `map`: the probability of the mask
            head, on a grid; `score`: that of the detection in all of its cells; `none`: labels
            are certain. Defaults to `none`.
    """

    def __init__(
        self,
        detector: dict[str, Any] | nn.Module,
        pipeline: Sequence[dict[str, Any]],
        checkpoint: str | None = None,
        weights_sha256: str | None = None,
        score_thr: float = 0.0,
        max_per_image: int = 100,
        confidence_source: str = 'none',
    ) -> None:
        require_confidence_source(confidence_source)
        check_options(score_thr, max_per_image)
        init_default_scope('mmdet')
        install()
        if isinstance(detector, dict):
            detector = MODELS.build(ConfigDict(detector))
        self.detector: Any = detector
        self.pipeline = Compose(read_arrays(pipeline))
        self.score_thr = score_thr
        self.max_per_image = max_per_image
        self.confidence_source = confidence_source
        if checkpoint is not None:
            self._load(checkpoint, weights_sha256)

    def to(self, device: str) -> DetectorLabeller:
        """Move the detector; its own `to` also tells it where its images must go."""
        self.detector.to(device)
        return self

    def predict(self, image: Pixels) -> list[Detection]:
        """Find the instances of one image, the best first.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        check_rgb(image)
        return self.predict_batch([NamedImage('', image)])[0]

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Complete a config: the defaults of our classes in the detector."""
        return {**config, 'detector': with_defaults(config['detector'], _part_of_a_detector)}

    def predict_batch(self, images: Sequence[NamedImage]) -> list[list[Detection]]:
        """Find the instances of images, the best first."""
        source = self.confidence_source
        return [list(read_detections(found, source)) for found in self.extract(images)]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What follows `extract`, image by image, in any process."""
        reader = partial(read_detections, confidence_source=self.confidence_source)
        return (Stage('unpack', reader),)

    def extract(self, images: Sequence[NamedImage]) -> list[DetectorOutput]:
        """Run the detector on images."""
        self.detector.eval()
        with _probability_masks(self.detector, self.confidence_source == 'map'):
            return [self._run(image.pixels) for image in images]

    @torch.no_grad()
    def _run(self, pixels: Pixels) -> DetectorOutput:
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        data = self.pipeline({'img': bgr, 'img_id': 0})
        batch = {'inputs': [data['inputs']], 'data_samples': [data['data_samples']]}
        found = self.detector.test_step(batch)[0].pred_instances
        if 'masks' not in found:
            raise ValueError('detector must predict masks, it predicts boxes only')
        best = torch.argsort(found.scores, descending=True, stable=True)[: self.max_per_image]
        scores = found.scores[best].cpu().numpy().astype(np.float64)
        count = int((scores >= self.score_thr).sum())
        masks = found.masks[best[:count]]
        return DetectorOutput(_crops(masks), np.minimum(scores[:count], 1), pixels.shape[:2])

    def _load(self, checkpoint: str, expected_sha256: str | None) -> None:
        state = read_state(checkpoint).weights
        if expected_sha256 not in (None, digest_weights(state)):
            raise ValueError(
                f'{checkpoint} must hold the weights with SHA-256 {expected_sha256}, it holds '
                'others; it was replaced since'
            )
        check_weights_fit(state, self.detector.state_dict())
        self.detector.load_state_dict(state)


def _crops(masks: Tensor) -> tuple[MaskCrop, ...]:
    """Crop (n, H, W) masks to what is not 0, before they leave the device."""
    used = zip(*(masks.any(dim=axis).cpu().numpy() for axis in (2, 1)), strict=True)
    crops = []
    for mask, (rows, columns) in zip(masks, used, strict=True):
        (top, bottom), (left, right) = _used_range(rows), _used_range(columns)
        # Copied: a view would keep the whole mask.
        values = mask[top:bottom, left:right].cpu().numpy().copy()
        crops.append(MaskCrop(values, (top, left)))
    return tuple(crops)


def _used_range(is_used: NDArray[np.bool_]) -> tuple[int, int]:
    indices = np.flatnonzero(is_used)
    return (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 0)


def _part_of_a_detector(name: str) -> type | None:
    found: type | None = MODELS.get(f'{SCOPE}.{name}')
    return found


@contextmanager
def _probability_masks(detector: Any, is_wanted: bool) -> Iterator[None]:
    """Let the mask head give probabilities instead of masks for a while."""
    if not is_wanted:
        yield
        return
    roi_head = getattr(detector, 'roi_head', None)
    if roi_head is None:
        raise ValueError("confidence_source 'map' needs a detector with a RoI head; use 'score'")
    threshold = roi_head.test_cfg.mask_thr_binary
    roi_head.test_cfg.mask_thr_binary = -1
    try:
        yield
    finally:
        roi_head.test_cfg.mask_thr_binary = threshold


@dataclass(frozen=True)
class Detection:
    """One instance that a detector has found."""

    mask: Mask  # (H, W)
    confidence: Float | None  # (h, w) cells of 8 px, in [0, 1]; None: certain
    score: float  # in [0, 1]


@dataclass(frozen=True)
class MaskCrop:
    """The part of a mask outside of which it is 0.

    A hundred whole masks of a large photo are gigabytes.
    """

    values: NDArray[np.bool_] | NDArray[np.uint8]  # (h, w); uint8: probability in 1/255
    top_left: tuple[int, int]  # in the image, pixels


@dataclass(frozen=True)
class DetectorOutput:
    """What a detector has found in one image, the best first."""

    crops: tuple[MaskCrop, ...]
    scores: Double  # (n,) in [0, 1]
    image_hw: tuple[int, int]


def read_detections(found: DetectorOutput, confidence_source: str) -> Iterator[Detection]:
    """Turn the output of a detector into instances, one at a time; empty masks are left out.

    Args:
        found: with probabilities if `confidence_source` is 'map', else with masks.
        confidence_source: 'map', 'score' or 'none', see `DetectorLabeller`.
    """
    for crop, score in zip(found.crops, found.scores.tolist(), strict=True):
        detection = _detection(_whole(crop, found.image_hw), score, confidence_source)
        if detection.mask.any():
            yield detection


def _whole(crop: MaskCrop, image_hw: tuple[int, int]) -> NDArray[np.generic]:
    mask = np.zeros(image_hw, crop.values.dtype)
    (top, left), (height, width) = crop.top_left, crop.values.shape
    mask[top : top + height, left : left + width] = crop.values
    return mask


def _detection(mask: NDArray[np.generic], score: float, confidence_source: str) -> Detection:
    if confidence_source == 'none':
        return Detection(mask.astype(bool), None, score)
    grid_hw = tuple(-(-side // _CELL_PX) for side in mask.shape)
    if confidence_source == 'score':
        return Detection(mask.astype(bool), np.full(grid_hw, score, np.float32), score)
    probability = np.float32(1 / _PROBABILITY_STEPS) * mask.astype(np.float32)
    is_inside = probability >= 0.5
    return Detection(is_inside, _mean_inside(probability, is_inside, grid_hw), score)


def _mean_inside(probability: Float, is_inside: Mask, grid_hw: tuple[int, ...]) -> Float:
    """Mean of the probabilities of a mask's pixels in every cell; 0 where there are none."""
    size = grid_hw[1], grid_hw[0]
    total = cv2.resize(probability * is_inside, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(is_inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0, np.clip(total / np.maximum(share, 1e-6), 0, 1), 0).astype('f4')


def check_options(score_thr: float, max_per_image: int) -> None:
    """Check which instances of a detector become labels.

    Raises:
        ValueError: a number out of its range.
    """
    if not 0 <= score_thr <= 1:
        raise ValueError(f'score_thr must lie in [0, 1], got {score_thr}')
    if max_per_image < 1:
        raise ValueError(f'max_per_image must be at least 1, got {max_per_image}')


def labeller_config(config: Config, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Turn the config of a detector into that of a `DetectorLabeller`.

    Args:
        config: of a training or a test; its `test_dataloader` has the pipeline.
        checkpoint: weights, as for `read_state`.
        options: other arguments of `DetectorLabeller`.

    Raises:
        ValueError: the config is of no detector, or the checkpoint holds no weights.
    """
    from cuts3d_mm.weights import read_state  # torch takes seconds
    from cuts3d_mm.weights.checkpoints import digest_weights

    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError('CONFIG must define model and test_dataloader, it does not')
    plain = config.to_dict()
    return {
        'type': 'cuts3d_mm.DetectorLabeller',
        'detector': plain['model'],
        'pipeline': plain['test_dataloader']['dataset']['pipeline'],
        'checkpoint': checkpoint,
        'weights_sha256': digest_weights(read_state(checkpoint).weights),
        **options,
    }

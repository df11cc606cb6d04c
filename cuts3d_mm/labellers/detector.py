"""Find instances with a trained detector: of a config, a release, or a training that runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope, registry
from numpy.typing import NDArray
from torch import Tensor, broadcast_shapes, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cuts3d_mm.algorithm.confidence import require_confidence_source
from cuts3d_mm.algorithm.crf import refine_to_image
from cuts3d_mm.algorithm.params import RefineParams
from cuts3d_mm.arrays import Double, Float, Index, Mask, Pixels
from cuts3d_mm.configs import SCORE_THR, find_config, read_arrays, read_config
from cuts3d_mm.hub.client import CONFIG_FILE, WEIGHTS_FILE, find_release
from cuts3d_mm.hub.trusted_config import (
    RELEASE_CONFIG,
    parse_release_config,
    plain_dataset_meta,
    read_release_config,
)
from cuts3d_mm.images.reading import NamedImage, check_rgb, resize_rgb
from cuts3d_mm.registry import MODELS
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit, digest_weights
from cuts3d_mm.weights.mmengine_loader import reading_as_data

from .generator import Stage
from .networks import choose_device
from .registry import LABELLERS, SCOPE, with_defaults

(_ANY_OBJECT,) = plain_dataset_meta(None)['classes']  # all that most detectors know
_CELL_PX = 8  # side of a cell of the confidence grid, as the patches of the pseudo-labels
_REFINED_HW = (480, 480)  # size at which masks are refined, as the pseudo-labels
_NO_DETECTOR = 'CONFIG must define model and test_dataloader, it does not'
_SPARE_NUMBERS = 1 << 26  # of anchors, indices and the like, which are no weights
_NUMBERS_PER_CALL = 1 << 10  # so that the number of tensors has a limit, too
# What a class of MMDetection raises when its arguments do not fit each other.
_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@LABELLERS.register_module()
class DetectorLabeller:
    """A trained detector, which finds instances as `PseudoLabelGenerator` does.

    Args:
        detector (dict | nn.Module): A detector of MMDetection, or its config.
        pipeline (list[dict]): Test pipeline; its loading of files and annotations is left out.
        checkpoint (str, optional): Weights; a file, `https://` or `hf://` location. Defaults
            to None, for a detector that has its weights.
        weights_sha256 (str, optional): What `digest_weights` must give for the weights, so that
            a run that is resumed has the same ones. Defaults to None.
        score_thr (float): Smallest score, in [0, 1]. Defaults to 0.
        max_per_image (int, optional): Most instances of an image, best first; None: all that
            the detector gives. Defaults to 100.
        confidence_source (str): Confidence of the labels: `map`: the probability of the mask
            head, on a grid; `score`: that of the detection in all of its cells; `none`: labels
            are certain. Defaults to `none`.
        fill_boxes (bool): Whether a detector without masks gives its boxes, filled. Defaults to
            False: such a detector is refused, since filled boxes are no labels to train on.
        refine (bool): Whether masks follow the edges of the image, by the dense CRF of the
            pseudo-labels; a mask that changes by more than half is left out. Defaults to False.
    """

    def __init__(
        self,
        detector: dict[str, Any] | nn.Module,
        pipeline: Sequence[dict[str, Any]],
        checkpoint: str | None = None,
        weights_sha256: str | None = None,
        score_thr: float = 0.0,
        max_per_image: int | None = 100,
        confidence_source: str = 'none',
        fill_boxes: bool = False,
        refine: bool = False,
    ) -> None:
        require_confidence_source(confidence_source)
        if not 0 <= score_thr <= 1:
            raise ValueError(f'score_thr must lie in [0, 1], got {score_thr}')
        if max_per_image is not None and max_per_image < 1:
            raise ValueError(f'max_per_image must be at least 1, got {max_per_image}')
        init_default_scope('mmdet')  # so that MMDetection finds its own classes
        if isinstance(detector, dict):
            with reading_as_data():
                detector = MODELS.build(ConfigDict(detector))
        self.detector: Any = detector
        self.pipeline = Compose(read_arrays(pipeline))
        self.score_thr = score_thr
        self.max_per_image = max_per_image
        self.confidence_source = confidence_source
        self.fill_boxes = fill_boxes
        self.refine = refine
        self.best_score = 0.0  # best until now, in [0, 1], what `score_thr` leaves out included
        if checkpoint is not None:
            self._load(checkpoint, weights_sha256)

    @classmethod
    def load(
        cls,
        model: str | Path | Config | None,
        weights: str | None = None,
        device: str = 'auto',
        score_thr: float = SCORE_THR,
        fill_boxes: bool = False,
    ) -> DetectorLabeller:
        """Load a trained detector by its name; see `load_detector` for arguments and errors."""
        device = choose_device(device)
        source = find_detector(model, weights)
        detector = build_trained_detector(source.config.model, source)
        pipeline = source.config.test_dataloader.dataset.pipeline
        labeller = cls(
            detector, pipeline, score_thr=score_thr, max_per_image=None, fill_boxes=fill_boxes
        )
        return labeller.to(device)

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Complete a config: the defaults of our classes in the detector."""

        def find_part(name: str) -> Any:
            return MODELS.get(f'{SCOPE}.{name}')

        return {**config, 'detector': with_defaults(config['detector'], find_part)}

    def to(self, device: str) -> DetectorLabeller:
        """Move the detector; its own `to` also tells it where its images must go."""
        self.detector.to(device)
        return self

    def predict(self, image: Pixels) -> tuple[Detection, ...]:
        """Find the instances of one (H, W, 3) uint8 RGB image, the best first."""
        return self.predict_batch([image])[0]

    def predict_batch(
        self, images: Sequence[Pixels | NamedImage], at_once: int = 1
    ) -> list[tuple[Detection, ...]]:
        """Find the instances of images, the best first.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            at_once: images that go through the network together, padded to one size. By default
                each goes alone, so that what is found in it does not depend on its neighbours.
        """
        outputs = self.extract(images, at_once)
        return [tuple(read_detections(one, self.confidence_source)) for one in outputs]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What follows `extract`, image by image, in any process."""
        reader = partial(read_detections, confidence_source=self.confidence_source)
        return (Stage('unpack', reader),)

    def extract(
        self, images: Sequence[Pixels | NamedImage], at_once: int = 1
    ) -> list[DetectorOutput]:
        """Run the detector on images, `at_once` of them together."""
        if at_once < 1:
            raise ValueError(f'at_once must be at least 1, got {at_once}')
        arrays = [one.pixels if isinstance(one, NamedImage) else one for one in images]
        for pixels in arrays:
            check_rgb(pixels)
        batches = [arrays[first : first + at_once] for first in range(0, len(arrays), at_once)]
        self.detector.eval()
        with _probability_masks(self.detector, self.confidence_source == 'map'):
            return [output for batch in batches for output in self._run(batch)]

    @torch.no_grad()
    def _run(self, images: Sequence[Pixels]) -> list[DetectorOutput]:
        inputs = [
            self.pipeline({'img': np.ascontiguousarray(pixels[..., ::-1]), 'img_id': 0})
            for pixels in images
        ]
        batch = {key: [one[key] for one in inputs] for key in ('inputs', 'data_samples')}
        return [
            self._output(sample.pred_instances, pixels)
            for sample, pixels in zip(self.detector.test_step(batch), images, strict=True)
        ]

    def _output(self, found: Any, pixels: Pixels) -> DetectorOutput:
        if 'masks' not in found and not (self.fill_boxes and self.confidence_source != 'map'):
            raise ValueError('detector must predict masks, it predicts boxes only')
        height, width = pixels.shape[:2]
        self.best_score = max(self.best_score, *found.scores.tolist(), 0.0)
        limits = self.score_thr, self.max_per_image
        output = read_predictions(found, (height, width), *limits, self.classes)
        if not self.refine or not output.crops:
            return output
        return replace(output, pixels=resize_rgb(pixels, _REFINED_HW))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the detector finds: `object` alone, unless it was taught others."""
        meta = plain_dataset_meta(getattr(self.detector, 'dataset_meta', None))
        names: tuple[str, ...] = meta['classes']
        return names

    def _load(self, checkpoint: str, expected_sha256: str | None) -> None:
        read = read_state(checkpoint)
        state = read.weights
        if expected_sha256 not in (None, digest_weights(state)):
            raise ValueError(
                f'{checkpoint} must hold the weights with SHA-256 {expected_sha256}, it holds '
                'others; it was replaced since'
            )
        check_weights_fit(state, self.detector.state_dict())
        self.detector.load_state_dict(state)
        self.detector.dataset_meta = plain_dataset_meta(read.meta.get('dataset_meta'))


def read_predictions(
    found: Any,
    image_hw: tuple[int, int],
    score_thr: float,
    max_per_image: int | None,
    classes: Sequence[str],
) -> DetectorOutput:
    """Copy what MMDetection has found in an image from its device, the best first.

    Args:
        found: `pred_instances` of a `DetDataSample`; boxes without masks are filled.
    """
    best = torch.argsort(found.scores, descending=True, stable=True)[:max_per_image]
    scores = found.scores[best].cpu().numpy().astype(np.float64)
    best = best[: int((scores >= score_thr).sum())]
    boxes = found.bboxes[best].cpu().numpy().astype(np.float32)
    crops = _crops(found.masks[best]) if 'masks' in found else _filled(boxes, image_hw)
    labels = found.labels[best].cpu().numpy().astype(np.int64)
    categories = tuple(category_of(label, classes) for label in labels)
    scores = np.minimum(scores[: len(best)], 1)
    return DetectorOutput(crops, scores, boxes, labels, image_hw, categories)


def category_of(label: int, classes: Sequence[str]) -> str | None:
    """Name of a class; None for an object of which no more is known."""
    name = classes[label] if label < len(classes) else _ANY_OBJECT
    return None if name in ('', _ANY_OBJECT) else name


def _filled(boxes_xyxy: Float, image_hw: tuple[int, int]) -> tuple[MaskCrop, ...]:
    limits = [image_hw[1], image_hw[0]] * 2
    corners = np.clip(np.rint(boxes_xyxy), 0, limits).astype(int).tolist()
    return tuple(
        MaskCrop(np.ones((max(bottom - top, 0), max(right - left, 0)), bool), (top, left))
        for left, top, right, bottom in corners
    )


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
    box_xyxy: Float  # (4,) box of the detector, in pixels; the mask may be smaller
    label: int  # number of the class, from 0
    embedding: Float | None = None  # (C,) see `embed_masks`; None: not asked for
    category: str | None = None  # name of the class; None: an object, of which no more is known


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
    boxes_xyxy: Float  # (n, 4) px
    labels: Index  # (n,)
    image_hw: tuple[int, int]
    categories: tuple[str | None, ...]  # (n,) names of the classes, see `Detection`
    pixels: Pixels | None = None  # image to refine the masks by, of a fixed size; None: do not


def read_detections(found: DetectorOutput, confidence_source: str) -> Iterator[Detection]:
    """Turn the output of a detector into instances, one at a time; empty masks are left out.

    Args:
        found: output with probabilities if `confidence_source` is 'map', else with masks.
        confidence_source: 'map', 'score' or 'none', see `DetectorLabeller`.
    """
    refined = (
        None if found.pixels is None else _refined_masks(found, found.pixels, confidence_source)
    )
    for index, crop in enumerate(found.crops):
        values, score = _whole(crop, found.image_hw), float(found.scores[index])
        mask, confidence = _mask_and_confidence(values, score, confidence_source)
        if refined is not None:
            mask = refined[index]
        if mask.any():
            box, label = found.boxes_xyxy[index], int(found.labels[index])
            category = found.categories[index]
            yield Detection(mask, confidence, score, box, label, category=category)


def _refined_masks(found: DetectorOutput, pixels: Pixels, confidence_source: str) -> list[Mask]:
    """Refine the masks of an image; one that changes by more than half becomes empty."""
    small = []
    for crop in found.crops:
        mask, _ = _mask_and_confidence(_whole(crop, found.image_hw), 1.0, confidence_source)
        small.append(cv2.resize(mask.astype(np.uint8), _REFINED_HW[::-1]) > 0)
    refined = refine_to_image(small, pixels, found.image_hw, RefineParams())
    nothing = np.zeros(found.image_hw, bool)
    return [nothing if mask is None else mask for mask, _ in refined]


def _whole(crop: MaskCrop, image_hw: tuple[int, int]) -> NDArray[np.generic]:
    mask = np.zeros(image_hw, crop.values.dtype)
    (top, left), (height, width) = crop.top_left, crop.values.shape
    mask[top : top + height, left : left + width] = crop.values
    return mask


def _mask_and_confidence(
    values: NDArray[np.generic], score: float, confidence_source: str
) -> tuple[Mask, Float | None]:
    if confidence_source == 'none':
        return values.astype(bool), None
    grid_hw = tuple(-(-side // _CELL_PX) for side in values.shape)
    if confidence_source == 'score':
        return values.astype(bool), np.full(grid_hw, score, np.float32)
    # Masks of MMDetection without a threshold are uint8.
    probability = np.float32(1 / 255) * values.astype(np.float32)
    is_inside = probability >= 0.5
    return is_inside, _mean_inside(probability, is_inside, grid_hw)


def _mean_inside(probability: Float, is_inside: Mask, grid_hw: tuple[int, ...]) -> Float:
    """Mean of the probabilities of a mask's pixels in every cell; 0 where there are none."""
    size = grid_hw[1], grid_hw[0]
    total = cv2.resize(probability * is_inside, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(is_inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0, np.clip(total / np.maximum(share, 1e-6), 0, 1), 0).astype('f4')


def labeller_config(config: Config, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Turn the config of a detector into that of a `DetectorLabeller`.

    Args:
        config: config of a training or a test; its `test_dataloader` has the pipeline.
        checkpoint: weights, as for `read_state`.

    Raises:
        ValueError: the config describes no detector, or the checkpoint holds no weights.
    """
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError(_NO_DETECTOR)
    plain = config.to_dict()
    return {
        'type': 'cuts3d_mm.DetectorLabeller',
        'detector': plain['model'],
        'pipeline': plain['test_dataloader']['dataset']['pipeline'],
        'checkpoint': checkpoint,
        'weights_sha256': digest_weights(read_state(checkpoint).weights),
        **options,
    }


@dataclass(frozen=True)
class DetectorSource:
    """A detector's config and weights."""

    config: Config
    weights: dict[str, Tensor]
    dataset_meta: dict[str, Any]  # names and colours of the classes
    is_release: bool  # the config comes from elsewhere and was checked


@reading_as_data()
def find_detector(model: str | Path | Config | None, weights: str | None = None) -> DetectorSource:
    """Find a detector.

    Args:
        model: `owner/repo[@revision]` on the Hugging Face Hub; a folder that `cuts3d download`
            made; a config, as an object, a path or the name of a shipped one; None for the
            `model.pth` of a release, which holds its config.
        weights: a file, `https://` or `hf://` location; needed with a config.

    Raises:
        ValueError: there is no such config, no weights for it, or it is of a release and names
            what a release may not name.
        FileNotFoundError: no such file.
        HubError: the Hub does not give it.
    """
    if isinstance(model, Path):
        model = str(model)
    release = find_release(model) if isinstance(model, str) and weights is None else None
    if release is not None:
        checked = read_release_config(release / CONFIG_FILE)
        return _release(checked, str(release / WEIGHTS_FILE))
    if model is None:
        if weights is None:
            raise ValueError('a model or weights must be named, got neither')
        return _release(None, str(weights))
    if weights is None:
        raise ValueError(
            f'{model} is a config without published weights; pass weights, a file or an hf:// '
            'location, or name a repository as owner/repo'
        )
    if isinstance(model, Config):
        config = model
    elif Path(model).name == CONFIG_FILE:  # of a release: its lists are not yet tuples
        config = Config(read_release_config(Path(model)))
    else:
        config = read_config(find_config(model))
    state = read_state(weights)
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError(_NO_DETECTOR)
    dataset = config.test_dataloader.get('dataset') or {}
    names = plain_dataset_meta(state.meta.get('dataset_meta') or dataset.get('metainfo'))
    return DetectorSource(config, state.weights, names, is_release=False)


def _release(checked: dict[str, Any] | None, weights: str) -> DetectorSource:
    """Add its weights to a checked config; without one, the weights hold it."""
    state = read_state(weights)
    if checked is None:
        text = state.meta.get(RELEASE_CONFIG)
        if not isinstance(text, str):
            raise ValueError(
                f'{weights} holds no config of a release; name the model as well, such as the '
                'config that it was trained by'
            )
        checked = parse_release_config(text, weights)
    names = checked['test_dataloader']['dataset']['metainfo']
    return DetectorSource(Config(checked), state.weights, names, is_release=True)


@reading_as_data()
def build_trained_detector(model: ConfigDict, source: DetectorSource) -> Any:
    """Build a detector with its weights, on the CPU, ready to predict.

    Args:
        source: its weights; a release is built under the limits of `build_release_model`.

    Raises:
        ValueError: config and weights do not fit each other.
    """
    init_default_scope('mmdet')  # so that MMDetection finds its own classes
    build = partial(build_release_model, weights=source.weights)
    detector: Any = build(model) if source.is_release else MODELS.build(model)
    check_weights_fit(source.weights, detector.state_dict())
    detector.load_state_dict(source.weights)
    detector.dataset_meta = source.dataset_meta
    trained: nn.Module = detector.eval()
    return trained


def build_release_model(config: ConfigDict, weights: Mapping[str, Tensor]) -> Any:
    """Build a detector whose config `trusted_config` has checked.

    Args:
        weights: weights of the release. A detector that needs far more memory than they do is
            refused before the memory is taken.

    Raises:
        ValueError: its parts do not fit together, or need a package that is missing.
    """
    init_default_scope('mmdet')
    most = 2 * sum(value.numel() for value in weights.values()) + _SPARE_NUMBERS
    try:
        with _registered_classes_only(), _Budget(most):
            return MODELS.build(config)
    except _MISFITS as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
        raise ValueError(
            f'model of the release must be one that can be built; {reason}'
        ) from error


@contextmanager
def _registered_classes_only() -> Iterator[None]:
    """Keep MMEngine from importing a name that a registry does not have."""
    original = registry.get_object_from_string

    def refuse(name: str) -> None:
        raise ImportError(f'{name} is no registered class')

    registry.get_object_from_string = refuse
    try:
        yield
    finally:
        registry.get_object_from_string = original


class _Budget(TorchDispatchMode):
    """Counts the numbers of new tensors and refuses to make more than a limit."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.made += _NUMBERS_PER_CALL + _new_numbers(args)
        if self.made > self.most:
            raise MemoryError(f'it needs more than {self.most} numbers, far more than its weights')
        return func(*args, **(kwargs or {}))


def _new_numbers(args: tuple[Any, ...]) -> int:
    """How many numbers an operation makes at most: of a size, or of an outer product."""
    sizes = [math.prod(size) for size in args if _is_size(size)]
    shapes = [value.shape for value in args if isinstance(value, Tensor)]
    if len(shapes) > 1:
        with suppress(RuntimeError):  # shapes that are not broadcast
            whole = math.prod(broadcast_shapes(*shapes))
            sizes.append(whole if whole > max(map(math.prod, shapes)) else 0)
    return max(sizes, default=0)


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(side, int) for side in value)

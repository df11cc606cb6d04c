"""Detect in images with a detector that is named by a repository, a folder or a file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope, registry
from torch import Tensor, broadcast_shapes, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.configs import find_config, without_labels
from cuts3d_mm.hub.client import CONFIG_FILE, WEIGHTS_FILE, find_release
from cuts3d_mm.hub.trusted_config import (
    parse_release_config,
    plain_dataset_meta,
    read_release_config,
)
from cuts3d_mm.images.streams import open_sources
from cuts3d_mm.registry import MODELS
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit
from cuts3d_mm.weights.mmengine_loader import install

SCORE_THR = 0.35  # CutLER's demo
_VISUALIZER = {'type': 'DetLocalVisualizer', 'name': 'visualizer'}
_SPARE_NUMBERS = 1 << 26  # of anchors, indices and the like, which are no weights
_NUMBERS_PER_CALL = 1 << 10  # so that the number of tensors has a limit, too
# What a class of MMDetection raises when its arguments do not fit each other.
_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class CutS3DInferencer(DetInferencer):
    """`mmdet.apis.DetInferencer` for class-agnostic detectors, from the Hub or from a file.

    Weights and configs from elsewhere are read as data; no code of theirs is run.

    Args:
        model (str | Config, optional): `owner/repo[@revision]` on the Hugging Face Hub; a folder
            that `cuts3d download` made; a config, its path, or the name of a shipped one.
            Defaults to None, for weights that hold their config.
        weights (str, optional): A file, `https://` or `hf://` location. Defaults to None.
        device (str, optional): Such as `cuda:0`. Defaults to None: the best there is.
        show_progress (bool): Whether calls show a bar. Defaults to True.

    Example:
        >>> inferencer = CutS3DInferencer('owner/repo')
        >>> inferencer('photo.jpg', out_dir='outputs')          # also folders, lists, URLs, arrays
        >>> for sample in inferencer.stream('clip.mp4'):        # a batch in memory; also arrays
        ...     sample.pred_instances.masks
    """

    def __init__(
        self,
        model: str | Config | None = None,
        weights: str | None = None,
        device: str | None = None,
        show_progress: bool = True,
    ) -> None:
        install()
        self._source: DetectorSource = find_detector(model, weights)
        config = Config(self._source.config.to_dict())
        config.setdefault('visualizer', _VISUALIZER)
        dataset = config.test_dataloader.dataset
        dataset.pipeline = without_labels(dataset.pipeline)
        super().__init__(
            model=config, weights=None, device=device, scope='mmdet', show_progress=show_progress
        )

    def __call__(
        self, inputs: Any, batch_size: int = 1, pred_score_thr: float = SCORE_THR, **kwargs: Any
    ) -> dict[str, Any]:
        """Detect in images and return all results at once.

        Args:
            inputs: a path, URL, folder, BGR array (H, W, 3), or a list of such.
            batch_size: images that go through the network together.
            pred_score_thr: smallest score that is drawn or written, in [0, 1].
            kwargs: those of `mmdet.apis.DetInferencer`, such as `out_dir`.

        Returns:
            `predictions` and `visualization`, as of `mmdet.apis.DetInferencer`.
        """
        results: dict[str, Any] = super().__call__(
            inputs, batch_size, pred_score_thr=pred_score_thr, **kwargs
        )
        return results

    def stream(self, images: str | Path | Iterable[Pixels], batch_size: int = 1) -> Iterator[Any]:
        """Detect in any number of images, holding no more than a batch of them.

        Args:
            images: (H, W, 3) uint8 BGR arrays of any sizes; or one photo, folder, URL, video or
                `webcam:NUMBER`, of which what cannot be read is left out with a warning.
            batch_size: images that go through the network together.

        Yields:
            A `DetDataSample` for each image, in their order.
        """
        if isinstance(images, (str, Path)):
            images = _read_all(str(images))
        for _, data in self.preprocess(images, batch_size=batch_size):
            yield from self.forward(data)

    def _init_model(self, cfg: ConfigDict, weights: Any, device: str = 'cpu') -> nn.Module:
        """Build the detector and give it the weights that were found."""
        model = build_trained_detector(cfg.model, self._source)
        model.cfg = cfg
        trained: nn.Module = model.to(device)
        return trained

    def _init_visualizer(self, cfg: Any) -> Any:
        with warnings.catch_warnings():  # of a visualizer without a folder to save into
            warnings.simplefilter('ignore')
            return super()._init_visualizer(cfg)


def _read_all(name: str) -> Iterator[Pixels]:
    """BGR pixels of all images of a source."""
    for source in open_sources([name]):
        for frame in source.frames():
            if frame.pixels is None:
                warnings.warn(f'{frame.name} is left out: {frame.failure}', stacklevel=2)
            else:
                yield np.ascontiguousarray(frame.pixels[..., ::-1])


@dataclass(frozen=True)
class DetectorSource:
    """A detector's config and weights."""

    config: Config
    weights: dict[str, Tensor]
    dataset_meta: dict[str, Any]  # names and colours of the classes
    is_release: bool  # the config comes from elsewhere and was checked


def find_detector(model: str | Path | Config | None, weights: str | None = None) -> DetectorSource:
    """Find a detector.

    Args:
        model: `owner/repo[@revision]` on the Hugging Face Hub; a folder that `cuts3d download`
            made; a config, as an object, a path or the name of a shipped one; None, if the
            weights hold their config.
        weights: a file, `https://` or `hf://` location; needed with a config.

    Raises:
        ValueError: there is no such config, no weights for it, or it is of a release and names
            what a release may not name.
        FileNotFoundError: no such file.
        HubError: the Hub does not give it.
    """
    if isinstance(model, Path):
        model = str(model)
    if isinstance(model, str) and weights is None:
        release = find_release(model)
        if release is not None:
            checked = read_release_config(release / CONFIG_FILE)
            return _release(checked, str(release / WEIGHTS_FILE))
    if model is None and weights is None:
        raise ValueError('a model or weights must be named, got neither')
    if model is None:
        return _release(None, str(weights))
    if weights is None:
        raise ValueError(
            f'{model} is a config without published weights; pass weights, a file or an hf:// '
            'location, or name a repository as owner/repo'
        )
    config = model if isinstance(model, Config) else Config.fromfile(str(find_config(model)))
    state = read_state(weights)
    names = plain_dataset_meta(state.meta)
    return DetectorSource(config, state.weights, names, is_release=False)


def _release(checked: dict[str, Any] | None, weights: str) -> DetectorSource:
    """Add its weights to a checked config; without one, the weights hold it."""
    state = read_state(weights)
    if checked is None:
        if not isinstance(state.meta.get('cfg'), str):
            raise ValueError(f'{weights} holds no config; name the model as well')
        checked = parse_release_config(state.meta['cfg'], weights)
    names = plain_dataset_meta(state.meta)
    return DetectorSource(Config(checked), state.weights, names, is_release=True)


def build_trained_detector(model: ConfigDict, source: DetectorSource) -> Any:
    """Build a detector with its weights, on the CPU, ready to predict.

    Args:
        model: config of the detector.
        source: of its weights; a release is built under the limits of `release_model`.

    Raises:
        ValueError: config and weights do not fit each other.
    """
    detector: Any
    if source.is_release:
        detector = build_release_model(model, source.weights)
    else:
        detector = MODELS.build(model)
    check_weights_fit(source.weights, detector.state_dict())
    detector.load_state_dict(source.weights)
    detector.dataset_meta = source.dataset_meta
    trained: nn.Module = detector.eval()
    return trained


def build_release_model(config: ConfigDict, weights: Mapping[str, Tensor]) -> Any:
    """Build a detector whose config `trusted_config` has checked.

    Args:
        config: of the detector.
        weights: that it is for. A detector that needs far more memory than they do is refused
            before the memory is taken.

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

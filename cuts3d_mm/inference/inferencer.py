"""Detect as MMDetection does: its own inferencer, for detectors from the Hub or from a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer
from mmengine.config import Config, ConfigDict
from torch import nn

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.configs import SCORE_THR, without_labels
from cuts3d_mm.images.streams import open_sources
from cuts3d_mm.labellers.detector import (
    Detection,
    DetectorSource,
    build_trained_detector,
    find_detector,
    read_detections,
    read_predictions,
)

_VISUALIZER = {'type': 'DetLocalVisualizer', 'name': 'visualizer'}


class CutS3DInferencer(DetInferencer):
    """`mmdet.apis.DetInferencer` for class-agnostic detectors, from the Hub or from a file.

    Weights and configs from elsewhere are read as data; no code of theirs is run.

    Args:
        model (str | Config, optional): `owner/repo[@revision]` on the Hugging Face Hub; a folder
            that `cuts3d download` made; a config, its path, or the name of a shipped one.
            Defaults to None, for the `model.pth` of a release, which holds its config.
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


def instances_of(
    sample: Any, score_thr: float = 0.0, classes: Sequence[str] = ()
) -> tuple[Detection, ...]:
    """Instances of a sample, the best first, for `cuts3d_mm.inference.results`.

    Args:
        sample: `DetDataSample`; a detector without masks has its boxes filled.
        score_thr: smallest score, in [0, 1].
        classes: names of the classes; without them each instance is an object.
    """
    image_hw = tuple(sample.ori_shape)
    found = read_predictions(sample.pred_instances, image_hw, score_thr, None, classes)
    return tuple(read_detections(found, 'none'))

"""An image in, monocular depth out, by a model of the Hugging Face libraries.

The only file that knows transformers and diffusers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cuts3d_mm.labelling.images import ImageFailure, NamedImage
from cuts3d_mm.registry import MODELS

Float = NDArray[np.float32]

# Disparity d becomes depth 1 / (d + share of the range); without the share the farthest
# pixel would lie at infinity and flatten all others.
_DISPARITY_FLOOR = 0.1


@MODELS.register_module()
class HFDepth:
    """A `transformers` depth estimator: ZoeDepth, Depth Anything V2, DPT (MiDaS).

    Args:
        model (str): Hub id or folder, loaded from safetensors.
        revision (str, optional): Commit of the Hub repository. Defaults to None.
        predicts (str): 'depth' for metric or relative depth, 'disparity' for models whose
            larger values are nearer (DPT/MiDaS, Depth Anything). Defaults to 'depth'.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        predicts: Literal['depth', 'disparity'] = 'depth',
    ) -> None:
        _check_predicts(predicts)
        try:
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        except ImportError as error:
            raise ImportError(
                "HFDepth needs transformers: pip install 'cuts3d_mm[depth]'"
            ) from error
        logging.getLogger('transformers').setLevel(logging.ERROR)
        self.processor = AutoImageProcessor.from_pretrained(model, revision=revision)
        network = AutoModelForDepthEstimation.from_pretrained(
            model, revision=revision, use_safetensors=True
        )
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device('cpu')
        self.predicts = predicts

    def to(self, device: str) -> HFDepth:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Estimate depth, (H', W') at the model's own output size.

        Raises:
            ImageFailure: the model returns NaN or inf.
        """
        return [self._estimate(image) for image in images]

    def _estimate(self, image: NamedImage) -> Float:
        inputs = self.processor(
            images=_as_processor_input(image.pixels),
            input_data_format='channels_last',
            return_tensors='pt',
        )
        with torch.no_grad():
            output = self.network(pixel_values=inputs['pixel_values'].to(self.device))
        return to_depth(output.predicted_depth[0].float().cpu().numpy(), self.predicts)


@MODELS.register_module()
class MarigoldDepth:
    """Marigold, a diffusion model turned depth estimator, through `diffusers`.

    Args:
        model (str): Hub id or folder, loaded from safetensors.
        revision (str, optional): Commit of the Hub repository. Defaults to None.
        num_inference_steps (int): Denoising steps. Defaults to 4.
        ensemble_size (int): Predictions that are averaged. Defaults to 1.
        processing_resolution (int): Longer side inside the model, px. Defaults to 768.
        seed (int): Of the noise, the same for every image. Defaults to 0.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        num_inference_steps: int = 4,
        ensemble_size: int = 1,
        processing_resolution: int = 768,
        seed: int = 0,
    ) -> None:
        try:
            from diffusers import MarigoldDepthPipeline
        except ImportError as error:
            raise ImportError('MarigoldDepth needs diffusers: pip install diffusers') from error
        pipeline = MarigoldDepthPipeline.from_pretrained(
            model, revision=revision, use_safetensors=True
        )
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self.options: dict[str, Any] = {
            'num_inference_steps': num_inference_steps,
            'ensemble_size': ensemble_size,
            'processing_resolution': processing_resolution,
        }
        self.seed = seed

    def to(self, device: str) -> MarigoldDepth:
        """Move the networks to a device."""
        self.pipeline = self.pipeline.to(device)
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Estimate depth, (H, W) in [0, 1].

        Raises:
            ImageFailure: the model returns NaN or inf.
        """
        return [self._estimate(image) for image in images]

    def _estimate(self, image: NamedImage) -> Float:
        generator = torch.Generator().manual_seed(self.seed)
        pixels = _as_processor_input(image.pixels).astype(np.float32) / 255
        output = self.pipeline(pixels, generator=generator, output_type='np', **self.options)
        return to_depth(np.asarray(output.prediction[0, ..., 0], np.float32), 'depth')


def to_depth(prediction: Float, predicts: str) -> Float:
    """Turn a model's (H, W) output into depth, larger is farther.

    Disparity is only known up to scale and shift. It is scaled to [0, 1] and inverted with
    the far end held at 11 times the near one.

    Raises:
        ImageFailure: the output is not finite.
    """
    _check_predicts(predicts)
    if not np.isfinite(prediction).all():
        raise ImageFailure('the depth model returned NaN or inf')
    if predicts == 'depth':
        return prediction
    low, high = prediction.min(), prediction.max()
    if high <= low:
        return np.zeros_like(prediction)
    return 1 / ((prediction - low) / (high - low) + np.float32(_DISPARITY_FLOOR))


def _check_predicts(predicts: str) -> None:
    if predicts not in ('depth', 'disparity'):
        raise ValueError(f"predicts must be 'depth' or 'disparity', got {predicts!r}")


def _as_processor_input(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the rows or columns of very thin images: processors keep the aspect ratio."""
    smallest = max(1, max(pixels.shape[:2]) // 8)
    repeats = [max(1, -(-smallest // side)) for side in pixels.shape[:2]]
    return pixels.repeat(repeats[0], axis=0).repeat(repeats[1], axis=1)

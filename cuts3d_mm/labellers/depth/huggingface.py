"""Estimate depth with networks of the Hugging Face Hub."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from cuts3d_mm.algorithm.depth import depth_from_disparity
from cuts3d_mm.algorithm.on_device import full_float32
from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.hub.client import load_pretrained
from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.labellers.networks import to_device
from cuts3d_mm.labellers.registry import DEPTH

# Whatever else a repository names is another network than a depth estimator.
MODEL_TYPES = ('depth_anything', 'depth_pro', 'dpt', 'glpn', 'zoedepth')
_METRIC_TYPES = ('depth_pro', 'glpn', 'zoedepth')
_BACKBONE_TYPES = ('beit', 'bit', 'dinov2', 'dinov2_with_registers', 'swinv2')
# ZoeDepth's processor adds int(3 sqrt(side / 2)) pixels at either end of a side.
_ZOE_PADDING = 3


@DEPTH.register_module()
class HFDepth:
    """A `transformers` depth estimator: ZoeDepth, Depth Anything V2, DPT (MiDaS).

    Nothing of a repository runs: its model must be one of MODEL_TYPES, without code, compiled
    kernels or a backbone of another repository.

    Args:
        model (str): Hub id or folder, loaded from safetensors.
        revision (str, optional): Commit of the Hub repository. Defaults to None.
        predicts (str): 'depth' for metric or relative depth, 'disparity' for models whose
            larger values are nearer (DPT/MiDaS, Depth Anything). Defaults to 'depth'.
        half (bool): Run in bfloat16. Defaults to False.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        predicts: Literal['depth', 'disparity'] = 'depth',
        half: bool = False,
    ) -> None:
        _check_predicts(predicts)
        try:
            from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation
        except ImportError as error:
            raise ImportError(
                "HFDepth needs transformers: pip install 'cuts3d_mm[depth]'"
            ) from error
        logging.getLogger('transformers').setLevel(logging.ERROR)
        options: dict[str, Any] = {'revision': revision, 'trust_remote_code': False}
        config = load_pretrained(AutoConfig.from_pretrained, model, **options)
        require_depth_model(config, model)
        self.processor = load_pretrained(AutoImageProcessor.from_pretrained, model, **options)
        options |= {'use_safetensors': True, 'config': config}
        network = load_pretrained(AutoModelForDepthEstimation.from_pretrained, model, **options)
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network = network.eval().requires_grad_(False).to(self.dtype)
        self.device = torch.device('cpu')
        self.predicts = predicts
        is_metric = config.model_type in _METRIC_TYPES or (
            getattr(config, 'depth_estimation_type', '') == 'metric'
        )
        self.unit = 'm' if is_metric and predicts == 'depth' else 'relative'
        self.is_padded = bool(getattr(self.processor, 'do_pad', False))
        if self.is_padded and network.config.model_type != 'zoedepth':
            raise ValueError(
                'do_pad must be False in the preprocessor config of any model but ZoeDepth, whose '
                f'padding is known and removed; {model} has do_pad=True'
            )

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Complete a config; an option of earlier versions is dropped where it was off."""
        return {key: v for key, v in config.items() if (key, v) != ('average_flipped', False)}

    def to(self, device: str) -> HFDepth:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Estimate depth, (H', W') at the model's own output size.

        Images that the processor brings to the same size go through the network together.

        Raises:
            ImageFailure: the model returns NaN or inf.
        """
        pixels = [as_processor_input(image.pixels) for image in images]
        inputs = [self._process(one) for one in pixels]
        depths: list[Float | None] = [None] * len(images)
        for shape in dict.fromkeys(one.shape for one in inputs):
            indices = [index for index, one in enumerate(inputs) if one.shape == shape]
            batch = torch.cat([inputs[index] for index in indices])
            predictions = self._predict(batch).float().cpu().numpy()
            for index, prediction in zip(indices, predictions, strict=True):
                if self.is_padded:
                    prediction = _remove_padding(prediction, pixels[index].shape)
                depths[index] = to_depth(prediction, self.predicts)
        return [depth for depth in depths if depth is not None]

    def _process(self, pixels: Pixels) -> torch.Tensor:
        """(H, W, 3) -> (1, 3, H', W')."""
        inputs = self.processor(
            images=pixels, input_data_format='channels_last', return_tensors='pt'
        )
        values: torch.Tensor = inputs['pixel_values']
        return values

    def _predict(self, batch: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, H', W')."""
        batch = to_device(batch, self.device).to(self.dtype)
        with torch.no_grad(), full_float32():
            depth: torch.Tensor = self.network(pixel_values=batch).predicted_depth
            return depth


def require_depth_model(config: Any, model: str) -> None:
    """Check the config of a `transformers` model, and take from it what would fetch more.

    Args:
        config: config as it was loaded; changed.
        model: where it comes from, for the message.

    Raises:
        ValueError: the model or its backbone is of no known type.
    """
    if config.model_type not in MODEL_TYPES:
        raise ValueError(
            f'the model type must be one of {", ".join(MODEL_TYPES)}, {model} has '
            f'{config.model_type!r}; name a depth estimator'
        )
    backbone = getattr(config, 'backbone_config', None)
    if backbone is not None and backbone.model_type not in _BACKBONE_TYPES:
        raise ValueError(
            f'the backbone must be one of {", ".join(_BACKBONE_TYPES)}, {model} has '
            f'{backbone.model_type!r}'
        )
    forget_sources(config)


def forget_sources(config: Any) -> None:
    """Take from a config, and from those in it, what names code or weights elsewhere."""
    from transformers import PretrainedConfig

    config._attn_implementation_internal = None  # the name of a kernel on the Hub is fetched
    if hasattr(config, 'use_pretrained_backbone'):
        config.use_pretrained_backbone = False
    for part in vars(config).values():
        if isinstance(part, PretrainedConfig):
            forget_sources(part)


def to_depth(prediction: Float, predicts: str) -> Float:
    """Turn a model's (H, W) output into depth, larger is farther.

    Raises:
        ImageFailure: the output is not finite.
    """
    _check_predicts(predicts)
    if not np.isfinite(prediction).all():
        raise ImageFailure('the depth model returned NaN or inf')
    return prediction if predicts == 'depth' else depth_from_disparity(prediction)


def _remove_padding(prediction: Float, image_shape: tuple[int, ...]) -> Float:
    """Keep the part of a (H', W') prediction that shows the (H, W, 3) image."""
    kept = []
    for side, length in zip(image_shape, prediction.shape, strict=False):
        padding = int(_ZOE_PADDING * math.sqrt(side / 2))
        scale = length / (side + 2 * padding)
        kept.append(slice(round(padding * scale), round((padding + side) * scale)))
    return prediction[kept[0], kept[1]]


def _check_predicts(predicts: str) -> None:
    if predicts not in ('depth', 'disparity'):
        raise ValueError(f"predicts must be 'depth' or 'disparity', got {predicts!r}")


def as_processor_input(pixels: Pixels) -> Pixels:
    """Repeat the rows or columns of very thin images: processors keep the aspect ratio."""
    smallest = max(1, max(pixels.shape[:2]) // 8)
    repeats = [max(1, -(-smallest // side)) for side in pixels.shape[:2]]
    return pixels.repeat(repeats[0], axis=0).repeat(repeats[1], axis=1)


@DEPTH.register_module()
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
            from transformers import CLIPTextConfig, CLIPTextModel
        except ImportError as error:
            raise ImportError('MarigoldDepth needs diffusers: pip install diffusers') from error
        # The only network of `transformers` in it: its config could name a kernel to fetch.
        part: dict[str, Any] = {'revision': revision, 'subfolder': 'text_encoder'}
        config = load_pretrained(CLIPTextConfig.from_pretrained, model, **part)
        forget_sources(config)
        part |= {'config': config, 'use_safetensors': True}
        text_encoder = load_pretrained(CLIPTextModel.from_pretrained, model, **part)
        load = MarigoldDepthPipeline.from_pretrained
        options = {'revision': revision, 'use_safetensors': True, 'text_encoder': text_encoder}
        pipeline = load_pretrained(load, model, **options)
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
        import torch  # takes seconds, which mistakes in a config need not wait for

        generator = torch.Generator().manual_seed(self.seed)
        pixels = as_processor_input(image.pixels).astype(np.float32) / 255
        output = self.pipeline(pixels, generator=generator, output_type='np', **self.options)
        return to_depth(np.asarray(output.prediction[0, ..., 0], np.float32), 'depth')

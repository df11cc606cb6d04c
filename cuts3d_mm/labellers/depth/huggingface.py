"""Estimate depth with networks of the Hugging Face Hub."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from cuts3d_mm.algorithm import on_device
from cuts3d_mm.algorithm.depth import depth_from_disparity
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
_LEAST_PADDED = 4  # pixels of a side that is not longer than its padding, which torch refuses
_ZOE_STEPS = ('do_pad', 'do_rescale', 'do_resize', 'do_normalize')


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
        if predicts not in ('depth', 'disparity'):
            raise ValueError(f"predicts must be 'depth' or 'disparity', got {predicts!r}")
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
        self._is_zoe = _is_plain_zoe(self.processor)

    def to(self, device: str) -> HFDepth:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Estimate depth, (H', W') at the model's own output size.

        Images that are brought to the same size go through the network together.

        Raises:
            ImageFailure: the model returns NaN or inf.
        """
        predictions = self._predict([self._input_of(image) for image in images])
        return [to_depth(one.cpu().numpy(), self.predicts) for one in predictions]

    def launch(self, images: Sequence[NamedImage]) -> list[torch.Tensor]:
        """Estimate depth as a call does, as tensors on the device, which is not waited for.

        They hold NaN or inf where the model returns them.
        """
        predictions = self._predict([self._input_of(image) for image in images])
        if self.predicts == 'depth':
            return predictions
        return [on_device.depth_from_disparity(one) for one in predictions]

    def prepare(self, pixels: Pixels) -> Pixels | Float:
        """Do what the CPU does for the network, in any thread.

        Returns:
            (H, W, 3) uint8, which the device brings to the size of the network; or (3, H', W')
            float32.
        """
        pixels = as_processor_input(pixels)
        if self._is_zoe and min(pixels.shape[:2]) > _LEAST_PADDED:
            return pixels
        inputs = self.processor(
            images=pixels, input_data_format='channels_last', return_tensors='np'
        )
        values: Float = inputs['pixel_values'][0]
        return values

    def _input_of(self, image: NamedImage) -> tuple[Pixels | Float, tuple[int, ...]]:
        """Input of the network, and the shape of the image that the processor sees."""
        prepared = image.prepared.depth_input if image.prepared is not None else None
        shape = as_processor_input(image.pixels).shape
        return (self.prepare(image.pixels) if prepared is None else prepared), shape

    def _predict(
        self, inputs: Sequence[tuple[Pixels | Float, tuple[int, ...]]]
    ) -> list[torch.Tensor]:
        """(H', W') float32 predictions, without the padding of the input."""
        batches: dict[tuple[int, ...], list[tuple[list[int], torch.Tensor]]] = {}
        shapes = [one.shape for one, _ in inputs]
        with torch.no_grad(), on_device.full_float32():
            for shape in dict.fromkeys(shapes):
                indices = [index for index, one in enumerate(shapes) if one == shape]
                batch = to_device([inputs[index][0] for index in indices], self.device)
                if batch.dtype == torch.uint8:
                    batch = self._process_zoe(batch)
                batches.setdefault(tuple(batch.shape[1:]), []).append((indices, batch))
            found: dict[int, torch.Tensor] = {}
            for parts in batches.values():
                batch = torch.cat([part for _, part in parts]).to(self.dtype)
                predictions = self.network(pixel_values=batch).predicted_depth.float()
                order = [index for indices, _ in parts for index in indices]
                found.update(zip(order, predictions, strict=True))
        if not self.is_padded:
            return [found[index] for index in range(len(inputs))]
        return [_remove_padding(found[i], shape) for i, (_, shape) in enumerate(inputs)]

    def _process_zoe(self, batch: torch.Tensor) -> torch.Tensor:
        """Do what ZoeDepth's processor does, (B, H, W, 3) uint8 -> (B, 3, H', W')."""
        from transformers.models.zoedepth import image_processing_zoedepth as zoe

        processor, image_hw = self.processor, batch.shape[1:3]
        padding = [int(_ZOE_PADDING * math.sqrt(side / 2)) for side in image_hw]
        height, width = (side + 2 * more for side, more in zip(image_hw, padding, strict=True))
        size_hw = zoe.get_resize_output_image_size(
            np.broadcast_to(np.uint8(0), (height, width, 3)),
            output_size=(processor.size['height'], processor.size['width']),
            keep_aspect_ratio=processor.keep_aspect_ratio,
            multiple=processor.ensure_multiple_of,
            input_data_format='channels_last',
        )
        values = batch.permute(0, 3, 1, 2).float() / 255
        sides = (padding[1], padding[1], padding[0], padding[0])
        values = torch.nn.functional.pad(values, sides, mode='reflect')
        values = torch.nn.functional.interpolate(
            values, (int(size_hw[0]), int(size_hw[1])), mode='bilinear', align_corners=True
        )
        mean, std = (
            torch.tensor(one).view(1, 3, 1, 1).to(batch.device)
            for one in (processor.image_mean, processor.image_std)
        )
        return (values - mean) / std


def _is_plain_zoe(processor: Any) -> bool:
    """Whether a processor does what `_process_zoe` does."""
    return (
        type(processor).__name__ == 'ZoeDepthImageProcessor'
        and all(getattr(processor, step) for step in _ZOE_STEPS)
        and processor.rescale_factor == 1 / 255
        and processor.resample == Image.Resampling.BILINEAR
        and len(processor.image_mean) == len(processor.image_std) == 3
    )


def require_depth_model(config: Any, model: str) -> None:
    """Check the config of a `transformers` model, and take from it what would fetch more.

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
    if not np.isfinite(prediction).all():
        raise ImageFailure('the depth model returned NaN or inf')
    return prediction if predicts == 'depth' else depth_from_disparity(prediction)


def _remove_padding(prediction: torch.Tensor, image_shape: tuple[int, ...]) -> torch.Tensor:
    """Keep the part of a (H', W') prediction that shows the (H, W, 3) image."""
    kept = []
    for side, length in zip(image_shape, prediction.shape, strict=False):
        padding = int(_ZOE_PADDING * math.sqrt(side / 2))
        scale = length / (side + 2 * padding)
        kept.append(slice(round(padding * scale), round((padding + side) * scale)))
    return prediction[kept[0], kept[1]]


def as_processor_input(pixels: Pixels) -> Pixels:
    """Repeat the rows or columns of very thin images: processors keep the aspect ratio."""
    smallest = max(1, max(pixels.shape[:2]) // 8)
    repeats = [max(1, -(-smallest // side)) for side in pixels.shape[:2]]
    if repeats == [1, 1]:
        return pixels
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

"""Estimate depth with Marigold and the `diffusers` library, which only this file knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Float
from cuts3d_mm.hub.pretrained import load_pretrained
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.huggingface import as_processor_input, to_depth
from cuts3d_mm.labellers.registry import DEPTH


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
        except ImportError as error:
            raise ImportError('MarigoldDepth needs diffusers: pip install diffusers') from error
        load = MarigoldDepthPipeline.from_pretrained
        pipeline = load_pretrained(load, model, revision=revision, use_safetensors=True)
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

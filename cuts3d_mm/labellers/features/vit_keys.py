"""Compute the keys of the last attention block of a self-supervised ViT."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cuts3d_mm.algorithm.affinity import full_float32
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.labellers.batches import image_features, normalized_batch
from cuts3d_mm.labellers.features.grid_positions import GridPositions
from cuts3d_mm.labellers.registry import FEATURES
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.converters.dino import convert_backbone
from cuts3d_mm.weights.fit import check_weights_fit
from cuts3d_mm.weights.mmengine_loader import install

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


class _KeysReached(Exception):
    """Raised by the hook: what follows the keys in the network is not needed."""


@FEATURES.register_module()
class ViTKeyFeatures:
    """Keys of the last attention block of an `mmpretrain.VisionTransformer`.

    The heads are concatenated and extra tokens dropped. The network stops at the keys: the
    last attention and MLP are never run.

    Args:
        backbone (dict): Config of the ViT, `type` and weights left out, such as
            `dict(arch='base', patch_size=8, img_size=224)`.
        checkpoint (str, optional): File, `https://` URL or `hf://owner/repo[@revision]/file`
            with weights named as by DINO, timm, DINOv2 or mmpretrain. None for random
            weights, which is of use in tests only. Defaults to None.
        position_offset (float): Patches added to a side of the grid in the scale by which
            position embeddings are interpolated, (side + offset) / trained side; the trained
            side is `img_size / patch_size` of the backbone. DINO, DiffNCuts and DINOv2 add 0.1;
            0 is the plain scale. Defaults to 0.1.
        half (bool): Run in bfloat16. Defaults to False.
        mean (tuple[float]): Of RGB in [0, 1]. Defaults to ImageNet's.
        std (tuple[float]): Of RGB in [0, 1]. Defaults to ImageNet's.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        checkpoint: str | None = None,
        position_offset: float = 0.1,
        half: bool = False,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        # Weights first: where they cannot be downloaded, nobody waits for the network's packages.
        weights = None if checkpoint is None else convert_backbone(read_state(checkpoint).content)
        self.network: Any = _build_vit(backbone)
        if weights is not None:
            check_weights_fit(weights.weights, self.network.state_dict())
            self.network.load_state_dict(weights.weights)
        self.device = torch.device('cpu')
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network.eval()  # mmpretrain's returns nothing
        self.network.requires_grad_(False).to(self.dtype)
        self.mean = torch.tensor(mean).view(1, 3, 1, 1)
        self.std = torch.tensor(std).view(1, 3, 1, 1)
        self._positions = GridPositions(tuple(self.network.patch_resolution), position_offset)
        self._qkv: Tensor | None = None
        self.network.layers[-1].attn.qkv.register_forward_hook(self._keep_and_stop)

    def to(self, device: str) -> ViTKeyFeatures:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: list[Pixels]) -> list[Any]:
        """Compute the keys of images of one size.

        Args:
            images: (H, W, 3) uint8 RGB; the sides should be multiples of the patch size,
                else the last patches are padded.

        Returns:
            (h, w, C) float32, one per image; on a GPU a tensor.
        """
        batch = normalized_batch(images, self.mean, self.std, self.device, self.dtype)
        grid_hw = self._grid_hw(batch.shape[2:])
        with torch.no_grad(), full_float32():
            keys = self._run_to_keys(batch, grid_hw)
        return image_features(keys.reshape(len(images), *grid_hw, -1))

    def _run_to_keys(self, batch: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) -> (B, h * w, C)."""
        self.network.patch_resolution = grid_hw  # mmpretrain interpolates nothing by itself
        positions = self._positions.on(grid_hw, self.network.pos_embed)
        try:
            functional_call(self.network, {'pos_embed': positions}, (batch,))
        except _KeysReached:
            pass
        qkv, self._qkv = self._qkv, None
        if qkv is None:
            raise RuntimeError('the last attention block must be run by the network, it was not')
        # (B, N, q|k|v * heads * channels): the middle third, heads already side by side.
        _, keys, _ = qkv.chunk(3, dim=-1)
        return keys[:, self.network.num_extra_tokens :]

    def _keep_and_stop(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._qkv = output
        raise _KeysReached

    def _grid_hw(self, image_hw: torch.Size) -> tuple[int, int]:
        kernel = self.network.patch_embed.projection.kernel_size
        return -(-image_hw[0] // kernel[0]), -(-image_hw[1] // kernel[1])


def _build_vit(backbone: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            import mmpretrain.models  # noqa: F401  registers VisionTransformer
            from mmpretrain.registry import MODELS
    except ImportError as error:
        raise ImportError(
            'ViT features need mmpretrain: pip install onedl-mmpretrain (or mmpretrain), with '
            f'transformers below 5; importing it failed with: {error}'
        ) from error
    install()
    return MODELS.build({'type': 'mmpretrain.VisionTransformer', **backbone})

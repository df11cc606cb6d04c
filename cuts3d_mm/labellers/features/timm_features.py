"""Compute features with a network of timm: the keys of a ViT, or a stage of a CNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize, pad

from cuts3d_mm.algorithm.affinity import full_float32, normalize_features
from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.labellers.batches import image_features, normalized_batch
from cuts3d_mm.labellers.features.grid_positions import GridPositions
from cuts3d_mm.labellers.features.timm_networks import (
    attention_of,
    build_network,
    check_name,
    project_keys,
    read_network_weights,
)
from cuts3d_mm.labellers.registry import FEATURES


@FEATURES.register_module()
class TimmFeatures:
    """Keys of a block of a ViT, or a stage of a CNN, of length 1, by any network of timm.

    Keys: the heads are concatenated and extra tokens dropped; they are taken before a norm of
    keys and before a rotary embedding. A stage is centred: its mean over the image is 0 before
    features are brought to length 1. Nothing behind the block or stage is run.

    Args:
        model (str): Name in timm, such as 'resnet50' or 'vit_small_patch16_dinov3.lvd1689m'.
        block (int, optional): Of a ViT, the block whose keys are taken; -1 is the last.
            Defaults to None.
        stage (int, optional): Of a CNN, the stage as timm counts them, in a ResNet 0 for the
            stem and 1 to 4 for its layers; -1 is the last. Defaults to None.
        output_stride (int): Pixels of the image per feature of a CNN, 8, 16 or 32; strides of
            the network beyond it become dilations. Defaults to 8.
        checkpoint (str, optional): 'timm' for the weights that timm names for `model`; or a
            file, `https://` URL or `hf://owner/repo[@revision]/file` with weights named as by
            timm (for a ResNet as by torchvision, DINO or MoCo); None for random weights, which
            is of use in tests only. Defaults to 'timm'.
        position_offset (float): As for `ViTKeyFeatures`, for position embeddings that are
            learnt; rotary ones have none. Defaults to 0.1.
        half (bool): Run in bfloat16. Defaults to False.
        mean (tuple[float], optional): Of RGB in [0, 1]; None for what timm states for `model`.
            Defaults to None.
        std (tuple[float], optional): The same. Defaults to None.
    """

    def __init__(
        self,
        model: str,
        block: int | None = None,
        stage: int | None = None,
        output_stride: int = 8,
        checkpoint: str | None = 'timm',
        position_offset: float = 0.1,
        half: bool = False,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        self._describe: _Keys | _Stage
        if stage is not None and block is None:
            self._describe = _Stage(build_network(model, output_stride=output_stride), stage)
        elif block is not None and stage is None:
            network = build_network(model, dynamic_img_size=True)
            self._describe = _Keys(network, block, position_offset)
        else:
            raise ValueError(
                'either block (of a ViT) or stage (of a CNN) must be given, got '
                f'block={block}, stage={stage}'
            )
        self.network = self._describe.network
        if checkpoint is not None:
            location = None if checkpoint == 'timm' else checkpoint
            self.network.load_state_dict(read_network_weights(self.network, model, location))
        self.device = torch.device('cpu')
        self.dtype = torch.bfloat16 if half else torch.float32
        self.network.eval().requires_grad_(False).to(self.dtype)
        stated = self.network.pretrained_cfg
        self.mean = torch.tensor(mean or stated['mean']).view(1, 3, 1, 1)
        self.std = torch.tensor(std or stated['std']).view(1, 3, 1, 1)

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Check the name of the network, before anything is built or written.

        Raises:
            ValueError: timm does not know it.
        """
        check_name(config['model'])
        return config

    def to(self, device: str) -> TimmFeatures:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: list[Pixels]) -> list[Any]:
        """Compute the features of images of one size.

        Args:
            images: (H, W, 3) uint8 RGB; the sides should be multiples of the patch size or
                the stride, else the last ones are padded.

        Returns:
            (h, w, C) float32 of length 1, one per image; on a GPU a tensor.
        """
        batch = normalized_batch(images, self.mean, self.std, self.device, self.dtype)
        with torch.no_grad(), full_float32():
            features = self._describe(batch).float()
            if self.device.type != 'cpu':
                return image_features(normalize(features, dim=-1))
        return [_normalized(one) for one in image_features(features)]


def _normalized(features: Float) -> Float:
    return normalize_features(features.reshape(-1, features.shape[-1])).reshape(features.shape)


class _Stage:
    """A stage of a CNN, less its mean over each image."""

    def __init__(self, network: Any, stage: int) -> None:
        count = len(getattr(network, 'feature_info', ()))
        if not hasattr(network, 'forward_intermediates') or not -count <= stage < count:
            raise ValueError(f'stage must be one of the {count} of this network, got {stage}')
        self.network, self._stage = network, stage % count

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, C)."""
        (maps,) = self.network.forward_intermediates(
            batch, indices=[self._stage], stop_early=True, intermediates_only=True
        )
        maps = maps.float()
        return (maps - maps.mean(dim=(2, 3), keepdim=True)).permute(0, 2, 3, 1)


class _BlockReached(Exception):
    """Raised by the hook: what follows in the network is not needed."""


class _Keys:
    """The keys of a block of a ViT, as its projection gives them."""

    def __init__(self, network: Any, block: int, position_offset: float) -> None:
        blocks = getattr(network, 'blocks', ())
        is_sequence = hasattr(network, 'num_prefix_tokens') and hasattr(network, 'patch_embed')
        if not is_sequence or not -len(blocks) <= block < len(blocks):
            raise ValueError(f'block must be one of the {len(blocks)} of a ViT, got {block}')
        self.network = network
        self._attention = attention_of(blocks[block])
        self._attention.register_forward_pre_hook(self._keep_and_stop)
        self._patch_hw: tuple[int, int] = tuple(network.patch_embed.feat_ratio(as_scalar=False))
        self._positions = GridPositions(tuple(network.patch_embed.grid_size), position_offset)
        self._tokens: Tensor | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, C)."""
        patch_h, patch_w = self._patch_hw
        batch = pad(batch, (0, -batch.shape[3] % patch_w, 0, -batch.shape[2] % patch_h))
        grid_hw = batch.shape[2] // patch_h, batch.shape[3] // patch_w
        positions = self._positions_on(grid_hw)
        self.network.patch_embed.grid_size = grid_hw  # timm interpolates what is not of this size
        try:
            functional_call(self.network, positions, (batch,))
        except _BlockReached:
            pass
        tokens, self._tokens = self._tokens, None
        if tokens is None:
            raise RuntimeError('the block must be run by the network, it was not')
        keys = project_keys(self._attention, tokens[:, self.network.num_prefix_tokens :])
        return keys.reshape(len(batch), *grid_hw, -1)

    def _positions_on(self, grid_hw: tuple[int, int]) -> dict[str, Tensor]:
        positions = self.network.pos_embed
        if positions is None:  # rotary ones alone
            return {}
        return {'pos_embed': self._positions.on(grid_hw, positions)}

    def _keep_and_stop(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._tokens = inputs[0]
        raise _BlockReached

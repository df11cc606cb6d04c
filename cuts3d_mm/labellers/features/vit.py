"""Features of vision transformers: the keys of the last block, by MMPretrain or timm."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor, cat, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, linear, normalize, pad

from cuts3d_mm.algorithm.affinity import normalize_features
from cuts3d_mm.algorithm.on_device import full_float32
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.labellers.networks import to_device
from cuts3d_mm.labellers.registry import FEATURES
from cuts3d_mm.weights import read_state, require_tensors
from cuts3d_mm.weights.checkpoints import check_weights_fit
from cuts3d_mm.weights.converters import convert_backbone, unwrap_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
_HUB_FILE = 'model.safetensors'  # in a repository of which timm names no file
# What a filter of timm raises where the names of weights are not those that it expects.
_UNEXPECTED = (LookupError, AttributeError, TypeError, ValueError, RuntimeError)


class _NetworkFeatures:
    """A network, on a device and in a precision, of which a part describes images."""

    def __init__(
        self,
        network: Any,
        part: Callable[[Tensor], Tensor],
        half: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.network, self._part = network, part
        self.device = torch.device('cpu')
        self.dtype = torch.bfloat16 if half else torch.float32
        network.eval()  # mmpretrain's returns nothing
        network.requires_grad_(False).to(self.dtype)
        self.mean, self.std = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, std))

    def to(self, device: str) -> Self:
        """Move the network to a device."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: list[Pixels]) -> list[Any]:
        """Describe (H, W, 3) uint8 RGB images of one size.

        The sides should be multiples of the patch size or the stride, else the last patches are
        padded.

        Returns:
            (h, w, C) float32, one per image; on a GPU a tensor, which stays there to be linked.
        """
        values = to_device(images, self.device).permute(0, 3, 1, 2).float() / 255
        batch = (values - self.mean.to(self.device)) / self.std.to(self.device)
        with torch.no_grad(), full_float32():
            return self._divided(self._part(batch.to(self.dtype)).float())

    def _divided(self, features: Tensor) -> list[Any]:
        return list(features.numpy() if self.device.type == 'cpu' else features)


@FEATURES.register_module()
class ViTKeyFeatures(_NetworkFeatures):
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
        network = _build_vit(backbone)
        if weights is not None:
            check_weights_fit(weights.weights, network.state_dict())
            network.load_state_dict(weights.weights)
        patch_hw, grid = network.patch_embed.projection.kernel_size, (network, 'patch_resolution')
        block, others = network.layers[-1], network.num_extra_tokens
        keys = _Keys(network, block, patch_hw, grid, others, position_offset)
        super().__init__(network, keys, half, mean, std)


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
    # Imported here: MMEngine's runner takes seconds, which a wrong argument need not wait for.
    from cuts3d_mm.weights.mmengine_loader import reading_as_data

    with reading_as_data():
        return MODELS.build({'type': 'mmpretrain.VisionTransformer', **backbone})


@FEATURES.register_module()
class TimmFeatures(_NetworkFeatures):
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
        part: _Keys | _Stage
        if stage is not None and block is None:
            network = _build_network(model, output_stride=output_stride)
            part = _Stage(network, stage)
        elif block is not None and stage is None:
            network = _build_network(model, dynamic_img_size=True)
            part = _keys_of_timm(network, block, position_offset)
        else:
            raise ValueError(
                'either block (of a ViT) or stage (of a CNN) must be given, got '
                f'block={block}, stage={stage}'
            )
        if checkpoint is not None:
            location = locate_weights(model) if checkpoint == 'timm' else checkpoint
            network.load_state_dict(_read_network_weights(network, model, location))
        stated = network.pretrained_cfg
        super().__init__(network, part, half, mean or stated['mean'], std or stated['std'])

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Check the name of the network, before anything is built or written.

        Raises:
            ValueError: timm does not know it.
        """
        if find_spec('timm') is not None:
            _require_known(_import_timm(), config['model'])
        return config

    def _divided(self, features: Tensor) -> list[Any]:
        if self.device.type != 'cpu':
            return super()._divided(normalize(features, dim=-1))
        flat = (normalize_features(one.flatten(0, 1).numpy()) for one in features)
        return [one.reshape(features.shape[1:]) for one in flat]


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
    """Raised by the hook: what follows the keys in the network is not needed."""


class _Keys:
    """The keys of a block of a ViT, all heads side by side, before any norm or rotation of them.

    Args:
        patch_hw: sides of a patch, px.
        grid: object and attribute with the grid of patches of the trained images. It is set to
            that of the images at hand, so that the network interpolates no positions itself.
        num_others: tokens in front of those of the patches.
        offset: see `interpolate_positions`.

    Raises:
        ValueError: the block makes no keys by a linear layer.
    """

    def __init__(
        self,
        network: Any,
        block: Any,
        patch_hw: tuple[int, int],
        grid: tuple[Any, str],
        num_others: int,
        offset: float,
    ) -> None:
        attention: Any = getattr(block, 'attn', None)
        layers = (getattr(attention, name, None) for name in ('k_proj', 'qkv'))
        if not any(isinstance(layer, nn.Linear) for layer in layers):
            raise ValueError(
                'blocks must have an attention with keys, those of this network have not'
            )
        self._network, self._attention, self._patch_hw = network, attention, patch_hw
        self._grid, self._trained_hw = grid, tuple(getattr(*grid))
        self._num_others, self._offset = num_others, offset
        attention.register_forward_pre_hook(self._keep_and_stop)
        self._tokens: Tensor | None = None
        self._replaced: dict[str, Tensor] = {}  # positions on the grid of the last images
        self._replaced_for: Any = None

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, C)."""
        patch_h, patch_w = self._patch_hw
        batch = pad(batch, (0, -batch.shape[3] % patch_w, 0, -batch.shape[2] % patch_h))
        grid_hw = batch.shape[2] // patch_h, batch.shape[3] // patch_w
        positions = self._network.pos_embed  # None: rotary ones alone
        if positions is not None and self._replaced_for != (grid_hw, positions.device):
            on_grid = interpolate_positions(positions, self._trained_hw, grid_hw, self._offset)
            self._replaced, self._replaced_for = (
                {'pos_embed': on_grid},
                (grid_hw, positions.device),
            )
        setattr(*self._grid, grid_hw)
        with suppress(_BlockReached):
            functional_call(self._network, self._replaced, (batch,))
        tokens, self._tokens = self._tokens, None
        if tokens is None:
            raise RuntimeError('the block must be run by the network, it was not')
        return self._project(tokens)[:, self._num_others :].unflatten(1, grid_hw)

    def _keep_and_stop(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._tokens = inputs[0]
        raise _BlockReached

    def _project(self, tokens: Tensor) -> Tensor:
        """Keys of (B, N, C) tokens."""
        attention = self._attention
        if getattr(attention, 'k_proj', None) is not None:
            return attention.k_proj(tokens)
        # The middle third of q, k and v; some keep the three biases next to the layer.
        weight, bias = attention.qkv.weight.chunk(3)[1], attention.qkv.bias
        bias = getattr(attention, 'k_bias', None) if bias is None else bias.chunk(3)[1]
        return linear(tokens, weight, bias)


def _keys_of_timm(network: Any, block: int, offset: float) -> _Keys:
    blocks = getattr(network, 'blocks', ())
    is_sequence = hasattr(network, 'num_prefix_tokens') and hasattr(network, 'patch_embed')
    if not is_sequence or not -len(blocks) <= block < len(blocks):
        raise ValueError(f'block must be one of the {len(blocks)} of a ViT, got {block}')
    embed, others = network.patch_embed, network.num_prefix_tokens
    patch_hw = embed.feat_ratio(as_scalar=False)
    return _Keys(network, blocks[block], patch_hw, (embed, 'grid_size'), others, offset)


def _build_network(model: str, **options: Any) -> Any:
    """Build a network of timm without its classifier, with random weights.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm knows no such name, or the network does not take the options.
    """
    timm = _import_timm()
    _require_known(timm, model)
    try:
        return timm.create_model(model, pretrained=False, num_classes=0, **options)
    except (TypeError, AssertionError) as error:
        asked = ', '.join(f'{name}={value}' for name, value in options.items())
        raise ValueError(
            f'{model} must take {asked}, it does not ({error}); stages need a CNN such as '
            'resnet50, blocks need a ViT such as vit_small_patch8_224.dino'
        ) from error


def _read_network_weights(network: Any, model: str, location: str) -> dict[str, Tensor]:
    """Read weights, rename those of other layouts as timm does, and check that they fit.

    Raises:
        ValueError: they do not fit the network, or could run code.
        HubError: they cannot be downloaded.
    """
    weights = require_tensors(unwrap_backbone(read_state(location).content), location)
    module = sys.modules[_import_timm().models.model_entrypoint(model).__module__]
    rename = getattr(module, 'checkpoint_filter_fn', None)
    try:
        if rename is not None:
            weights = require_tensors(rename(weights, network), location)
    except _UNEXPECTED as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise ValueError(f'weights of {location} must fit {model}: {reason}') from error
    heads = network.pretrained_cfg.get('classifier') or ()
    parts = tuple(f'{name}.' for name in ((heads,) if isinstance(heads, str) else heads))
    expected = network.state_dict()
    kept = {k: v for k, v in weights.items() if k in expected or not k.startswith(parts)}
    check_weights_fit(kept, expected)
    return kept


def locate_weights(model: str) -> str:
    """Where timm says that the weights of a model lie: `hf://...` or `https://...`.

    Raises:
        ValueError: it names none.
    """
    stated = _import_timm().get_pretrained_cfg(model)
    if stated is not None and stated.hf_hub_id:
        return f'hf://{stated.hf_hub_id}/{stated.hf_hub_filename or _HUB_FILE}'
    if stated is not None and stated.url:
        return str(stated.url)
    raise ValueError(
        f'timm must name weights for {model}, it names none; give a checkpoint, or one of the '
        f'names of timm.list_models({model.split(".")[0]!r} + "*", pretrained=True)'
    )


def _require_known(timm: ModuleType, model: str) -> None:
    """Let names of timm's registry pass, with a tag or without, and nothing that names a place."""
    names = timm.list_models(model.split('.')[0] + '.*', pretrained=True)
    if timm.is_model(model) and ('.' not in model or model in names):
        return
    near = difflib.get_close_matches(model, names or timm.list_models(pretrained=True))
    raise ValueError(
        f'model must be a name that timm {timm.__version__} knows, got {model!r}; near to it: '
        f'{", ".join(near) or "none"}; timm.list_models(pretrained=True) lists all'
    )


def _import_timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ImportError("TimmFeatures needs timm: pip install 'cuts3d_mm[timm]'") from error
    return timm


def interpolate_positions(
    positions: Tensor, trained_hw: tuple[int, int], grid_hw: tuple[int, int], offset: float
) -> Tensor:
    """Interpolate position embeddings bicubically, as DINO does where the offset is 0.1.

    Patch i of a side of n lies at (i + 0.5) * s / (n + offset) - 0.5 on the trained grid, whose
    side has s patches. The embeddings of other tokens are kept.

    Args:
        positions: (1, E + s_h * s_w, C), those of E other tokens first.
        trained_hw: (s_h, s_w).
        grid_hw: (h, w), the new grid; the trained one gives the embeddings back.
        offset: patches added to the sides of the new grid.

    Returns:
        (1, E + h * w, C) in the type of the input.
    """
    if tuple(grid_hw) == tuple(trained_hw):
        return positions
    num_others = positions.shape[1] - trained_hw[0] * trained_hw[1]
    if num_others < 0:
        raise ValueError(
            f'positions must hold at least {trained_hw[0]} x {trained_hw[1]} patches, '
            f'got {positions.shape[1]}; check img_size and patch_size of the backbone'
        )
    others, patches = positions[:, :num_others], positions[:, num_others:]
    # (1, s_h * s_w, C) -> (1, C, s_h, s_w)
    grid = patches.float().reshape(1, *trained_hw, -1).permute(0, 3, 1, 2)
    if offset:
        scale = tuple((n + offset) / s for n, s in zip(grid_hw, trained_hw, strict=True))
        resized = interpolate(grid, scale_factor=scale, mode='bicubic')
    else:
        resized = interpolate(grid, size=grid_hw, mode='bicubic')
    return cat([others, resized.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)

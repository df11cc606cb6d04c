"""Features of vision transformers: the keys of the last block, by MMPretrain or timm."""

from __future__ import annotations

import difflib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, cat, device, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, linear, normalize, pad

from cuts3d_mm.algorithm.affinity import normalize_features
from cuts3d_mm.algorithm.on_device import full_float32
from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.labellers.networks import image_features, normalized_batch
from cuts3d_mm.labellers.registry import FEATURES
from cuts3d_mm.weights import read_state, require_tensors
from cuts3d_mm.weights.checkpoints import check_weights_fit
from cuts3d_mm.weights.converters import convert_backbone, unwrap_backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
_HUB_FILE = 'model.safetensors'  # in a repository of which timm names no file
# What a filter of timm raises where the names of weights are not those that it expects.
_UNEXPECTED = (LookupError, AttributeError, TypeError, ValueError, RuntimeError)


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
        self._keys = KeysOfBlock(self.network.layers[-1])

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
        keys = self._keys(self.network, {'pos_embed': positions}, batch)
        return keys[:, self.network.num_extra_tokens :]

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
    # Imported here: MMEngine's runner takes seconds, which a wrong argument need not wait for.
    from cuts3d_mm.weights.mmengine_loader import reading_as_data

    with reading_as_data():
        return MODELS.build({'type': 'mmpretrain.VisionTransformer', **backbone})


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


class _Keys:
    """The keys of a block of a ViT, as its projection gives them."""

    def __init__(self, network: Any, block: int, position_offset: float) -> None:
        blocks = getattr(network, 'blocks', ())
        is_sequence = hasattr(network, 'num_prefix_tokens') and hasattr(network, 'patch_embed')
        if not is_sequence or not -len(blocks) <= block < len(blocks):
            raise ValueError(f'block must be one of the {len(blocks)} of a ViT, got {block}')
        self.network = network
        self._keys = KeysOfBlock(blocks[block])
        self._patch_hw: tuple[int, int] = tuple(network.patch_embed.feat_ratio(as_scalar=False))
        self._positions = GridPositions(tuple(network.patch_embed.grid_size), position_offset)

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, C)."""
        patch_h, patch_w = self._patch_hw
        batch = pad(batch, (0, -batch.shape[3] % patch_w, 0, -batch.shape[2] % patch_h))
        grid_hw = batch.shape[2] // patch_h, batch.shape[3] // patch_w
        positions = self._positions_on(grid_hw)
        self.network.patch_embed.grid_size = grid_hw  # timm interpolates what is not of this size
        keys = self._keys(self.network, positions, batch)[:, self.network.num_prefix_tokens :]
        return keys.reshape(len(batch), *grid_hw, -1)

    def _positions_on(self, grid_hw: tuple[int, int]) -> dict[str, Tensor]:
        positions = self.network.pos_embed
        if positions is None:  # rotary ones alone
            return {}
        return {'pos_embed': self._positions.on(grid_hw, positions)}


class _BlockReached(Exception):
    """Raised by the hook: what follows the keys in the network is not needed."""


class KeysOfBlock:
    """Runs a ViT up to a block, and takes the keys of its attention before any norm of them.

    Raises:
        ValueError: the block makes no keys by a linear layer.
    """

    def __init__(self, block: Any) -> None:
        self._attention = attention_of(block)
        self._attention.register_forward_pre_hook(self._keep_and_stop)
        self._tokens: Tensor | None = None

    def __call__(self, network: Any, replaced: dict[str, Tensor], batch: Tensor) -> Tensor:
        """Compute the keys of all tokens, all heads side by side.

        Args:
            network: the ViT that the block is a part of.
            replaced: parameters by name that take the place of the network's own.
            batch: (B, 3, H, W).

        Returns:
            (B, N, C), extra tokens included.
        """
        try:
            functional_call(network, replaced, (batch,))
        except _BlockReached:
            pass
        tokens, self._tokens = self._tokens, None
        if tokens is None:
            raise RuntimeError('the block must be run by the network, it was not')
        return project_keys(self._attention, tokens)

    def _keep_and_stop(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._tokens = inputs[0]
        raise _BlockReached


def build_network(model: str, **options: Any) -> Any:
    """Build a network of timm without its classifier, with random weights.

    Args:
        model: name in timm, with or without the tag of weights.
        options: of the network.

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


def read_network_weights(network: Any, model: str, checkpoint: str | None) -> dict[str, Tensor]:
    """Read weights and check that they fit.

    Args:
        network: what `build_network` made of `model`.
        model: name in timm.
        checkpoint: file, `https://...` or `hf://...`; None for what timm names for the model.

    Raises:
        ValueError: timm names no weights, or they do not fit the network, or could run code.
        HubError: they cannot be downloaded.
    """
    location = checkpoint or locate_weights(model)
    weights = require_tensors(unwrap_backbone(read_state(location).content), location)
    weights = _rename_as_timm(network, model, weights, location)
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


def _rename_as_timm(
    network: Any, model: str, weights: dict[str, Tensor], location: str
) -> dict[str, Tensor]:
    """Rename weights of other layouts as timm does where it loads them itself."""
    module = sys.modules[_import_timm().models.model_entrypoint(model).__module__]
    rename = getattr(module, 'checkpoint_filter_fn', None)
    if rename is None:
        return weights
    try:
        return require_tensors(rename(weights, network), location)
    except _UNEXPECTED as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise ValueError(f'weights of {location} must fit {model}: {reason}') from error


def check_name(model: str) -> None:
    """Check the name of a network where timm is installed.

    Raises:
        ValueError: timm does not know it.
    """
    if find_spec('timm') is not None:
        _require_known(_import_timm(), model)


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


def attention_of(block: Any) -> Any:
    """The attention of a block.

    Raises:
        ValueError: it makes no keys by a linear layer.
    """
    attention: Any = getattr(block, 'attn', block)
    layers = (getattr(attention, name, None) for name in ('k_proj', 'qkv'))
    if attention is block or not any(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError('blocks must have an attention with keys, those of this network have not')
    return attention


def project_keys(attention: Any, tokens: Tensor) -> Tensor:
    """Keys of (B, N, C) tokens, all heads side by side."""
    if getattr(attention, 'k_proj', None) is not None:
        return attention.k_proj(tokens)
    # The middle third of q, k and v; some keep the three biases next to the layer.
    weight, bias = attention.qkv.weight.chunk(3)[1], attention.qkv.bias
    bias = getattr(attention, 'k_bias', None) if bias is None else bias.chunk(3)[1]
    return linear(tokens, weight, bias)


class GridPositions:
    """Position embeddings of a network, interpolated once for images of one size.

    Args:
        trained_hw: patches of the grid that the network was trained on.
        offset: patches added to the sides of a new grid, see `interpolate_positions`.
    """

    def __init__(self, trained_hw: tuple[int, int], offset: float) -> None:
        self._trained_hw, self._offset = trained_hw, offset
        self._latest: tuple[tuple[int, int], device, Tensor] | None = None

    def on(self, grid_hw: tuple[int, int], positions: Tensor) -> Tensor:
        """Bring the embeddings to a grid.

        Args:
            grid_hw: the grid.
            positions: those of the network, which change by their device only.

        Returns:
            (1, E + h * w, C), see `interpolate_positions`.
        """
        if self._latest is None or self._latest[:2] != (grid_hw, positions.device):
            resized = interpolate_positions(positions, self._trained_hw, grid_hw, self._offset)
            self._latest = grid_hw, positions.device, resized
        return self._latest[2]


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

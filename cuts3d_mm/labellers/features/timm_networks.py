"""Build networks of timm and read the weights that timm names, by our own reader."""

from __future__ import annotations

import difflib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear

from cuts3d_mm.weights import read_state, require_tensors
from cuts3d_mm.weights.converters.dino import unwrap_backbone
from cuts3d_mm.weights.fit import check_weights_fit

_HUB_FILE = 'model.safetensors'  # in a repository of which timm names no file
# What a filter of timm raises where the names of weights are not those that it expects.
_UNEXPECTED = (LookupError, AttributeError, TypeError, ValueError, RuntimeError)


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

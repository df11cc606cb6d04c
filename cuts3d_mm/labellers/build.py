"""Build what labels images from its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.hub.locate import locate_file
from cuts3d_mm.labellers.recipe import build_params, require_depth, uses_depth
from cuts3d_mm.labellers.registry import DEPTH, FEATURES, LABELLERS, is_ours

_NAMED_BY_TIMM = 'timm'  # what `TimmFeatures` takes in place of a location


def build_labeller(model: dict[str, Any]) -> Any:
    """Build what labels images, a generator or a detector, from its config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    check_labeller(model)
    return LABELLERS.build(model)


def check_labeller(model: Any) -> None:
    """Check the config of a labeller; nothing is built, loaded or downloaded.

    Raises:
        ValueError: says what it must hold.
    """
    LABELLERS.check(model)
    if not _is_generator(model):
        return
    FEATURES.check(model['features'])
    params = build_params(model.get('recipe'))
    require_depth(params, model.get('depth'))
    if uses_depth(params):
        DEPTH.check(model['depth'])


def has_foreign_parts(model: dict[str, Any]) -> bool:
    """Tell whether a labeller or a part of it is of another package, which may import anything."""
    parts = (LABELLERS, model), (FEATURES, model.get('features')), (DEPTH, model.get('depth'))
    names = ((registry, part['type']) for registry, part in parts if isinstance(part, dict))
    kinds = (registry.get(kind) if isinstance(kind, str) else kind for registry, kind in names)
    return any(kind is not None and not is_ours(kind) for kind in kinds)


def fetch_weights(model: dict[str, Any]) -> None:
    """Download the files of weights that a labeller names into the cache, if need be.

    Raises:
        HubError: one cannot be downloaded.
        FileNotFoundError: one on this machine is not there.
    """
    for part in (model, model.get('features'), model.get('depth')):
        location = part.get('checkpoint') if isinstance(part, dict) else None
        if not isinstance(location, str) or location == _NAMED_BY_TIMM:
            continue
        path = locate_file(location)
        if not path.is_file():
            raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')


def _is_generator(model: dict[str, Any]) -> bool:
    kind = model['type']
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2] == 'PseudoLabelGenerator'


def with_depth_folder(model: dict[str, Any], folder: str | None) -> dict[str, Any]:
    """Let a generator read its depth from a folder.

    Args:
        model: config of a generator. Its depth source stays, with its other options, if it
            reads a folder; otherwise it makes way for `DepthFromFile`.
        folder: of depth maps; None keeps that of the config.

    Raises:
        ValueError: the folder that the depth is read from does not exist.
    """
    found = model.get('depth') if isinstance(model, dict) else None
    depth = found if isinstance(found, dict) else {}  # `check_labeller` says what it must be
    kind = depth.get('type')
    argument = DEPTH.text_attribute(kind, 'FOLDER_ARGUMENT') if isinstance(kind, str) else None
    if folder is None:
        if argument in depth and uses_depth(build_params(model.get('recipe'))):
            _check_folder(depth[argument])
        return model
    _check_folder(folder)
    if argument is None:
        from cuts3d_mm.labellers.depth.file import DepthFromFile

        depth = {'type': f'cuts3d_mm.{DepthFromFile.__name__}'}
        argument = DepthFromFile.FOLDER_ARGUMENT
    return {**model, 'depth': {**depth, argument: folder}}


def _check_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f'depth folder must exist, got {folder}; name one with --depth DIR')

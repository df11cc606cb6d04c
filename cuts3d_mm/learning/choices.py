"""Choose the configs and the devices of a run."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.hub.client import HUB_PREFIX, WEIGHTS_FILE, is_repository_name
from cuts3d_mm.learning.plan import Settings
from cuts3d_mm.learning.request import Request

EMBEDDED_2D, EMBEDDED_3D = 'maskcut_color-texture', 'cuts3d_color-texture_file-depth'
EMBEDDED_DETECTOR = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
NETWORKS = 'cuts3d_dino-vitb8_zoedepth'
NETWORKS_DETECTOR = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds'


def choose_settings(request: Request, earlier: Settings | None) -> Settings:
    """Fill in what a request leaves open: as the plan of its folder says, or by default.

    Raises:
        ValueError: there are fewer GPUs than asked for.
    """
    depth = None if request.depth is None else str(request.depth.resolve())
    if depth is None and earlier is not None:
        depth = earlier.depth
    generator, detector = NETWORKS, NETWORKS_DETECTOR
    if earlier is not None:
        generator, detector = earlier.generator, earlier.detector
    elif request.offline:
        generator = EMBEDDED_2D if depth is None else EMBEDDED_3D
        detector = EMBEDDED_DETECTOR
    before = earlier or Settings('', '', None, '', None, request.offline, count_gpus(), 0)
    return Settings(
        images=str(request.images.resolve()),
        generator=_absolute(request.config) or generator,
        depth=depth,
        detector=_absolute(request.detector) or detector,
        load_from=_find_weights(request.load_from) or before.load_from,
        is_offline=request.offline or before.is_offline,
        gpus=_require_gpus(before.gpus if request.gpus is None else request.gpus),
        seed=before.seed if request.seed is None else request.seed,
    )


def _absolute(config: str | None) -> str | None:
    """Path of a config file from anywhere; the name of a shipped one as it is."""
    return str(Path(config).absolute()) if config and Path(config).is_file() else config


def count_gpus() -> int:
    """GPUs that torch sees."""
    import torch  # takes seconds

    return int(torch.cuda.device_count())


def _require_gpus(gpus: int) -> int:
    present = count_gpus()
    if not 0 <= gpus <= present:
        raise ValueError(
            f'--gpus must be 0 to {present}, the GPUs of this machine, got {gpus}; a plan with '
            'another number needs an OUT of its own'
        )
    return gpus


def _find_weights(model: str | None) -> str | None:
    """Location of the weights of a release, of a repository, or of a file as it is."""
    if model is None:
        return None
    if (Path(model) / WEIGHTS_FILE).is_file():
        return str((Path(model) / WEIGHTS_FILE).absolute())
    if Path(model).is_file():
        return str(Path(model).absolute())
    name = model.removeprefix(HUB_PREFIX)
    return f'{HUB_PREFIX}{name}/{WEIGHTS_FILE}' if is_repository_name(name) else model


def is_location(model: str) -> bool:
    """Tell whether weights may lie there, as far as this machine can tell."""
    found = _find_weights(model) or ''
    return '://' in found or Path(found).is_file()

"""Say what is installed and what each feature still needs."""

from __future__ import annotations

import importlib
import platform
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions

from cuts3d_mm import __version__
from cuts3d_mm.operators import are_compiled, describe_wheels

# torch minor -> torchvision minor is a fixed offset since torch 2.0 / torchvision 0.15
_TORCHVISION_OFFSET = 15
_OPTIONAL = {
    'transformers': ('depth models (ZoeDepth, Depth Anything, DPT)', "'cuts3d_mm[depth]'"),
    'diffusers': ('Marigold depth', "'cuts3d_mm[marigold]'"),
    'huggingface-hub': ('Hugging Face Hub', "'cuts3d_mm[hub]'"),
    'timm': ('features of timm, such as DINOv3', "'cuts3d_mm[timm]'"),
    'gradio': ('app in a browser', "'cuts3d_mm[app]'"),
    'pydensecrf2': ("refinement by 'pydensecrf'", "'cuts3d_mm[crf]'"),
}
FAMILIES = (
    ('mmdet', 'onedl-mmdetection'),
    ('mmcv', 'onedl-mmcv'),
    ('mmengine', 'onedl-mmengine'),
    ('mmpretrain', 'onedl-mmpretrain'),
)
MMCV_LITE = 'mmcv-lite'  # mmcv without operators, of OpenMMLab's family
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
SAFE_PILLOW = 12, 3
_SHOWN = (
    *('torch', 'torchvision', 'numpy', 'scipy', 'numba', 'pyarrow', 'pillow', 'transformers'),
    *(name for family in FAMILIES for name in family),
    MMCV_LITE,
    *OPENCV,
)
_TRIED = ('cv2', 'mmcv._ext', 'mmdet.models', 'mmpretrain.models', 'torchvision')
OPERATOR = 'mmcv.ops.nms'  # runs, if mmcv fits torch
_OTHER_MMCV = (
    'install the torch that mmcv was compiled for (requirements/), or mmcv without operators: '
    'pip install --force-reinstall --no-deps onedl-mmcv'
)


@dataclass(frozen=True)
class Finding:
    """Something about the environment that the user should know."""

    what: str
    remedy: str
    is_serious: bool = True  # False: an optional part is missing


def examine(facts: Facts) -> list[Finding]:
    """Find what is wrong; serious findings first."""
    checks = (
        *(_families, _opencv, _torchvision, _operators),
        *(_transformers, _mmpretrain, _pillow, _optional_parts),
    )
    findings = [finding for check in checks for finding in check(facts)]
    return sorted(findings, key=lambda finding: not finding.is_serious)


def _families(facts: Facts) -> Iterator[Finding]:
    for original, fork in FAMILIES[:3]:
        names = [original, fork, *([MMCV_LITE] if original == 'mmcv' else [])]
        installed = [name for name in names if name in facts.versions]
        if len(installed) > 1:
            yield Finding(
                f'{" and ".join(installed)} are installed together and overwrite each other',
                f'pip uninstall -y {" ".join(installed)}, then install one family again',
            )
        elif not installed:
            what = f'{original} is not installed'
            yield Finding(what, f"pip install {fork} (or 'cuts3d_mm[openmmlab]')")


def _opencv(facts: Facts) -> Iterator[Finding]:
    installed = [name for name in OPENCV if name in facts.versions]
    removal = f'pip uninstall -y {" ".join(installed)} && ' if installed else ''
    remedy = f'{removal}pip install opencv-python-headless'
    if 'cv2' in facts.import_errors:
        yield Finding(f'cv2 cannot be imported: {facts.import_errors["cv2"]}', remedy)
    elif len(installed) > 1:
        what = f'cv2 is installed {len(installed)} times: {", ".join(installed)}'
        yield Finding(what, remedy)


def _torchvision(facts: Facts) -> Iterator[Finding]:
    torch, torchvision = (facts.versions.get(name) for name in ('torch', 'torchvision'))
    if torch is None:
        yield Finding('torch is not installed', 'pip install torch torchvision')
    elif torchvision is None:
        what = 'torchvision is not installed: no NMS and no RoIAlign without compiled operators'
        if not facts.has_operators:
            yield Finding(what, 'pip install torchvision')
    else:
        wanted = f'0.{int(torch.split(".")[1]) + _TORCHVISION_OFFSET}'
        broken = facts.import_errors.get('torchvision')
        if broken or (torch.startswith('2.') and not torchvision.startswith(f'{wanted}.')):
            why = f': {broken}' if broken else ''
            what = f'torch {torch} and torchvision {torchvision} do not fit{why}'
            remedy = f"pip install 'torchvision=={wanted}.*' from the index of torch"
            yield Finding(what, remedy)


def _operators(facts: Facts) -> Iterator[Finding]:
    torch, errors = facts.versions.get('torch', 'none'), facts.import_errors
    if not any(name in facts.versions for name in (*FAMILIES[1], MMCV_LITE)):
        return
    if 'mmcv._ext' in errors:
        what = f'the compiled operators of mmcv do not load with torch {torch}'
        yield Finding(f'{what}: {errors["mmcv._ext"]}', _OTHER_MMCV)
    elif OPERATOR in errors:
        what = f'mmcv was compiled for another torch than {torch}: {errors[OPERATOR]}'
        yield Finding(what, _OTHER_MMCV)
    elif not facts.has_operators:
        yield Finding(
            'mmcv has no compiled operators: NMS and RoIAlign come from torchvision, our '
            'detectors need no others; in code of your own import cuts3d_mm before mmdet',
            f'only for other detectors, ready wheels: {describe_wheels(torch)}',
            False,
        )


def _transformers(facts: Facts) -> Iterator[Finding]:
    version = facts.versions.get('transformers', '0')
    if _numbers(version) >= (5,):
        what = f'mmdet and mmpretrain cannot be imported with transformers {version}'
        yield Finding(what, "pip install 'transformers==4.57.6'")


def _mmpretrain(facts: Facts) -> Iterator[Finding]:
    why = facts.import_errors.get('mmpretrain.models')
    if not any(name in facts.versions for name in FAMILIES[3]):
        remedy = 'pip install onedl-mmpretrain (or mmpretrain)'
        yield Finding('mmpretrain is not installed: no ViT features', remedy, False)
    elif why is not None and not list(_transformers(facts)):
        yield Finding(f'mmpretrain cannot be imported: {why}', 'pip install what is named there')


def _pillow(facts: Facts) -> Iterator[Finding]:
    version = facts.versions.get('pillow', '999')
    if _numbers(version) < SAFE_PILLOW:
        wanted = '.'.join(map(str, SAFE_PILLOW))
        what = f'pillow {version} decodes the images of others, its decoders were corrected since'
        remedy = f"pip install -U 'pillow>={wanted}' (gradio 5 takes none of them, gradio 6 does)"
        yield Finding(what, remedy, False)


def _numbers(version: str) -> tuple[int, ...]:
    """Numbers at the start of a version, for comparisons."""
    return tuple(map(int, re.findall(r'\d+', version.partition('+')[0])))


def _optional_parts(facts: Facts) -> Iterator[Finding]:
    for name, (use, extra) in _OPTIONAL.items():
        if name not in facts.versions:
            yield Finding(f'{name} is not installed: no {use}', f'pip install {extra}', False)


@dataclass(frozen=True)
class Facts:
    """All that the checks look at."""

    versions: Mapping[str, str]  # distribution -> version
    import_errors: Mapping[str, str]  # module that cannot be imported -> why
    has_operators: bool = True  # mmcv has compiled operators, working or not


def describe_environment(facts: Facts) -> dict[str, str]:
    """Versions to quote in a bug report."""
    shown = {name: facts.versions[name] for name in _SHOWN if name in facts.versions}
    system = f'{platform.system()} {platform.machine()}'
    return {
        'cuts3d_mm': __version__,
        'python': f'{platform.python_version()} on {system}',
        **shown,
        'GPU': _describe_gpu(),
    }


def gather_facts() -> Facts:
    """Look up the installed distributions and try the critical imports."""
    versions = {
        re.sub('[-_.]+', '-', distribution.metadata['Name']).lower(): distribution.version
        for distribution in distributions()
    }
    errors = {name: why for name in _TRIED if (why := _import_error(name))}
    why = None if 'mmcv._ext' in errors else _operator_error()
    found = {**errors, OPERATOR: why} if why else errors
    return Facts(versions, found, 'mmcv._ext' in errors or are_compiled())


def _import_error(name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(name)
    except (ImportError, AttributeError, RuntimeError, AssertionError, TypeError) as error:
        return f'{type(error).__name__}: {_first_line(error)}'
    return None


def _operator_error() -> str | None:
    """Why an operator of mmcv does not run, if it does not; needs no GPU."""
    try:
        import torch
        from mmcv.ops import nms

        nms(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([1.0]), 0.5)
    except (ImportError, RuntimeError) as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).partition('\n')[0]


def _describe_gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return 'none that torch can use'
    return ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))

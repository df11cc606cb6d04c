"""Where the configs and tools that come with the package lie.

In a checkout they lie beside the package, in an installed wheel in `cuts3d_mm/.mim`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_RENAMED = {  # configs by their former names
    'cutler_mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet': (
        'cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet.py'
    ),
}


def shipped_root() -> Path:
    """Folder that holds `configs/` and `tools/`."""
    packaged = _PACKAGE / '.mim'
    return packaged if packaged.is_dir() else _PACKAGE.parent


def list_tools() -> dict[str, Path]:
    """Commands by name."""
    tools = (shipped_root() / 'tools').glob('*.py')
    return {path.stem.replace('_', '-'): path for path in sorted(tools)}


def find_config(name: str) -> Path:
    """Find a config: a file by its path, or a shipped one by its bare name.

    Args:
        name: path of a file; or the name of a shipped config, with or without `.py`.

    Raises:
        ValueError: there is none, or it has another name now.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.stem in _RENAMED:
        raise ValueError(f'CONFIG {path.stem} is now called {_RENAMED[path.stem]}')
    # A path that leads nowhere is a mistake, not the name of a shipped file.
    shipped = sorted((shipped_root() / 'configs').glob('[!_]*/*.py'))
    found = [config for config in shipped if name in (config.name, config.stem)]
    if len(found) != 1:
        known = ', '.join(sorted(config.name for config in shipped))
        raise ValueError(
            f'CONFIG must be a file or a shipped config, got {name}; shipped: {known}'
        )
    return found[0]

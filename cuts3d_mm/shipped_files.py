"""Where the configs and tools that come with the package lie.

In a checkout they lie beside the package, in an installed wheel in `cuts3d_mm/.mim`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_root() -> Path:
    """Folder that holds `configs/` and `tools/`."""
    packaged = _PACKAGE / '.mim'
    return packaged if packaged.is_dir() else _PACKAGE.parent


def list_tools() -> dict[str, Path]:
    """Commands by name."""
    tools = (shipped_root() / 'tools').glob('*.py')
    return {path.stem.replace('_', '-'): path for path in sorted(tools)}


def find_config(name: str) -> Path:
    """Find a config by path, or else by file name among the shipped ones.

    Raises:
        ValueError: there is none, or several.
    """
    path = Path(name)
    if path.is_file():
        return path
    found = sorted((shipped_root() / 'configs').rglob(path.name)) if path.name else []
    if len(found) != 1:
        shipped = (shipped_root() / 'configs').glob('[!_]*/*.py')
        known = ', '.join(sorted(config.name for config in shipped))
        raise ValueError(
            f'CONFIG must be a file or a shipped config, got {name}; shipped: {known}'
        )
    return found[0]

"""Add configs and tools to the wheel; hatchling runs this, all else is in pyproject.toml."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ('configs', 'tools', 'model-index.yml')


class ShippedFiles(BuildHookInterface):
    """Put what mim and `cuts3d` look for into `cuts3d_mm/.mim` of the wheel.

    An editable install finds them in the checkout: a `.mim` would give every config two paths.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files that the wheel gets in addition."""
        if version != 'editable':
            build_data['force_include'] = {name: f'cuts3d_mm/.mim/{name}' for name in SHIPPED}

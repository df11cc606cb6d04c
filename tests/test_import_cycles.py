"""Every module can be the first one that is imported."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

networkx = pytest.importorskip('networkx')

ROOT = Path(__file__).parents[1]


def module_of(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


MODULES = {module_of(path): path for path in (ROOT / 'cuts3d_mm').rglob('*.py')}


def imported_at_once(body, folder):
    """What statements import when they run, without those of functions and for types alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                [*folder.relative_to(ROOT).parts] if node.level else []
            )  # relative: the same folder
            module = '.'.join([*base, *filter(None, [node.module])])
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Try | ast.With):
            yield from imported_at_once(node.body, folder)


def runs_before(module, name):
    """Modules that run when one imports a name: it, and the packages that hold it.

    The packages of the importing module run already, and wait.
    """
    parts = name.split('.')
    found = {'.'.join(parts[:count]) for count in range(1, len(parts) + 1)} & MODULES.keys()
    return {one for one in found if not module.startswith(f'{one}.')}


def test_no_module_needs_itself():
    graph = networkx.DiGraph()
    for module, path in MODULES.items():
        for name in imported_at_once(ast.parse(path.read_text()).body, path.parent):
            graph.add_edges_from((module, one) for one in runs_before(module, name))
    cycles = [sorted(one) for one in networkx.strongly_connected_components(graph) if len(one) > 1]
    assert cycles == []

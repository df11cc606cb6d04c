"""Write what pages take from elsewhere: commands, configs, the changelog, measured figures."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from cuts3d_mm.cli import GROUPS

_ROOT = Path(__file__).parents[2]
_KINDS = {  # folder of configs -> heading
    'pseudo_labels': 'Masks: `cuts3d generate`',
    'cuts3d': 'Detectors: `cuts3d train`',
    'demo': 'The demo',
}
_WIDTH = {'COLUMNS': '80', 'PYTHONPATH': str(_ROOT), 'PATH': ''}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace the marker of a page by what belongs there."""
    for marker, write in _WRITERS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, write())
    return markdown


def command_reference() -> str:
    """The commands by what they are for: the sentence of each, and what `--help` prints."""
    sections = []
    with ThreadPoolExecutor() as pool:
        for group, names in GROUPS.items():
            tools = [_ROOT / f'tools/{name.replace("-", "_")}.py' for name in names]
            sections.append(f'## {group}')
            sections += [
                f'### {_name(path)}\n\n{_sentence(path)}\n\n```text\n{text}```'
                for path, text in zip(tools, pool.map(_help_of, tools), strict=True)
            ]
    return '\n\n'.join(sections)


def config_list() -> str:
    """A table for each kind of config: its name, what its docstring says, published weights."""
    metafile = yaml.safe_load((_ROOT / 'configs/cuts3d/metafile.yml').read_text('utf-8'))
    weights = {
        model['Name']: f'[weights]({model["Weights"]})'
        for model in metafile['Models']
        if 'Weights' in model
    }
    tables = []
    for folder, heading in _KINDS.items():
        paths = sorted((_ROOT / 'configs' / folder).glob('*.py'))
        columns = ['config', 'what it is', *(['weights'] if weights else [])]
        rows = [
            [
                f'[`{path.stem}`](../configs/{folder}/{path.name})',
                _sentence(path),
                *([weights.get(path.stem, '')] if weights else []),
            ]
            for path in paths
        ]
        lines = [f'| {" | ".join(row)} |' for row in [columns, ['---'] * len(columns), *rows]]
        tables.append('\n'.join([f'### {heading}', '', *lines]))
    return '\n\n'.join(tables)


def gain_by_blur() -> str:
    """What 3D gains over 2D by the blur of the depth: the figures of the picture."""
    panels = json.loads((_ROOT / 'benchmarks/depth_quality.json').read_text('utf-8'))
    rows = [
        ['', 'exact', '1 patch', '2', '4', '8', 'network'],
        ['---'] + ['---:'] * 6,
        *(
            [
                f'{title.split()[-1]}, {name}',
                *(f'{gain[0]:+.1f}' for gain in gains),
                *[''] * (6 - len(gains)),
            ]
            for title, curves in panels.items()
            for name, gains in curves.items()
        ),
    ]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def changelog() -> str:
    """The changelog without its title."""
    return (_ROOT / 'CHANGELOG.md').read_text('utf-8').partition('\n')[2]


_WRITERS = {
    '<!-- every command -->': command_reference,
    '<!-- every config -->': config_list,
    '<!-- the changelog -->': changelog,
    '<!-- gain by blur -->': gain_by_blur,
}


def _help_of(path: Path) -> str:
    command = [sys.executable, '-m', 'cuts3d_mm', _name(path), '--help']
    return subprocess.run(command, check=True, capture_output=True, text=True, env=_WIDTH).stdout


def _name(path: Path) -> str:
    return path.stem.replace('_', '-')


def _sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
    return ' '.join(text.partition('\n\n')[0].split()).replace('|', '\\|')

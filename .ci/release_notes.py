"""Print the section of CHANGELOG.md that a tag releases; everything must name its version.

python .ci/release_notes.py v1.2.3
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = {  # file -> where it says the version
    'cuts3d_mm/__init__.py': r"^__version__ = '(.+)'$",
    'CITATION.cff': r'^version: (.+)$',
}


def release_notes(tag: str, root: Path = ROOT) -> str:
    """Find what changed in the version of a tag.

    Raises:
        ValueError: a file names another version, or the changelog has no dated section for it.
    """
    version = tag.removeprefix('v')
    for name, pattern in VERSIONS.items():
        found = re.findall(pattern, (root / name).read_text('utf-8'), re.MULTILINE)
        if tag != f'v{version}' or found != [version]:
            raise ValueError(f'{name} must name the version of the tag {tag}, it names {found}')
    changelog = (root / 'CHANGELOG.md').read_text('utf-8')
    heading = rf'^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|^\[|\Z)'
    section = re.search(heading, changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f'CHANGELOG.md must have a section "## [{version}] - YYYY-MM-DD"')
    return section[1].strip() + '\n'


if __name__ == '__main__':
    try:
        sys.stdout.write(release_notes(sys.argv[1]))
    except ValueError as error:
        sys.exit(f'no release: {error}')

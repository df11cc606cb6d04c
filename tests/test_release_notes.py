"""A tag releases only the version that the files name, with its section of the changelog."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
release_notes = runpy.run_path(str(ROOT / '.ci/release_notes.py'))['release_notes']
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.3] - 2026-01-31

### Added

- Trees.

## [1.2.2] - 2025-12-31

### Fixed

- Leaves.

[Unreleased]: https://example.org
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'cuts3d_mm').mkdir()
    (tmp_path / 'cuts3d_mm/__init__.py').write_text("import os\n\n__version__ = '1.2.3'\n")
    (tmp_path / 'CITATION.cff').write_text('cff-version: 1.2.0\nversion: 1.2.3\n')
    (tmp_path / 'CHANGELOG.md').write_text(CHANGELOG)
    return tmp_path


def test_notes_are_the_section_of_the_version(root):
    assert release_notes('v1.2.3', root) == '### Added\n\n- Trees.\n'


@pytest.mark.parametrize('tag', ['v1.2.4', 'v1.2', '1.2.3', 'v1.2.3rc1'])
def test_tag_of_another_version_is_refused(root, tag):
    with pytest.raises(ValueError, match='must name the version of the tag'):
        release_notes(tag, root)


def test_citation_of_another_version_is_refused(root):
    (root / 'CITATION.cff').write_text('version: 1.2.2\n')
    with pytest.raises(ValueError, match=r"CITATION.cff must name .* \['1.2.2'\]"):
        release_notes('v1.2.3', root)


def test_changelog_without_a_dated_section_is_refused(root):
    (root / 'CHANGELOG.md').write_text('# Changelog\n\n## [1.2.3] - unreleased\n')
    with pytest.raises(ValueError, match='must have a section'):
        release_notes('v1.2.3', root)


def test_section_of_the_next_version_is_cut_by_naming_and_dating_it(root):
    changelog = (ROOT / 'CHANGELOG.md').read_text('utf-8')
    assert changelog.count('## [Unreleased]\n') == 1
    dated = changelog.replace('## [Unreleased]\n', '## [1.2.3] - 2026-01-31\n')
    (root / 'CHANGELOG.md').write_text(dated)
    notes = release_notes('v1.2.3', root)
    headings = [line for line in notes.splitlines() if line.startswith('#')]
    assert headings == ['### Added', '### Changed', '### Fixed', '### Security', '### Removed']

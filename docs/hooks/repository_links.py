"""Let pages link to files of the repository, on the web, and each picture to itself."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r'(?<!!)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)')

_PICTURE = re.compile(r'^!\[[^\]]*\]\((\S+)\)$', re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace each relative link that leaves the folder of the docs, and let pictures enlarge.

    Raises:
        FileNotFoundError: the repository has no such file.
    """
    root = Path(config.config_file_path).parent
    folder = posixpath.dirname(f'docs/{page.file.src_uri}')

    def replace(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        if path.startswith('docs/'):
            return match[0]
        if not (root / path).exists():
            raise FileNotFoundError(f'{page.file.src_uri} links to {path}, which is not there')
        kind = 'tree' if (root / path).is_dir() else 'blob'
        return f']({config.repo_url}/{kind}/main/{path}{match[2] or ""})'

    return _PICTURE.sub(r'[\g<0>](\1)', _LINK.sub(replace, markdown))

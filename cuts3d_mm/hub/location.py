"""Parse names on the Hugging Face Hub: `owner/repo[@revision]`, and files there by `hf://`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cuts3d_mm.files.paths import require_inside

HUB_PREFIX = 'hf://'
_REPOSITORY = re.compile(r'([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?')


@dataclass(frozen=True)
class HubRepository:
    """A repository at a revision: branch, tag or commit; None is the main branch."""

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubRepository:
        """Read `owner/repo[@revision]`.

        Raises:
            ValueError: it is malformed.
        """
        found = _REPOSITORY.fullmatch(text)
        if found is None:
            raise ValueError(f'Hub repository must be owner/repo[@revision], got {text}')
        return cls(found[1], found[2])


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    repository: HubRepository
    name: str

    @classmethod
    def parse(cls, text: str) -> HubFile:
        """Read `hf://owner/repo[@revision]/file`.

        Raises:
            ValueError: it is malformed, or the file lies outside of the repository.
        """
        parts = text.removeprefix(HUB_PREFIX).split('/')
        if not text.startswith(HUB_PREFIX) or len(parts) < 3 or not all(parts):
            raise ValueError(f'Hub location must be hf://owner/repo[@revision]/file, got {text}')
        repository = HubRepository.parse('/'.join(parts[:2]))
        return cls(repository, require_inside('/'.join(parts[2:])))


def is_repository_name(text: str) -> bool:
    """Whether a text has the form of `owner/repo[@revision]`."""
    return _REPOSITORY.fullmatch(text) is not None

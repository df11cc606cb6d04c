"""Call a compiled function, or plain code where it cannot be compiled."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec('P')
R = TypeVar('R')

logger = logging.getLogger(__name__)


class Kernel(Generic[P, R]):
    """A function of this package that numba compiles at its first call.

    It must not raise errors of its own: any of a kind that compiling raises counts as such.

    Args:
        name: file and function, such as `linked_sums.add_linked`.
        plain: does the same without numba. It is called where numba or the file cannot be
            imported, or the function cannot be compiled.
    """

    def __init__(self, name: str, plain: Callable[P, R]) -> None:
        self.name = name
        self.plain = plain
        self._chosen: Callable[P, R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the compiled function if possible."""
        if self._chosen is self.plain:
            return self.plain(*args, **kwargs)
        try:
            if self._chosen is None:
                self._chosen = self.compiled()
            return self._chosen(*args, **kwargs)  # compiles for each new type of an argument
        except _compile_errors() as error:
            self._chosen = self.plain
            logger.warning(
                '%s runs as plain code, which is much slower: numba must compile it, but failed '
                'with %s: %s; try another version of numba, or set NUMBA_CACHE_DIR to a folder '
                'that can be written',
                *(self.name, type(error).__name__, error),
            )
            return self.plain(*args, **kwargs)

    def compiled(self) -> Callable[P, R]:
        """Import the compiled function."""
        file, _, function = self.name.partition('.')
        chosen: Callable[P, R] = getattr(import_module(f'{__package__}.{file}'), function)
        return chosen


def _compile_errors() -> tuple[type[Exception], ...]:
    """Errors of numba, llvmlite and LLVM; numba's own ones can only exist once it is imported."""
    errors = sys.modules.get('numba.core.errors')
    of_numba = () if errors is None else (errors.NumbaError,)
    return ImportError, OSError, AttributeError, TypeError, RuntimeError, *of_numba

"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = '.partial'


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when all of it is on disk.

    The temporary name holds the process id, so that two processes that write the same file
    never share one. It is removed if writing fails.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}')
    try:
        with temporary.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that were killed while writing."""
    for path in folder.glob(f'.*{TEMPORARY_SUFFIX}'):
        path.unlink(missing_ok=True)

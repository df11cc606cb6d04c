"""Name the file of a label store that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from cuts3d_mm.files.remote import Place


class DamagedShard(ValueError):
    """A file of a store is not a whole shard; the message names it."""

    def __init__(self, path: Place, error: Exception) -> None:
        reason = ' '.join(str(error).split()) or type(error).__name__
        super().__init__(
            f'shard {path} must be whole, it is damaged or of another program: {reason}; '
            'the command that wrote it makes it again'
        )


@contextmanager
def naming_shard(path: Place) -> Iterator[None]:
    """Name the shard in what goes wrong when it is read."""
    try:
        yield
    except (FileNotFoundError, PermissionError, DamagedShard):
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise DamagedShard(path, error) from error

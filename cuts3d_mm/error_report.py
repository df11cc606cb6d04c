"""Report an error in one line, and keep the traceback of a bug in a file."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from cuts3d_mm import __version__
from cuts3d_mm.interruption import was_interrupted

EXIT_USAGE = 2  # a user error
EXIT_BUG = 1  # we have to
_DEBUG_KEY = 'CUTS3D_DEBUG'
_USER_ERRORS = (ValueError, OSError, ImportError, MemoryError)
# Classes of torch, in whatever module of whatever version, and what plain exceptions say where
# not the code is wrong but the machine, another process of the run, or a config.
_USER_CLASSES = ('OutOfMemoryError', 'DistBackendError', 'DistNetworkError', 'DistStoreError')
_USER_WORDS = (
    'gloo/transport',
    'CUDA error',
    'CUDA enabled',
    'CUDA GPUs',
    'NVIDIA driver',
    'out of memory',
    'implementation for device',  # mmcv was compiled for another torch: cuts3d doctor
    'DataLoader worker (pid',
    'registry. Please check whether',
    '__init__() got an unexpected keyword argument',
    '__init__() missing',
)
_REMOTE_MARK = 'Original Traceback'  # in what torch raises for a process that loads data


class ErrorsInOneLine:
    """Context manager: an exception ends the process with a line, not with a traceback."""

    def __init__(self, program: str) -> None:
        self._program = program

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not was_interrupted():
            sys.exit(report(error, self._program))


def report(error: Exception, program: str) -> int:
    """Write what the user must know of an exception to stderr.

    Args:
        error: what ended the command.
        program: what the line begins with.

    Returns:
        The exit code.
    """
    if os.environ.get(_DEBUG_KEY, '0') not in ('', '0'):
        traceback.print_exception(error)
    if is_for_the_user(error):
        sys.stderr.write(f'{program}: {one_line(error)}\n')
        return EXIT_USAGE
    what = f'{type(error).__name__}: {one_line(error)}'
    sys.stderr.write(f'{program}: this is a bug of ours: {what}; {_keep(error, program)}\n')
    return EXIT_BUG


def is_for_the_user(error: BaseException) -> bool:
    """Tell whether a user can correct what is wrong: input, files, packages, memory."""
    kind = type(error)
    if isinstance(error, _USER_ERRORS) or kind.__name__ in _USER_CLASSES:
        return True
    is_ours = kind.__module__.partition('.')[0] == 'cuts3d_mm' or _is_raised_by_us(error)
    return is_ours or any(words in str(error) for words in _USER_WORDS)


def _is_raised_by_us(error: BaseException) -> bool:
    """Tell an error that a line of this package raises on purpose, with a remedy."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(__file__).parent not in Path(frames[-1].filename).parents:
        return False
    return (frames[-1].line or '').startswith(f'raise {type(error).__name__}(')


def one_line(error: BaseException) -> str:
    """Shorten the message of an exception to a line; its class where it has none."""
    text = str(error)
    if _REMOTE_MARK in text:  # it ends with the message
        text = re.split(r'^[\w.]+: ', text, flags=re.MULTILINE)[-1]
    return ' '.join(text.split()) or type(error).__name__


def _keep(error: Exception, program: str) -> str:
    """Write the traceback to a file that only the user can read."""
    name = program.replace(' ', '-')
    try:
        number, path = tempfile.mkstemp(prefix=f'{name}-', suffix='.log')
        with open(number, 'w', encoding='utf-8', errors='replace') as file:
            file.write(f'cuts3d_mm {__version__}, Python {sys.version}\n{sys.argv}\n\n')
            file.write(''.join(traceback.format_exception(error)))
    except OSError as reason:
        return f'the traceback cannot be written ({reason}); {_DEBUG_KEY}=1 shows it'
    return f'please report it with {path}'

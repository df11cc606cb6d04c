"""Call the Hugging Face Hub: retry temporary errors, report others in one line."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from importlib import import_module
from json import JSONDecodeError
from types import ModuleType
from typing import Any, TypeVar

from cuts3d_mm.hub.reachable import NoAnswer, require_answer

Result = TypeVar('Result')
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before the second to the fifth attempt
LONGEST_PAUSE_S = 60.0  # that a server may ask for
PASSING_STATUS = {429, 500, 502, 503, 504}

NEEDS_NO_DOWNLOAD = (
    'built-in features need no download: label with the config cuts3d_color-texture_file-depth, '
    'or, without depth maps, maskcut_color-texture'
)

# What the client raises where an answer is no JSON, or JSON of another shape.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class HubError(OSError):
    """The Hub refused, or could not be reached."""


def hub_client() -> ModuleType:
    """Import `huggingface_hub`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module('huggingface_hub')
    except ModuleNotFoundError as error:
        raise ImportError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'cuts3d_mm[hub]'"
        ) from error


def hub_answers() -> bool:
    """Whether the Hub can be asked: it answers within seconds, and HF_HUB_OFFLINE is not set."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        require_answer(constants.ENDPOINT)
    except NoAnswer:
        return False
    return True


def call_hub(what: str, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function of `huggingface_hub`.

    A Hub that does not answer is found out first, within seconds. Temporary errors (429, 5xx)
    and broken connections are retried, five attempts in all; a download continues where it was
    cut.

    Args:
        what: what is done, for the error.
        function: called with all other arguments; with `local_files_only=True` it looks in the
            cache alone.

    Raises:
        HubError: it failed; says what to do.
    """
    # Base of the client's errors from 1.0 on; before, they are all an OSError.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    if not kwargs.get('local_files_only') and not hub_answers():
        raise HubError(f'{what}: {no_connection()}')
    for pause in (*PAUSES_S, None):
        try:
            return function(*args, **kwargs)
        except HubError:
            raise
        # RuntimeError: of a thread
        except (OSError, HTTPError, RuntimeError, *_MALFORMED) as error:
            _require_no_malformed_answer(what, error)
            chain = _chain(error)
            if pause is None or not _is_worth_repeating(chain):
                raise HubError(f'{what}: {_explain(chain)}') from error
            time.sleep(_asked_pause(chain) or pause)
    raise AssertionError('unreachable')


def _require_no_malformed_answer(what: str, error: Exception) -> None:
    """Replace errors of the client that do not say what is wrong.

    Raises:
        HubError: the client could not read the answer.
        HFValidationError: the client did not ask, because a name is malformed.
    """
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        raise error
    if isinstance(error, _MALFORMED) and (
        isinstance(error, JSONDecodeError) or not isinstance(error, OSError)
    ):
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
        raise HubError(
            f'{what}: the answer is not from a Hub ({reason}); check HF_ENDPOINT, or try later'
        ) from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and its causes, the outermost first."""
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, 'response', None), 'status_code', None)


def _is_worth_repeating(chain: list[BaseException]) -> bool:
    """Whether the error may be temporary and the client has not retried it itself already."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if any(_status(error) == 429 for error in chain):
        return True
    has_given_up = any(isinstance(error, LocalEntryNotFoundError) for error in chain)
    return not has_given_up and any(_passes(error) for error in chain)


def _passes(error: BaseException) -> bool:
    """Whether the client itself would try again after such an error."""
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    repeated = inspect.signature(http_backoff).parameters['retry_on_exceptions'].default
    return isinstance(error, repeated) or _status(error) in PASSING_STATUS


def _asked_pause(chain: list[BaseException]) -> float | None:
    """Seconds of the header Retry-After."""
    for error in chain:
        response = getattr(error, 'response', None)
        asked = '' if response is None else response.headers.get('Retry-After', '')
        if asked.isdigit():
            return min(float(asked), LONGEST_PAUSE_S)
    return None


def _explain(chain: list[BaseException]) -> str:
    from huggingface_hub import errors

    for error in chain:
        status = _status(error)
        if isinstance(error, errors.GatedRepoError):
            return "access is gated; accept the conditions on the repository's page, then log in"
        if isinstance(error, errors.RevisionNotFoundError):
            return 'there is no such revision; name a branch, tag or commit of the repository'
        if isinstance(error, errors.EntryNotFoundError) and status == 404:
            return 'there is no such file in the repository'
        if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
            return (
                'there is no such repository, or you may not read it; check its name, and log in '
                'by `hf auth login` or HF_TOKEN'
            )
        if status in PASSING_STATUS:
            return f'the Hub answered {status}, also when asked again; try later'
        if status is not None:
            return f'the Hub answered {status}: {" ".join(str(error).split())}'
    if any(isinstance(error, errors.LocalEntryNotFoundError) for error in chain):
        return f'it is not in the cache; {no_connection()}'
    if any(_passes(error) for error in chain):
        return f'the connection broke, also when tried again; {no_connection()}'
    return ' '.join(str(chain[0]).split())


def no_connection() -> str:
    """Say why the Hub cannot be asked, and what needs no download."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        remedy = 'HF_HUB_OFFLINE is set, unset it once to download'
    else:
        remedy = f'{constants.ENDPOINT} does not answer, check the connection and try again'
    return f'{remedy}; {NEEDS_NO_DOWNLOAD}'

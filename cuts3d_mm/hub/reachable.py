"""Find out within seconds whether a server answers, before anything waits for it longer."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from functools import cache
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

ANSWER_LIMIT_S = 5.0  # for all attempts together, look-up of the name included
PAUSES_S = (0.5, 1.0)  # before the second and the third attempt


class NoAnswer(ConnectionError):
    """A server says nothing, or its name is not known here."""


def require_answer(url: str) -> None:
    """Wait for any answer of the server of an address; asks a server that has answered no more.

    Raises:
        NoAnswer: there was none within `ANSWER_LIMIT_S`.
    """
    parts = urlsplit(url)
    _require_answer(f'{parts.scheme}://{parts.netloc}/')


@cache  # of what returns: a server that does not answer is asked again
def _require_answer(url: str) -> None:
    answers: list[bool] = []
    # A thread, because nothing else ends the look-up of a name in time.
    asking = Thread(target=lambda: answers.append(_ask(url)), daemon=True)
    asking.start()
    asking.join(ANSWER_LIMIT_S)
    if not any(answers):
        raise NoAnswer(f'{url} does not answer')


def _ask(url: str) -> bool:
    is_answered = _ask_once(url)
    for pause in PAUSES_S:
        if is_answered:
            break
        time.sleep(pause)
        is_answered = _ask_once(url)
    return is_answered


def _ask_once(url: str) -> bool:
    """Whether anything comes back; a refusal is an answer."""
    try:
        ask: Callable[..., Any] = build_opener(_AnyAnswer).open
        ask(Request(url, method='HEAD'), timeout=ANSWER_LIMIT_S).close()
    except (HTTPError, http.client.HTTPException, ValueError):
        return True  # or a malformed address, of which the download says more
    except URLError as error:
        return isinstance(error.reason, (str, ssl.SSLError))
    except OSError:
        return False
    return True


class _AnyAnswer(HTTPRedirectHandler):
    """Takes a redirect as an answer instead of following it."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return None

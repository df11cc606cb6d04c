"""Download a file over HTTP, up to a size limit, and resume it where it was cut."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.hub.connection import NEEDS_NO_DOWNLOAD, PASSING_STATUS, PAUSES_S, HubError
from cuts3d_mm.hub.reachable import NoAnswer, require_answer

LARGEST_DOWNLOAD_BYTES = 20 << 30  # the largest backbones have 5 GB
TIMEOUT_S = 30.0  # without a byte
_CHUNK_BYTES = 1 << 20


class _SameProtocol(HTTPRedirectHandler):
    """Follows redirects, but never to another protocol."""

    def redirect_request(self, request: Request, *args: Any) -> Request | None:
        new_url = args[-1]
        if urlsplit(new_url).scheme != urlsplit(request.full_url).scheme:
            raise HubError(f'{request.full_url} leads to another protocol: {new_url}')
        return super().redirect_request(request, *args)


def download_url(url: str, target: Path) -> None:
    """Download a file, whole or not at all.

    Args:
        url: http(s) address.
        target: file to write, in a folder that exists.

    Raises:
        HubError: it cannot be downloaded, also when asked again, or is too large.
    """
    try:
        require_answer(url)
    except (NoAnswer, ValueError) as error:
        raise HubError(
            f'{url} cannot be downloaded: {error}, check the connection and try again; '
            f'{NEEDS_NO_DOWNLOAD}'
        ) from error
    with open_atomically(target) as file:
        part = _Part(url, file)
        for pause in (*PAUSES_S, None):
            try:
                part.go_on()
                return
            except HubError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                if pause is None or not _may_pass(error):
                    reason = ' '.join(str(error).split()) or type(error).__name__
                    raise HubError(f'{url} cannot be downloaded: {reason}') from error
                time.sleep(pause)


class _Part:
    """The part of a file that has arrived so far."""

    def __init__(self, url: str, file: BinaryIO) -> None:
        self._url, self._file = url, file
        self._version: str | None = None  # which the server gives to the content

    def go_on(self) -> None:
        """Ask for the rest and write it.

        Raises:
            OSError, HTTPException, ValueError: there is more, or the server refuses.
        """
        request = Request(self._url)
        if self._file.tell() and self._version:
            request.add_header('Range', f'bytes={self._file.tell()}-')
            request.add_header('If-Range', self._version)
        with build_opener(_SameProtocol).open(request, timeout=TIMEOUT_S) as answer:
            begin = f'bytes {self._file.tell()}-'
            is_rest = answer.headers.get('Content-Range', '').startswith(begin)
            if answer.status != http.client.PARTIAL_CONTENT or not is_rest:
                self._file.seek(0)
                self._file.truncate()
            self._version = answer.headers.get('ETag')
            length = answer.headers.get('Content-Length', '')
            end = self._file.tell() + int(length) if length.isdigit() else None
            self._require_room(end or 0)
            while chunk := answer.read(_CHUNK_BYTES):
                self._file.write(chunk)
                self._require_room(self._file.tell())
        if end is not None and self._file.tell() != end:
            raise ConnectionError(f'cut after {self._file.tell():,} of {end:,} bytes')

    def _require_room(self, size: int) -> None:
        if size > LARGEST_DOWNLOAD_BYTES:
            raise HubError(
                f'{self._url} must have at most {LARGEST_DOWNLOAD_BYTES:,} bytes, it has more'
            )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in PASSING_STATUS
    if isinstance(error, http.client.InvalidURL):
        return False
    is_broken = isinstance(error, (ConnectionError, TimeoutError, http.client.HTTPException))
    return is_broken or isinstance(error, URLError)

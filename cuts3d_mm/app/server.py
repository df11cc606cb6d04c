"""Make and serve pages that load nothing from other sites and show an error as a message."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cuts3d_mm.cli import is_for_the_user, one_line, program, report

LOOPBACK = '127.0.0.1'
MOST_UPLOADED_BYTES = 2**31  # uploads of all visitors together; files are removed after an hour
# Strips of a group are wide; on a phone a gallery has fewer columns, and wide figures scroll.
_CSS = """
#groups .thumbnail-item { aspect-ratio: 3 }
@media (max-width: 640px) {
  #tiles .grid-container, #groups .grid-container { --grid-cols: 1 !important }
  #instances .grid-container { --grid-cols: 2 !important }
  #stages .image-frame { display: block; overflow-x: auto }
  #stages img { width: 60rem; max-width: none }
}
"""
_DELETE_CACHE_S = 600, 3600  # interval at which files of visitors are removed, and their age


def make_page(title: str) -> gradio.Blocks:
    """Make an empty page."""
    return gradio.Blocks(title=title, analytics_enabled=False, delete_cache=_DELETE_CACHE_S)


def make_gallery(columns: int, elem_id: str, **options: Any) -> gradio.Gallery:
    """Make a gallery of pictures to click."""
    return gradio.Gallery(
        columns=columns,
        elem_id=elem_id,
        height='max-content',
        object_fit='contain',
        allow_preview=False,
        buttons=[],
        interactive=False,
        format='jpeg',
        **options,
    )


def launch(page: gradio.Blocks, host: str, port: int | None, **options: Any) -> str:
    """Serve a page in a thread, in the fonts of the visitor's system, and return its address.

    Args:
        page: page to serve.
        host: address to listen at. At an address of this machine alone, such as LOOPBACK,
            requests must name this machine as well: a site whose name leads here cannot use the
            page through a visitor's browser. No other site can do so at any address.
        port: TCP port; None for any free port.
        options: further arguments of Gradio's `launch`.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        css=_CSS,
        theme=gradio.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        app_kwargs={'middleware': [Middleware(Guard, is_local=is_loopback(host))]},
        **options,
    )
    return str(address)


class Guard:
    """Refuses requests that another site makes a browser send, and uploads without end.

    Args:
        app: application that answers what passes.
        is_local: whether requests must name this machine.
    """

    def __init__(self, app: ASGIApp, is_local: bool) -> None:
        self._app, self._is_local = app, is_local
        self._arriving_bytes = 0  # uploads on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope['type'] not in ('http', 'websocket'):  # the start and the end of the server
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        num_bytes = _body_bytes(headers)
        refusal = self._foreign(headers) or self._too_large(num_bytes)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._arriving_bytes += num_bytes or 0
        try:
            await self._app(scope, receive, send)
        finally:
            self._arriving_bytes -= num_bytes or 0

    def _foreign(self, headers: Headers) -> PlainTextResponse | None:
        host, origin = headers.get('host', ''), headers.get('origin')
        if self._is_local and not is_loopback(_host_name(host)):
            return PlainTextResponse('the address must name this machine', 400)
        is_foreign = origin is not None and _site(origin) != host.lower()
        if is_foreign or headers.get('sec-fetch-site') == 'cross-site':
            return PlainTextResponse('open the page itself: another site asks for it', 403)
        return None

    def _too_large(self, num_bytes: int | None) -> PlainTextResponse | None:
        if num_bytes is None:
            return PlainTextResponse('the length of a request must be stated', 411)
        if (
            num_bytes
            and _uploaded_bytes() + self._arriving_bytes + num_bytes > MOST_UPLOADED_BYTES
        ):
            return PlainTextResponse('too many files are uploaded; try again in an hour', 413)
        return None


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of the machine that uses it: 127.0.0.0/8, ::1."""
    try:
        return host == 'localhost' or ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    try:
        return urlsplit(f'//{header}').hostname or ''
    except ValueError:
        return ''


def _site(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _body_bytes(headers: Headers) -> int | None:
    """Length of a request; None if it is not stated."""
    if 'transfer-encoding' in headers:
        return None
    length = headers.get('content-length', '0')
    return int(length) if length.isdecimal() else None


def _uploaded_bytes() -> int:
    """Size of the files in the folder that Gradio writes uploads to."""
    folder = os.environ.get('GRADIO_TEMP_DIR') or Path(tempfile.gettempdir(), 'gradio')
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed in between
                total += os.lstat(os.path.join(here, name)).st_size
    return total


@contextmanager
def messages() -> Iterator[None]:
    """Show an error in a block, or in a decorated function, as a message of the page."""
    try:
        yield
    except gradio.Error:
        raise
    except Exception as error:
        if not is_for_the_user(error):
            report(error, program())
        raise gradio.Error(one_line(error), print_exception=False) from error

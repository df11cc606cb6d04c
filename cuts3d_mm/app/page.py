"""Make and serve pages that load nothing from other sites and show an error as a message."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import gradio
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cuts3d_mm.cli import is_for_the_user, one_line, report

LOOPBACK = '127.0.0.1'
_NAMES_OF_LOOPBACK = [LOOPBACK, 'localhost']
_DELETE_CACHE_S = 600, 3600  # interval at which files of visitors are removed, and their age


def make_page(title: str) -> gradio.Blocks:
    """Make an empty page."""
    return gradio.Blocks(title=title, analytics_enabled=False, delete_cache=_DELETE_CACHE_S)


def launch(page: gradio.Blocks, host: str, port: int | None, **options: Any) -> str:
    """Serve a page in a thread, in the fonts of the visitor's system, and return its address.

    Args:
        page: page to serve.
        host: address to listen at. At LOOPBACK, requests must name this machine as well: a
            site whose name leads here cannot use the page through a visitor's browser.
        port: TCP port; None for any free port.
        options: further arguments of Gradio's `launch`.
    """
    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=_NAMES_OF_LOOPBACK)]
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        theme=gradio.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        app_kwargs={'middleware': guards} if host == LOOPBACK else None,
        **options,
    )
    return str(address)


class Messages:
    """Context manager that shows an error as a message of the page, not as a traceback.

    Args:
        command: command of the page, for the report of a bug of ours.
    """

    def __init__(self, command: str) -> None:
        self._command = command

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, gradio.Error):
            return
        if not is_for_the_user(error):
            report(error, self._command)
        raise gradio.Error(one_line(error), print_exception=False) from None

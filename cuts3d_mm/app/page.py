"""Make pages that need nothing from elsewhere and show an error as a message."""

from __future__ import annotations

import warnings
from types import TracebackType

import gradio

from cuts3d_mm.error_report import is_for_the_user, one_line, report

_DELETE_CACHE_S = 600, 3600  # how often files of visitors are removed, and from which age


def make_page(title: str) -> gradio.Blocks:
    """Make an empty page, in the fonts of the visitor's system."""
    theme = gradio.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace'])
    with warnings.catch_warnings():  # Gradio 6 will take the theme elsewhere
        warnings.simplefilter('ignore', DeprecationWarning)
        return gradio.Blocks(
            title=title, theme=theme, analytics_enabled=False, delete_cache=_DELETE_CACHE_S
        )


class Messages:
    """Context manager: an error is a message of the page, not a traceback in the console.

    Args:
        command: whose page it is, for the report of a bug of ours.
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

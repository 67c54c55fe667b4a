"""A line on the terminal that says how far something is."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

ERASE = "\r\x1b[K"


class StatusLine:
    """One line on stderr, rewritten as things go on and erased at the end; none if no terminal."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write(ERASE)

    def show(self, text: str) -> None:
        """Replace what the line says."""
        if sys.stderr.isatty():
            self._shown = True
            self._write(ERASE + text[: shutil.get_terminal_size().columns - 1])

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

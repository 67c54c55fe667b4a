"""Figures as people say them, and what others say as figures and letters."""

from __future__ import annotations

import reprlib
import shlex

SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 3, 80, 80


def brief(value: object) -> str:
    """A value of unknown type, size and depth, for a message: a few characters, on one line."""
    try:
        return " ".join(SHORT.repr(value).split())[:90]
    except ValueError:  # a whole number of thousands of digits
        return f"a huge {type(value).__name__}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 24.1 us, 1.52 ms, 0.15 s, 12.3 s, 2 min 3 s, 1 h 5 min."""
    if seconds < 1e-3:
        return f"{_figures(seconds * 1e6)} us"
    if seconds < 0.1:
        return f"{_figures(seconds * 1e3)} ms"
    if not seconds >= 59.95:  # NaN is not
        return f"{_figures(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def one_line(text: str, most: int = 200) -> str:
    """Text of unknown origin as it may stand in a sentence, without control characters."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def in_shell(path: object) -> str:
    """A path as it is typed: quoted, and not to be taken for an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _figures(value: float) -> str:
    """Three figures, of a value below 1 two decimals."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"

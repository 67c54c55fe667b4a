"""Text that a user gives, which must be UTF-8."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def read_utf8(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return utf8(path.read_bytes(), str(path))
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}.") from e


def utf8(data: bytes, source: str) -> str:
    """The text of bytes; raises InputError, naming the source and the byte, if not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"{source} is not UTF-8: byte 0x{data[e.start]:02x} at offset {e.start}. "
            "Convert it first, such as with `iconv -t utf-8`."
        ) from e

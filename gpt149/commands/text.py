"""Text that a user gives, which must be UTF-8, and the model that reads it."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from ..system.files import read_bytes

if TYPE_CHECKING:
    from ..model.checkpoint import Checkpoint


def load(model: str, meta: Path | None = None) -> Checkpoint:
    """The model, with what is to be known of its files on stderr; raises as `checkpoint.load`."""
    from ..model import checkpoint

    loaded = checkpoint.load(model, meta=meta)
    for note in loaded.notes:
        click.echo(f"Note: {note}", err=True)
    return loaded


def read_utf8(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    return utf8(read_bytes(path, pipes=True), str(path))


def argument(prompt: str) -> str:
    """A prompt from the command line; raises InputError as `utf8`."""
    return utf8(prompt.encode(errors="surrogateescape"), "the prompt")


def utf8(data: bytes, source: str) -> str:
    """The text of bytes, without a byte order mark.

    Raises:
        InputError, which names the source and the byte: it is not UTF-8.
    """
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"{source} is not UTF-8: byte 0x{e.object[e.start]:02x} at offset {e.start}. "
            "Convert it first, such as with `iconv -t utf-8`."
        ) from e

"""Reading files that are not ours: regular ones, of a bounded size, of the right type.

Whatever is wrong with one ends in a sentence that names it.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import Gpt149Error, InputError

LARGEST_JSON = 64 << 20  # bytes; GPT-2's tokenizer.json has 1.4 million
LARGEST_TEXT = 1 << 30


def exists(path: Path, kind: type[Gpt149Error] = InputError) -> bool:
    """Whether there is something; raises `kind` where it is not permitted to look."""
    try:
        path.stat()
    except PermissionError as e:
        raise kind(f"cannot read {path}: {reason(e)}.") from e
    except (OSError, ValueError):  # also for a name that is too long, or has a zero byte
        return False
    return True


def check_regular(path: Path, kind: type[Gpt149Error] = InputError) -> int:
    """The size of a file that can be read.

    Raises:
        `kind`: it is missing, not permitted, or no regular file: a pipe would be waited for.
    """
    try:
        with _opened(path) as file:
            found = os.fstat(file.fileno())
    except OSError as e:
        raise kind(f"cannot read {path}: {reason(e)}.") from e
    if not stat.S_ISREG(found.st_mode):
        raise kind(f"cannot read {path}: it is not a regular file.")
    return found.st_size


def read_bytes(
    path: Path,
    kind: type[Gpt149Error] = InputError,
    *,
    largest: int = LARGEST_TEXT,
    pipes: bool = False,
) -> bytes:
    """What a file holds.

    kind: what is raised. largest: how many bytes it may have. pipes: those are read too.

    Raises:
        `kind`: as `check_regular`, or it is larger.
    """
    size = 0 if pipes else check_regular(path, kind)
    data = bytearray()
    try:
        with path.open("rb") if pipes else _opened(path) as file:
            while size <= largest and (piece := file.read(1 << 20)):
                data += piece
                size = max(size, len(data))
    except OSError as e:
        raise kind(f"cannot read {path}: {reason(e)}.") from e
    if size > largest:
        raise kind(f"{path} is too large: it has more than {largest:,} bytes.")
    return bytes(data)


def read_text(
    path: Path, kind: type[Gpt149Error] = InputError, *, largest: int = LARGEST_JSON
) -> str:
    """The UTF-8 text of a file, its line ends as they are; raises as `read_bytes`, or not UTF-8."""
    try:
        return read_bytes(path, kind, largest=largest).decode("utf-8")
    except UnicodeDecodeError as e:
        raise kind(
            f"cannot read {path}: it is not UTF-8 (byte 0x{e.object[e.start]:02x} at offset "
            f"{e.start})."
        ) from e


def read_json(path: Path, kind: type[Gpt149Error] = InputError, wanted: type = dict) -> Any:
    """What a JSON file holds, a dict or what else is wanted.

    Raises:
        `kind`: as `read_text`; or it is no JSON, nests too deep, or is of another type.
    """
    text = read_text(path, kind)
    try:
        found = json.loads(text)
    except RecursionError as e:
        raise kind(f"{path} is not what it should be: its JSON nests too deep.") from e
    except ValueError as e:
        raise kind(f"{path} is not JSON: {e}.") from e
    if not isinstance(found, wanted):
        raise kind(
            f"{path} holds JSON of the wrong type: a {type(found).__name__}, not a "
            f"{wanted.__name__}."
        )
    return found


def reason(error: OSError) -> str:
    """Why the system refuses, in its words."""
    return error.strerror or str(error) or type(error).__name__


def _opened(path: Path) -> Any:
    """Without waiting for somebody to write, as opening a pipe would."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))

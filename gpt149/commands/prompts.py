"""A file of prompts: one a line, or a JSON object a line; `gpt149 generate --prompts` reads it."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import Any

from ..engine.texts import Prompt
from ..errors import InputError
from ..system.files import read_bytes
from .text import utf8

FIELDS = ("prompt", "n", "stop", "seed")


def read(path: Path) -> list[Prompt]:
    """The prompts of a file; `-` is stdin. One whose first line begins with { holds JSON.

    Raises:
        InputError, with the line's number: it is empty, not UTF-8, or not what it should be.
    """
    source = str(path)
    if source != "-":
        data = read_bytes(path, pipes=True)
    elif sys.stdin is None:
        raise InputError("stdin is closed. Give a file of prompts.")
    else:
        source, data = "stdin", sys.stdin.buffer.read()
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data:
        raise InputError(f"{source} is empty. Give a prompt a line, or a JSON object a line.")
    as_json = data.lstrip().startswith(b"{")
    return [
        _prompt(line.removesuffix(b"\r"), f"line {number} of {source}", as_json)
        for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1)
    ]


def _prompt(line: bytes, name: str, as_json: bool) -> Prompt:
    if not line.strip() if as_json else not line:
        raise InputError(f"{name} is empty. Each must hold a prompt.")
    text = utf8(line, name)
    return _from_json(text, name) if as_json else Prompt(text, name=name)


def _from_json(text: str, name: str) -> Prompt:
    """Nothing of the object is passed over."""

    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twins := [key for key in keys if keys.count(key) > 1]:
            raise InputError(f"{name} says '{twins[0]}' twice.")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=no_twins)
    except json.JSONDecodeError as e:
        raise InputError(
            f"{name} is not JSON: {e.msg} at column {e.colno}. The first line of the file begins "
            "with {, so each must be an object."
        ) from e
    except (RecursionError, ValueError) as e:  # nested too deep, or a number of 5,000 digits
        raise InputError(f"{name} is not JSON that can be read: {e}.") from e
    if not isinstance(found, dict):
        raise InputError(f"{name} is not an object, as the first line of the file is.")
    if unknown := [key for key in found if key not in FIELDS]:
        raise InputError(f"{name} has '{unknown[0]}', and may have {', '.join(FIELDS)}.")
    if "prompt" not in found:
        raise InputError(f"{name} has no 'prompt'.")
    for field, fits, wanted in (
        ("prompt", _is_text_or(found["prompt"], int), "a text, or a list of token ids"),
        ("n", _is_whole(found.get("n", 0)), "a whole number"),
        ("stop", _is_text_or(found.get("stop", ""), str), "a text, or a list of them"),
        ("seed", _is_whole(found.get("seed", 0)), "a whole number"),
    ):
        if not fits:
            raise InputError(f"{name}: '{field}' is {json.dumps(found[field])}, not {wanted}.")
    return Prompt(**found, name=name)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text_or(value: object, of: type) -> bool:
    """Whether it is a text, or a list of this type."""
    fits = _is_whole if of is int else lambda one: isinstance(one, of)
    return isinstance(value, str) or (isinstance(value, list) and all(map(fits, value)))

"""Vocabularies of single characters: nanoGPT's meta.pkl, read without executing the pickle."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import tiktoken

from ...errors import TokenizerError
from ...system.files import read_bytes
from ..tokenizer import Tokenizer
from .pickles import check_cost

LARGEST_META = 1 << 26  # bytes; every character of Unicode takes a third of it
CHARACTER_PATTERN = r"[\s\S]"

# Opcodes that build dicts, lists, strings, numbers; none imports, calls or sets attributes.
PLAIN_OPCODES = frozenset(
    """PROTO FRAME STOP MARK POP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET NONE
    NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 UNICODE BINUNICODE SHORT_BINUNICODE
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3""".split()
)

# Opcodes that import names, call them or set attributes.
CODE_OPCODES = frozenset(
    """GLOBAL STACK_GLOBAL INST OBJ NEWOBJ NEWOBJ_EX REDUCE BUILD EXT1 EXT2 EXT4 PERSID
    BINPERSID""".split()
)


def from_characters(characters: list[str]) -> Tokenizer:
    """A vocabulary of single characters; the id of each is its index.

    Raises:
        TokenizerError: an entry is not one character, or occurs twice.
    """
    if not characters or any(not isinstance(c, str) or len(c) != 1 for c in characters):
        raise TokenizerError("a character vocabulary must hold single characters only.")
    if any(0xD800 <= ord(c) < 0xE000 for c in characters):
        raise TokenizerError("a character vocabulary must not hold lone surrogates.")
    ranks = {c.encode(): i for i, c in enumerate(characters)}
    if len(ranks) != len(characters):
        raise TokenizerError("a character stands twice in the character vocabulary.")
    encoding = tiktoken.Encoding(
        "characters", pat_str=CHARACTER_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    return Tokenizer(encoding, ranks, {}, whole_characters=True)


def from_meta_pickle(path: Path) -> Tokenizer:
    """The character vocabulary in nanoGPT's meta.pkl, read without executing the pickle.

    Raises:
        TokenizerError: the file holds anything but plain dicts, strings and numbers.
    """
    data = read_bytes(path, TokenizerError, largest=LARGEST_META)
    meta = _load_plain_pickle(data, path)
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(itos, dict) and set(itos) == set(range(len(itos))):
        itos = [itos[i] for i in range(len(itos))]
    if not isinstance(itos, list) or not itos:
        raise TokenizerError(f"{path} holds no 'itos' that maps 0 .. n-1 to characters.")
    return from_characters(itos)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _load_plain_pickle(data: bytes, path: Path) -> Any:
    try:
        for opcode, _arg, position in pickletools.genops(data):
            if opcode.name not in PLAIN_OPCODES:
                what = "would execute code" if opcode.name in CODE_OPCODES else "is not plain data"
                raise TokenizerError(
                    f"{path} {what}: opcode {opcode.name} at byte {position}, where a "
                    "character vocabulary needs only dicts, strings and numbers. It was not run."
                )
        check_cost(io.BytesIO(data))
        return _PlainUnpickler(io.BytesIO(data)).load()
    except TokenizerError:
        raise
    except Exception as e:  # pickle raises many kinds on damaged data
        raise TokenizerError(f"{path} is not a readable pickle: {e}.") from e

"""Model files, damaged in random ways: bits, JSON values, whole files."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 64, 65, 2**24, 2**31, 2**63, 10**30, 0.5, 1e308, "", "x",
    "gpt2", "0", "a b", "<|endoftext|>", "../x", "\x00", "é\n", [], {}, [0], [[]], {"a": 1},
    float("nan"), "x" * 5000,
]  # fmt: skip
LARGEST = 1 << 24  # bytes that are damaged, not those of a file that was made longer
NUMBERS = [0, 1, 2**7 - 1, 2**7, 2**8 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**64 - 1]


def damage(path: Path, rng: random.Random, others: list[Path]) -> str:
    """Damage one file of a directory, once; returns what was done. others: more directories."""
    files = sorted(path.iterdir())
    if not files:  # an earlier damage took the last one
        return "nothing"
    file = rng.choice(files)
    if not file.is_file() or file.stat().st_size > LARGEST:
        return "nothing"
    if rng.random() < 0.15:
        return f"{file.name}: {_whole(file, rng, others)}"
    kinds: list[Callable[[bytes, random.Random], bytes]] = [_bytes]
    if file.suffix == ".json":
        kinds += [_json] * 3
    if file.suffix == ".safetensors":
        kinds += [_header] * 2
    kind = rng.choice(kinds)
    data = file.read_bytes()
    file.write_bytes(kind(data, rng))
    return f"{file.name}: {kind.__name__}"


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes set to the edges of their types, cut, doubled, put in."""
    new = bytearray(data)
    for _i in range(rng.choice([1, 1, 2, 8])):
        # What is first and last says what the rest is.
        near = rng.choice([len(new), 64, 600])
        at = rng.randrange(max(1, min(near, len(new))))
        at = len(new) - at if rng.random() < 0.3 else at
        what = rng.randrange(5)
        if what == 0 and at < len(new):
            new[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            width = rng.choice([1, 2, 4, 8])
            number = rng.choice(NUMBERS) & (1 << 8 * width) - 1
            new[at : at + width] = number.to_bytes(width, "little")
        elif what == 2:
            del new[at : at + rng.choice([1, 3, 100, len(new)])]
        elif what == 3:
            new[at:at] = rng.randbytes(rng.choice([1, 4, 50]))
        else:
            new[at:at] = new[at : at + rng.choice([1, 8, 200])]
    return bytes(new)


def _header(data: bytes, rng: random.Random) -> bytes:
    """The JSON in front of a safetensors file, changed."""
    n = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + n], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + n :]


def _json(data: bytes, rng: random.Random) -> bytes:
    """A value somewhere in it changed, taken out, put twice, or nested."""
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return data
    for _i in range(rng.choice([1, 1, 1, 3])):
        parent: Any = root
        key: Any = 0
        while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.8:
            parent = parent[key]
            key = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        value = parent[key]
        what = rng.randrange(6)
        if what <= 1:
            parent[key] = deepcopy(rng.choice(ODD))
        elif what == 2 and parent is not root:
            del parent[key]
        elif what == 3 and isinstance(parent, dict):
            # Copies: a container that stands in two places might be put into itself.
            parent[rng.choice([*parent, "eos_token_id", "hidden_size", "x"])] = deepcopy(value)
        elif what == 4 and isinstance(value, int) and not isinstance(value, bool):
            parent[key] = value + rng.choice([-1, 1, 2, 1000])
        else:
            for _depth in range(rng.choice([1, 2, 3000])):
                value = [value]
            parent[key] = "NESTED"
            return json.dumps(root[0]).replace('"NESTED"', _deep(value)).encode()
    return json.dumps(root[0]).encode()


def _deep(value: Any) -> str:
    """What json.dumps would not: lists in lists, deeper than its stack."""
    depth = 0
    while isinstance(value, list) and len(value) == 1:
        value, depth = value[0], depth + 1
    return "[" * depth + json.dumps(value) + "]" * depth


def _whole(file: Path, rng: random.Random, others: list[Path]) -> str:
    """Another thing in its place."""
    what = rng.choice(
        ["gone", "empty", "pipe", "folder", "loop", "sparse", "another's", "another's"]
    )
    data = file.read_bytes()
    file.unlink()
    if what == "empty":
        file.touch()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what == "loop":
        file.symlink_to(file)
    elif what == "sparse":
        file.write_bytes(data)
        os.truncate(file, 1 << 36)
    elif what == "another's":
        files = sorted(p for other in others for p in other.iterdir())
        same = [p for p in files if p.suffix == file.suffix]
        shutil.copy(rng.choice(same or files), file)
    return what

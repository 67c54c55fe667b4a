"""Files with which loading once failed otherwise than by a sentence, and why it did.

Each is put into a directory of `specimens`; its name is that of the file whose place it takes.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

Change = Callable[[Path], object]


def hashes_for_ever() -> bytes:
    """A tuple of twice the tuple of twice the tuple ..., as the key of a dict."""
    pairs = b"".join(
        b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(40)
    )
    return b"\x80\x02}K\x01q\x00" + pairs + b"K\x01s."


def said(**changes: object) -> Change:
    """A JSON file with some values replaced."""

    def change(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def content(data: bytes) -> Change:
    return lambda file: file.write_bytes(data)


def saved(value: object) -> Change:
    return lambda file: torch.save(value, file)


def flipped(at: int) -> Change:
    """A bit of torch's pickle flipped; it begins some 60 bytes into the zip file."""

    def change(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[at] ^= 0x10
        file.write_bytes(data)

    return change


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


DEEP = content(b'{"a":' + b"[" * 100_000)

# (the directory, the file, the change)
CORPUS: list[tuple[str, str, Change]] = [
    ("plain", "config.json", said(n_layer=2**24)),  # 2 x 10^8 names before the first was missed
    ("plain", "config.json", DEEP),  # RecursionError, as in the next four
    ("plain", "vocab.json", DEEP),
    ("json", "tokenizer.json", DEEP),
    ("sharded", "model.safetensors.index.json", DEEP),
    ("plain", "added_tokens.json", DEEP),
    ("plain", "config.json", pipe),  # hung, deaf to SIGTERM
    ("plain", "model.safetensors", pipe),
    ("pickled", "pytorch_model.bin", pipe),
    ("nanogpt", "meta.pkl", pipe),
    ("nanogpt", "meta.pkl", content(hashes_for_ever())),  # never came back
    ("nanogpt", "ckpt.pt", content(hashes_for_ever())),
    ("pickled", "pytorch_model.bin", saved([1, 2])),  # AttributeError: no items
    ("pickled", "pytorch_model.bin", saved({"wte.weight": torch.ones(1).expand(65, 32)})),
    ("pickled", "pytorch_model.bin", content(pickle.dumps({"a": 1}))),
    *(("pickled", "pytorch_model.bin", flipped(at)) for at in range(64, 264, 8)),  # many kinds
    ("pickled", "pytorch_model.bin", lambda file: os.truncate(file, 1 << 36)),  # read a line of it
    ("plain", "config.json", said(n_embd=[[]])),
    ("json", "tokenizer.json", said(added_tokens=[[]])),
    ("json", "tokenizer.json", said(post_processor=[1])),
]

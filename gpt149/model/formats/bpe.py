"""GPT-2's kind of tokenizer: vocab.json and merges.txt, or a tokenizer.json that says the same.

tiktoken merges by rank: the pair whose concatenation has the lowest rank goes first. A merges list
says the same only if ids rise in merge order and every token, merged by rank, ends as the pair that
the list gives. Both are checked.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tiktoken

from ...errors import TokenizerError
from ..tokenizer import Tokenizer

# GPT-2's splitting: contractions, letters, digits and other signs with the space before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END_OF_TEXT = "<|endoftext|>"
# Tokens that no merge makes count as special if they look like this: <s>, <|endoftext|>, [PAD].
MARKED = re.compile(r"<.+>|\[.+\]", re.DOTALL)

# (vocabulary, merges) as Hugging Face and as OpenAI name the same two files.
BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def from_directory(path: Path, bos: int | None = None, eos: int | None = None) -> Tokenizer | None:
    """The tokenizer whose files lie in a model directory; None if there are none.

    Reads vocab.json and merges.txt (or OpenAI's encoder.json and vocab.bpe), else tokenizer.json.

    Raises:
        TokenizerError: files that are damaged, or mean something that tiktoken cannot do.
    """
    for vocabulary, merges in BPE_FILES:
        if (path / vocabulary).is_file() and (path / merges).is_file():
            vocab = _read_json(path / vocabulary)
            lines = _read_text(path / merges).split("\n")
            pairs = [line for line in lines if line and not line.startswith("#version")]
            return _from_bpe(vocab, [tuple(p.split(" ")) for p in pairs], path, bos, eos)
    if (path / "tokenizer.json").is_file():
        return _from_tokenizer_json(path / "tokenizer.json", bos, eos)
    return None


def _from_bpe(
    vocab: object,
    merges: list[tuple[str, ...]],
    path: Path,
    bos: int | None,
    eos: int | None,
    added: frozenset[str] = frozenset(),
) -> Tokenizer:
    if (
        not isinstance(vocab, dict)
        or not vocab
        or any(type(i) is not int for i in vocab.values())
        or sorted(vocab.values()) != list(range(len(vocab)))
    ):
        raise TokenizerError(
            f"the vocabulary in {path} must give the ids 0 .. n-1, each once, to its tokens."
        )
    if any(len(pair) != 2 for pair in merges):
        raise TokenizerError(f"a line of the merges in {path} is not two tokens.")
    byte_of = bytes_of_characters()
    _check_merges(vocab, merges, byte_of, path)
    products = {a + b for a, b in merges}
    ranks: dict[bytes, int] = {}
    special: dict[str, int] = {}
    for token, token_id in vocab.items():
        if token in products or (len(token) == 1 and token in byte_of):
            ranks[_to_bytes(token, byte_of, path)] = token_id
        elif MARKED.fullmatch(token) or token in added:
            special[token] = token_id
        else:
            raise TokenizerError(
                f"no merge in {path} makes the token '{token}' (id {token_id}): the merges are "
                f"incomplete ({len(merges)} for {len(vocab)} tokens)."
            )
    encoding = tiktoken.Encoding(
        path.name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
    )
    if END_OF_TEXT in special:
        eos = special[END_OF_TEXT] if eos is None else eos
        bos = special[END_OF_TEXT] if bos is None else bos
    return Tokenizer(encoding, ranks, special, _known(bos, len(vocab)), _known(eos, len(vocab)))


def _check_merges(
    vocab: dict[str, int], merges: list[tuple[str, ...]], byte_of: dict[str, int], path: Path
) -> None:
    """Raise TokenizerError unless merging by rank does what the merges list says."""
    halves: dict[str, tuple[str, str]] = {}
    rank = dict.fromkeys(byte_of, -1)  # bytes are there before the first merge
    for a, b in merges:
        token_id = vocab.get(a + b)
        if token_id is None or a not in rank or b not in rank:
            raise TokenizerError(
                f"the merge '{a} {b}' in {path} uses a token that is not there yet, "
                "or makes one that the vocabulary lacks."
            )
        if token_id <= rank[next(reversed(rank))]:
            raise TokenizerError(
                f"the merge '{a} {b}' in {path} makes id {token_id} after id "
                f"{rank[next(reversed(rank))]}: ids must rise in merge order for tiktoken to "
                "tokenize the same way."
            )
        if not _stay_apart(a, b, halves, rank):
            raise TokenizerError(
                f"the token '{a + b}' in {path} does not merge back to itself, so tiktoken would "
                "tokenize differently."
            )
        halves[a + b] = (a, b)
        rank[a + b] = token_id


def _stay_apart(
    left: str, right: str, halves: dict[str, tuple[str, str]], rank: dict[str, int]
) -> bool:
    """Whether merging the bytes of left + right by rank ends in exactly these two tokens.

    Each merges to itself alone (both were checked before), so what could go wrong is a merge
    across the border. Undo the merges beside the border, latest first; in every state that
    appears, the pair across it must not have come before the merge that was undone. Of equal
    merges the leftmost is first. (The idea is that of `is_valid_token_pair` in the crate `bpe`.)
    """
    while True:
        undo_left = rank[left] > rank[right]
        latest = rank[left if undo_left else right]
        if latest < 0:
            return True
        if undo_left:
            left = halves[left][1]
        else:
            right = halves[right][0]
        across = rank.get(left + right)
        if across is not None and (across < latest or (across == latest and not undo_left)):
            return False


def _from_tokenizer_json(path: Path, bos: int | None, eos: int | None) -> Tokenizer:
    """A Hugging Face tokenizer.json, if it says what GPT-2's says: byte-level BPE and no more."""
    spec = _read_json(path)
    try:
        return _from_tokenizer_spec(spec, path, bos, eos)
    except (KeyError, TypeError, AttributeError) as e:
        raise TokenizerError(f"{path} is damaged: it does not have the usual parts ({e}).") from e


def _from_tokenizer_spec(spec: Any, path: Path, bos: int | None, eos: int | None) -> Tokenizer:
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise TokenizerError(f"{path} is not a BPE tokenizer.")
    pre = spec.get("pre_tokenizer") or {}
    template = (spec.get("post_processor") or {}).get("single") or []
    reasons = [
        reason
        for wrong, reason in (
            (pre.get("type") != "ByteLevel", "its pre-tokenizer is not ByteLevel"),
            (pre.get("add_prefix_space"), "it adds a space before the text"),
            (pre.get("use_regex") is False, "it does not split by GPT-2's pattern"),
            (spec.get("normalizer"), "it normalizes the text"),
            (any("SpecialToken" in part for part in template), "it adds tokens around the text"),
            (model.get("ignore_merges"), "it ignores merges"),
            (model.get("continuing_subword_prefix"), "it marks continuing subwords"),
            (model.get("end_of_word_suffix"), "it marks the ends of words"),
        )
        if wrong
    ]
    if reasons:
        raise TokenizerError(f"{path} is not GPT-2's kind of tokenizer: {'; '.join(reasons)}.")
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or []}
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    vocab = {**model["vocab"], **added}
    return _from_bpe(vocab, pairs, path.parent, bos, eos, frozenset(added))


def bytes_of_characters() -> dict[str, int]:
    """GPT-2's files write every byte as a printable character: this is the way back."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    rest = (b for b in range(256) if b not in table.values())
    return table | {chr(256 + i): b for i, b in enumerate(rest)}


def _to_bytes(token: str, byte_of: dict[str, int], path: Path) -> bytes:
    try:
        return bytes(byte_of[c] for c in token)
    except KeyError as e:
        raise TokenizerError(
            f"the token '{token}' in {path} has the character {e.args[0]!r}, which stands for no "
            "byte in GPT-2's byte-level alphabet."
        ) from e


def _known(token: int | None, n_vocab: int) -> int | None:
    return token if token is not None and 0 <= token < n_vocab else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TokenizerError(f"cannot read {path}: {e}.") from e


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except ValueError as e:
        raise TokenizerError(f"{path} is not JSON: {e}.") from e

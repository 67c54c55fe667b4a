"""GPT-2's kind of tokenizer: vocab.json and merges.txt, or a tokenizer.json that says the same.

tiktoken merges by rank: the pair whose concatenation has the lowest rank goes first. A merges list
says the same only if ids rise in merge order and every token, merged by rank, ends as the pair that
the list gives. Both are checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tiktoken

from ...errors import TokenizerError
from ...system.files import exists, read_json, read_text
from ...system.words import brief
from ..tokenizer import AddedToken, Tokenizer
from . import tokenizer_json
from .added import Vocabulary, collect
from .tokenizer_json import Merges

# GPT-2's splitting: contractions, letters, digits and other signs with the space before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
END_OF_TEXT = "<|endoftext|>"
# Tokens that no merge makes count as special if they look like this: <s>, <|endoftext|>, [PAD].
MARKED = re.compile(r"<.+>|\[.+\]", re.DOTALL)

# (vocabulary, merges) as Hugging Face and as OpenAI name the same two files.
BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def has_files(path: Path) -> bool:
    """Whether a tokenizer's files lie in a directory; raises TokenizerError if not permitted."""
    pairs = [*BPE_FILES, ("tokenizer.json",)]
    return any(all(exists(path / name, TokenizerError) for name in names) for names in pairs)


def from_directory(path: Path, bos: int | None = None, eos: Sequence[int] = ()) -> Tokenizer | None:
    """The tokenizer whose files lie in a model directory; None if there are none.

    Of vocab.json and merges.txt (or OpenAI's encoder.json and vocab.bpe), tokenizer.json,
    tokenizer_config.json, added_tokens.json and special_tokens_map.json all that are there count.

    bos, eos: what the model's config says of the ids that begin and end a text.

    Raises:
        TokenizerError: files that are damaged, contradict each other, or mean something that
            tiktoken cannot do.
    """
    vocabulary = Vocabulary()
    lists: dict[str, Merges] = {}
    for vocab_name, merges_name in BPE_FILES:
        if exists(path / vocab_name, TokenizerError) and exists(path / merges_name, TokenizerError):
            for token, token_id in read_json(path / vocab_name, TokenizerError).items():
                vocabulary.add(token, token_id, path / vocab_name)
            lists[merges_name] = _read_merges(path / merges_name)
    spec = None
    if exists(file := path / "tokenizer.json", TokenizerError):
        spec = tokenizer_json.read(file)
        for token, token_id in spec.vocab.items():
            vocabulary.add(token, token_id, file)
        lists[file.name] = spec.merges
    if not lists:
        return None
    (name, merges), *others = lists.items()
    for other, theirs in others:
        if theirs != merges:
            raise TokenizerError(
                f"{path}: the merges of {name} and those of {other} are not the same "
                f"({len(merges)} and {len(theirs)}). Take the wrong file out."
            )
    added = collect(path, spec.added if spec else [], vocabulary)
    ids = vocabulary.ids
    found = added.tokens(ids)
    tokenizer = _from_bpe(ids, merges, path, found, marks=not added.listed)
    ends = [*eos, *(ids[token] for token in added.eos)]
    starts = [*([] if bos is None else [bos]), *(ids[token] for token in added.bos)]
    if END_OF_TEXT in ids:
        starts.append(ids[END_OF_TEXT])
        ends = ends or [ids[END_OF_TEXT]]
    bos = starts[0] if starts else None
    return replace(tokenizer.ending(ends), bos=bos, notes=spec.notes if spec else ())


def _read_merges(file: Path) -> Merges:
    lines = read_text(file, TokenizerError).replace("\r\n", "\n").split("\n")
    pairs = [line for line in lines if line and not line.startswith("#version")]
    return [tuple(pair.split(" ")) for pair in pairs]


def _from_bpe(
    vocab: dict[str, int],
    merges: Merges,
    path: Path,
    added: tuple[AddedToken, ...],
    *,
    marks: bool,
) -> Tokenizer:
    """marks: no file lists added tokens, so those that look special are."""
    if not vocab or sorted(vocab.values()) != list(range(len(vocab))):
        raise TokenizerError(
            f"the vocabulary in {path} must give the ids 0 .. n-1, each once, to its tokens."
        )
    if any(len(pair) != 2 for pair in merges):
        raise TokenizerError(f"a line of the merges in {path} is not two tokens.")
    byte_of = bytes_of_characters()
    _check_merges(vocab, merges, byte_of, path)
    products = {a + b for a, b in merges}
    names = {token.text for token in added}
    ranks: dict[bytes, int] = {}
    special: dict[str, int] = {}
    for token, token_id in vocab.items():
        if token in products or (len(token) == 1 and token in byte_of):
            ranks[_to_bytes(token, byte_of, path)] = token_id
        elif token in names:
            special[token] = token_id
        elif MARKED.fullmatch(token):
            special[token] = token_id
            if marks or token == END_OF_TEXT:
                added = (*added, AddedToken(token, token_id))
        else:
            raise TokenizerError(
                f"no merge in {path} makes the token {brief(token)} (id {token_id}): the merges "
                f"are incomplete ({len(merges)} for {len(vocab)} tokens)."
            )
    encoding = tiktoken.Encoding(
        path.name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special
    )
    return Tokenizer(encoding, ranks, special, added=added)


def _check_merges(
    vocab: dict[str, int], merges: Merges, byte_of: dict[str, int], path: Path
) -> None:
    """Raise TokenizerError unless merging by rank does what the merges list says."""
    halves: dict[str, tuple[str, str]] = {}
    rank = dict.fromkeys(byte_of, -1)  # bytes are there before the first merge
    for a, b in merges:
        token_id = vocab.get(a + b)
        if token_id is None or a not in rank or b not in rank:
            raise TokenizerError(
                f"the merge {brief(f'{a} {b}')} in {path} uses a token that is not there yet, "
                "or makes one that the vocabulary lacks."
            )
        if token_id <= rank[next(reversed(rank))]:
            raise TokenizerError(
                f"the merge {brief(f'{a} {b}')} in {path} makes id {token_id} after id "
                f"{rank[next(reversed(rank))]}: ids must rise in merge order for tiktoken to "
                "tokenize the same way."
            )
        if not _stay_apart(a, b, halves, rank):
            raise TokenizerError(
                f"the token {brief(a + b)} in {path} does not merge back to itself, so tiktoken "
                "would tokenize differently."
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
            f"the token {brief(token)} in {path} has the character {e.args[0]!r}, which stands for "
            "no byte in GPT-2's byte-level alphabet."
        ) from e

"""Text to token ids and back: a tiktoken Encoding built from local files; nothing is fetched.

tiktoken merges by rank: the pair whose concatenation has the lowest rank goes first. A merges list
says the same only if ids rise in merge order and every token, merged by rank, ends as the pair that
the list gives. Both are checked. tiktoken panics on what it cannot encode, so that is checked too,
before it is called.
"""

from __future__ import annotations

import codecs
import io
import json
import pickle
import pickletools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken

from ..errors import TokenizerError

# GPT-2's splitting: contractions, letters, digits and other signs with the space before them.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CHARACTER_PATTERN = r"[\s\S]"
END_OF_TEXT = "<|endoftext|>"
# Tokens that no merge makes count as special if they look like this: <s>, <|endoftext|>, [PAD].
MARKED = re.compile(r"<.+>|\[.+\]", re.DOTALL)

# GPT-2's pattern looks ahead at the end of white space, and tiktoken's stack ends somewhere above.
LONGEST_SPACE = 100_000
LONG_SPACE = re.compile(rf"\s{{{LONGEST_SPACE + 1}}}")

# (vocabulary, merges) as Hugging Face and as OpenAI name the same two files.
BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary of ids 0 .. n_vocab - 1.

    `bos` and `eos` are ids or None. `whole_characters` marks a vocabulary of single characters.
    """

    encoding: tiktoken.Encoding
    ranks: dict[bytes, int]
    special: dict[str, int]
    bos: int | None = None
    eos: int | None = None
    whole_characters: bool = False

    @property
    def n_vocab(self) -> int:
        return len(self.ranks) + len(self.special)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of the text. Special tokens written in it count only with `special`.

        Raises:
            TokenizerError: the text has a character that the vocabulary lacks; it is named.
        """
        self._check(text, special)
        if special:
            return self.encoding.encode(text, allowed_special="all", disallowed_special=())
        return self.encoding.encode_ordinary(text)

    def encode_prompt(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a prompt: as `encode`, and the beginning-of-text token for an empty one.

        Raises:
            TokenizerError: as `encode`; or the prompt is empty and there is no such token.
        """
        if text:
            return self.encode(text, special=special)
        if self.bos is None:
            raise TokenizerError(
                "the prompt is empty, and this model has no beginning-of-text token. "
                "Give at least one character."
            )
        return [self.bos]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token; raises TokenizerError where there is no such id."""
        if not 0 <= token < self.n_vocab:
            raise TokenizerError(f"there is no token {token}; ids go from 0 to {self.n_vocab - 1}.")
        return self.encoding.decode_single_token_bytes(token)

    def _check(self, text: str, special: bool) -> None:
        """Raise TokenizerError for what makes tiktoken panic."""
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise TokenizerError(
                f"the text is not valid Unicode: a lone surrogate U+{ord(text[e.start]):04X} "
                f"at character {e.start}."
            ) from e
        if len(text) > LONGEST_SPACE and (run := LONG_SPACE.search(text)):
            raise TokenizerError(
                f"at character {run.start()} the text has more than {LONGEST_SPACE:,} spaces or "
                "line ends in a row, which tiktoken cannot split. Shorten them."
            )
        if not self.whole_characters and all(bytes([b]) in self.ranks for b in range(256)):
            return
        skipped = "|".join(re.escape(name) for name in self.special) if special else ""
        names = re.finditer(skipped, text) if skipped else iter(())
        inside = {i for name in names for i in range(*name.span())}
        for position, c in enumerate(text):
            parts = [c.encode()] if self.whole_characters else [bytes([b]) for b in c.encode()]
            if position not in inside and any(part not in self.ranks for part in parts):
                raise TokenizerError(
                    f"the model's vocabulary lacks the character {c!r} (U+{ord(c):04X}), "
                    f"at character {position} of the text; it has {self.n_vocab} tokens. "
                    "Leave the character out."
                )


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
    try:
        data = path.read_bytes()
    except OSError as e:
        raise TokenizerError(f"cannot read {path}: {e.strerror}.") from e
    meta = _load_plain_pickle(data, path)
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if isinstance(itos, dict) and set(itos) == set(range(len(itos))):
        itos = [itos[i] for i in range(len(itos))]
    if not isinstance(itos, list) or not itos:
        raise TokenizerError(f"{path} holds no 'itos' that maps 0 .. n-1 to characters.")
    return from_characters(itos)


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


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _load_plain_pickle(data: bytes, path: Path) -> Any:
    try:
        for opcode, arg, position in pickletools.genops(data):
            if opcode.name not in PLAIN_OPCODES:
                what = "would execute code" if opcode.name in CODE_OPCODES else "is not plain data"
                raise TokenizerError(
                    f"{path} {what}: opcode {opcode.name} at byte {position}, where a "
                    "character vocabulary needs only dicts, strings and numbers. It was not run."
                )
            if opcode.name.endswith("PUT") and isinstance(arg, int) and arg > len(data):
                raise ValueError(f"memo index {arg}")  # would reserve memory for all below it
        return _PlainUnpickler(io.BytesIO(data)).load()
    except TokenizerError:
        raise
    except Exception as e:  # pickle raises many kinds on damaged data
        raise TokenizerError(f"{path} is not a readable pickle: {e}.") from e


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


class TextStream:
    """Bytes of tokens in, text out, as soon as it is sure.

    Never gives half a UTF-8 character, nor text that may be the beginning of a stop text.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that this token makes certain; empty after a stop text was met."""
        return self._release(self._decoder.decode(self._tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """What was held back, at the end of generation."""
        if self.stopped:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        return text + rest

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for at in (text.find(s) for s in self._stop) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of text that a stop text begins with."""
    lengths: Iterator[int] = iter(range(min(len(text), len(stop) - 1), 0, -1))
    return next((n for n in lengths if text.endswith(stop[:n])), 0)

"""Text to token ids and back, by a tiktoken Encoding that was built from local files.

tiktoken panics on what it cannot encode, so that is checked before it is called.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import tiktoken

from ..errors import TokenizerError

# GPT-2's pattern looks ahead at the end of white space, and tiktoken's stack ends somewhere above.
LONGEST_SPACE = 100_000
# As Unicode and Rust have it; Python's \s takes U+001C to U+001F too.
WHITE_SPACE = frozenset(c for c in map(chr, range(0x3001)) if c.isspace()) - set("\x1c\x1d\x1e\x1f")
LONG_SPACE = re.compile(rf"\s{{{LONGEST_SPACE + 1}}}")


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text as it is written, before what is between is merged.

    special: only where special tokens are asked for. lstrip, rstrip: with the white space before
    or behind it. late: looked for in what the others leave.
    """

    text: str
    id: int
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    late: bool = False


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary of ids 0 .. n_vocab - 1.

    special: tokens that no merge makes. added: those that are found in texts as they are written.
    bos, eos: ids or None. other_eos: more ids that end a text. whole_characters: a vocabulary of
    single characters. n_bare: ids behind the vocabulary that a model may choose, without a text.
    encoding: None where there is no other id.
    notes: what a user should know of the files.
    """

    encoding: tiktoken.Encoding | None
    ranks: dict[bytes, int]
    special: dict[str, int]
    bos: int | None = None
    eos: int | None = None
    other_eos: frozenset[int] = frozenset()
    whole_characters: bool = False
    added: tuple[AddedToken, ...] = ()
    n_bare: int = 0
    notes: tuple[str, ...] = ()

    @property
    def n_vocab(self) -> int:
        return len(self.ranks) + len(self.special) + self.n_bare

    @property
    def ends(self) -> frozenset[int]:
        """All ids that end a text."""
        return self.other_eos | ({self.eos} if self.eos is not None else set())

    def widened(self, n: int) -> Tokenizer:
        """With ids up to n - 1; those behind the vocabulary have no text."""
        return replace(self, n_bare=self.n_bare + max(0, n - self.n_vocab))

    def ending(self, ids: Sequence[int]) -> Tokenizer:
        """With these ids as those that end a text; an engine watches for the first."""
        return replace(self, eos=next(iter(ids), None), other_eos=frozenset(ids[1:]) - {*ids[:1]})

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of the text. Special tokens written in it count only with `special`.

        Raises:
            TokenizerError: the text has a character that the vocabulary lacks; it is named.
        """
        self._check(text)
        assert self.encoding is not None
        ids: list[int] = []
        for start, end, token in self._split(text, special):
            if token is not None:
                ids.append(token)
                continue
            piece = text[start:end]
            self._check_characters(piece, start)
            ids += self.encoding.encode_ordinary(piece)
        return ids

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
        if self.encoding is None or token >= self.n_vocab - self.n_bare:
            return b""
        return self.encoding.decode_single_token_bytes(token)

    def _split(self, text: str, special: bool) -> Iterator[Span]:
        """The text in spans: what is between added tokens, and those with their id."""
        spans: Iterable[Span] = [(0, len(text), None)] if text else []
        for late in (False, True):
            tokens = {a.text: a for a in self.added if a.late == late}
            if tokens:
                # Of those that begin at the same place the longest; Python takes the first.
                names = sorted(tokens, key=len, reverse=True)
                pattern = re.compile("|".join(re.escape(name) for name in names))
                spans = [
                    part
                    for span in spans
                    for part in (
                        [span]
                        if span[2] is not None
                        else _found(text, span, pattern, tokens, special)
                    )
                ]
        yield from spans

    def _check(self, text: str) -> None:
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

    def _check_characters(self, piece: str, start: int) -> None:
        """The same for a character of a piece, which starts there, that the vocabulary lacks."""
        if not self.whole_characters and self._has_all_bytes:
            return
        for position, c in enumerate(piece, start):
            parts = [c.encode()] if self.whole_characters else [bytes([b]) for b in c.encode()]
            if any(part not in self.ranks for part in parts):
                raise TokenizerError(
                    f"the model's vocabulary lacks the character {c!r} (U+{ord(c):04X}), "
                    f"at character {position} of the text; it has {self.n_vocab} tokens. "
                    "Leave the character out."
                )

    @cached_property
    def _has_all_bytes(self) -> bool:
        return all(bytes([b]) in self.ranks for b in range(256))


Span = tuple[int, int, int | None]  # start, end, the id of an added token


def _found(
    text: str, within: Span, pattern: re.Pattern[str], tokens: dict[str, AddedToken], special: bool
) -> Iterator[Span]:
    """A span in parts, with the ids of the added tokens in it, as Hugging Face's tokenizers do."""
    done, stop, _ = within
    for match in pattern.finditer(text, done, stop):
        token = tokens[match.group()]
        if token.special and not special:
            continue
        start, end = match.span()
        while token.lstrip and start > done and text[start - 1] in WHITE_SPACE:
            start -= 1
        while token.rstrip and end < stop and text[end] in WHITE_SPACE:
            end += 1
        if done < start:
            yield done, start, None
        yield max(start, done), end, token.id
        done = end
    if done < stop:
        yield done, stop, None


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
        """The text that this token makes certain; empty after a stop was met."""
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

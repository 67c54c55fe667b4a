"""Text to token ids and back, by a tiktoken Encoding that was built from local files.

tiktoken panics on what it cannot encode, so that is checked before it is called.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import tiktoken

from ..errors import TokenizerError

# GPT-2's pattern looks ahead at the end of white space, and tiktoken's stack ends somewhere above.
LONGEST_SPACE = 100_000
LONG_SPACE = re.compile(rf"\s{{{LONGEST_SPACE + 1}}}")


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

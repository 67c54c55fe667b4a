"""One text as it grows: a sample behind a prompt, and when it ends."""

from __future__ import annotations

from functools import cached_property

from ..model.tokenizer import TextStream, Tokenizer
from .protocol import Draw
from .sampling import Sampler, Sampling
from .texts import Options, Piece, Sample


class Track:
    """A sample, with what its prompt asks for.

    prompt: its ids, behind `start` tokens that the engine holds already. number: among all samples.
    """

    def __init__(
        self,
        prompt: list[int],
        *,
        name: str,
        number: int,
        start: int,
        n_ctx: int,
        options: Options,
        sampling: Sampling,
        tokenizer: Tokenizer | None,
    ) -> None:
        """name: what messages call the prompt."""
        self.prompt, self.name, self.number = prompt, name, number
        self.sample = Sample()
        self.began = 0.0  # in seconds of the engine's work
        self._start, self._n_ctx, self._n = start, n_ctx, options.n
        self._sampling, self._of_prompt = sampling, number % options.num_samples
        self._ends = tokenizer.ends if tokenizer and not options.ignore_eos else frozenset[int]()
        self._stream = TextStream(tokenizer, options.stop) if tokenizer else None

    @property
    def left(self) -> int:
        """How many more tokens it may have: of those asked for, and all must fit."""
        n = len(self.sample.token_ids)
        return min(self._n - n, self._n_ctx - self._start - len(self.prompt) - n)

    @property
    def n_fed(self) -> int:
        """Tokens that an engine holds of it: all but the last one."""
        return self._start + len(self.prompt) + max(0, len(self.sample.token_ids) - 1)

    @property
    def finished(self) -> bool:
        return self.sample.finish_reason is not None

    @cached_property
    def sampler(self) -> Sampler:
        """Made when it is first needed: an engine may choose tokens itself."""
        return Sampler(self._sampling)

    def draw(self, sequence: int) -> Draw:
        """Its next token, behind a sequence of the engine."""
        step = len(self.sample.token_ids)
        return Draw(sequence, self._sampling.seed, self._of_prompt, step)

    def take(self, token: int) -> list[Piece]:
        """Another token, and what it adds to the text."""
        sample, text = self.sample, ""
        sample.token_ids.append(token)
        reason = None
        if token in self._ends:
            reason = "eos"
        elif self._stream is not None:
            text = self._stream.push(token)
            reason = "stop" if self._stream.stopped else None
        sample.finish_reason = reason
        sample.text += text
        self.end_where_full()
        return [Piece(self.number, token, text), *(self.held_back() if self.finished else [])]

    def end_where_full(self) -> None:
        """End it if there is no room for another token."""
        if self.left <= 0:
            asked_for = len(self.sample.token_ids) >= self._n
            self.end("length" if asked_for else "context")

    def end(self, reason: str) -> None:
        self.sample.finish_reason = self.sample.finish_reason or reason

    def held_back(self) -> list[Piece]:
        """What might have become a stop text, or a whole character; once."""
        text = self._stream.finish() if self._stream is not None else ""
        self.sample.text += text
        return [Piece(self.number, None, text)] if text else []

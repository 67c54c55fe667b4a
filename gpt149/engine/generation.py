"""From token ids to more of them: prefill, decode, stop, and what it cost.

An engine (torch.py, native.py) runs the model a step at a time and holds the sequences;
`Generation` is the loop over steps, the same for any of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFinite
from ..kernels.registry import Kernel
from ..model.config import GPTConfig
from ..model.tokenizer import TextStream, Tokenizer
from .sampling import Sampler, Sampling, log_probabilities

MOST_SAMPLES = 4096


class Engine(Protocol):
    """A model that is fed tokens: one sequence, or several after `fork`.

    name: torch or native. dtype, kv_dtype: of the weights, and of the KV cache: float32, bf16 or
    int8. calls: of the kernel, and attention_seconds spent in them.
    """

    name: str
    dtype: str
    kv_dtype: str
    config: GPTConfig
    kernel: Kernel
    n_threads: int
    n_ctx: int
    ids: list[list[int]]  # that were fed

    @property
    def length(self) -> int:
        """Tokens fed, the same for every sequence."""

    @property
    def calls(self) -> int: ...

    @property
    def attention_seconds(self) -> float: ...

    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One step: append (batch, n) ids to the sequences.

        Returns:
            The logits behind the last one, (batch, vocab_size).
        """

    def using(self, kernel: Kernel) -> AbstractContextManager[None]:
        """Feed through another kernel meanwhile, of the kind that the engine runs."""

    def fork(self, n: int) -> None:
        """Go on with n copies of the only sequence."""

    def rewind(self, length: int) -> None:
        """Forget what was fed behind the first `length` tokens."""

    def clear(self) -> None:
        """Forget the sequences; one empty one remains."""


def checked_n_ctx(wanted: int | None, config: GPTConfig) -> int:
    """The wanted context; None: the model's.

    Raises:
        InputError: the model does not allow it.
    """
    n_ctx = config.n_ctx if wanted is None else wanted
    if not 1 <= n_ctx <= config.n_ctx:
        raise InputError(f"n_ctx is {n_ctx}, and this model allows 1 to {config.n_ctx}.")
    return n_ctx


@runtime_checkable
class Decoder(Protocol):
    """An engine that also chooses tokens itself, several a call."""

    def decode(
        self,
        ids: Sequence[int],
        n: int,
        sampling: Sampling,
        known: int,
        step: int,
        stop: int | None,
    ) -> list[int]:
        """Feed the ids in a step, and then each token chosen behind them, but not the last.

        Args:
            ids: the prompt, or what was chosen before.
            n: how many at most; fewer where a fiftieth of a second is over.
            sampling: how.
            known: ids below it can be chosen.
            step: how many tokens the sample has so far.
            stop: an id behind which to end.

        Returns:
            The chosen ids; none if a logit is no number, after the ids were fed.
        """


@dataclass(frozen=True)
class Options:
    """What to generate besides how to sample.

    n: tokens a sample. stop: texts at which a sample ends, itself not part of the text.
    logprobs: report the chosen token's and this many likeliest tokens' log-probabilities.
    """

    n: int = 256
    stop: tuple[str, ...] = ()
    num_samples: int = 1
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for a value that means nothing."""
        for name, value, least in (
            ("n", self.n, 0),
            ("num_samples", self.num_samples, 1),
            ("logprobs", 0 if self.logprobs is None else self.logprobs, 0),
        ):
            if value < least:
                raise InputError(f"{name} is {value}, and must be >= {least}.")
        if self.num_samples > MOST_SAMPLES:
            raise InputError(
                f"num_samples is {self.num_samples}, and must be at most {MOST_SAMPLES}: each has "
                "a KV cache of its own."
            )
        if "" in self.stop:
            raise InputError("a stop text is empty; it would stop at once.")


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of the model's own probabilities, before temperature and filters."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]  # (id, log-probability), likeliest first


@dataclass
class Sample:
    """One continuation. finish_reason: length, context, eos, stop or interrupted."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)


@dataclass(frozen=True)
class Piece:
    """One generated token and the text that became certain with it (empty at times)."""

    sample: int
    token_id: int | None  # None: text that was held back until the end
    text: str


@dataclass
class Stats:
    """What a generation cost. Times in seconds; a step is one forward pass."""

    engine: str
    dtype: str
    kv_dtype: str
    kernel: str
    isa: str
    n_layer: int
    n_threads: int
    prompt_tokens: int
    load_s: float = 0.0
    prefill_s: float = 0.0  # with the first token's choice, if the engine makes it
    ttft_s: float | None = None  # from the start of the prefill to the first token
    generated_tokens: int = 0
    decoded_tokens: int = 0  # generated by decode steps: all but each sample's first
    decode_s: float = 0.0
    attention_s: float = 0.0
    kernel_calls: int = 0
    steps: int = 0

    @property
    def prefill_tok_s(self) -> float | None:
        return self.prompt_tokens / self.prefill_s if self.prefill_s else None

    @property
    def decode_tok_s(self) -> float | None:
        return self.decoded_tokens / self.decode_s if self.decoded_tokens else None

    @property
    def attention_share(self) -> float | None:
        busy = self.prefill_s + self.decode_s
        return self.attention_s / busy if busy else None


class Generation:
    """Iterate over it to generate; `samples` and `stats` grow meanwhile.

    The engine is left holding everything but the last token of each sample.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        *,
        tokenizer: Tokenizer | None = None,
        sampling: Sampling | None = None,
        options: Options | None = None,
    ) -> None:
        """Continue what the engine holds by the prompt's ids, then by generated ones.

        Raises:
            InputError: the prompt is empty, has an id outside the vocabulary, or does not fit.
            BuildError, MissingDependency: the sampler cannot be compiled.
        """
        self.engine, self.prompt, self.tokenizer = engine, list(prompt), tokenizer
        self.sampling, self.options = sampling or Sampling(), options or Options()
        self._check_prompt()
        self._sampler = Sampler(self.sampling)
        self._start, self._ran = engine.length, False
        self.samples = [Sample() for _ in range(self.options.num_samples)]
        self._streams = [
            TextStream(tokenizer, self.options.stop) if tokenizer else None for _ in self.samples
        ]
        self.stats = Stats(
            engine=engine.name,
            dtype=engine.dtype,
            kv_dtype=engine.kv_dtype,
            kernel=engine.kernel.name,
            isa=engine.kernel.isa,
            n_layer=engine.config.n_layer,
            n_threads=engine.n_threads,
            prompt_tokens=len(self.prompt),
        )

    def __iter__(self) -> Iterator[Piece]:
        if self._ran:
            raise InputError("this generation has run already: make another.")
        self._ran = True
        options, engine, stats = self.options, self.engine, self.stats
        room = engine.n_ctx - engine.length - len(self.prompt)
        alone = options.num_samples == 1 and options.logprobs is None
        if alone and options.n > 0 and room > 0 and isinstance(engine, Decoder):
            yield from self._decode(engine)
            yield from self._held_back()
            return
        start = time.perf_counter()
        logits = self._feed([self.prompt])
        stats.prefill_s = time.perf_counter() - start
        if options.num_samples > 1:
            engine.fork(options.num_samples)
            logits = np.repeat(logits, options.num_samples, axis=0)
        reason, tokens = "length", list[int]()
        for step in range(options.n):
            if engine.length + (step > 0) >= engine.n_ctx:  # a token chosen now must fit too
                reason = "context"
                break
            before = time.perf_counter()
            if step > 0:
                logits = self._feed([[token] for token in tokens])
            tokens = [self._next(i, row) for i, row in enumerate(logits)]
            if step > 0:
                stats.decode_s += time.perf_counter() - before
            else:
                stats.ttft_s = time.perf_counter() - start
            yield from self._pieces(tokens)
            if all(sample.finish_reason for sample in self.samples):
                break
        self._finish_where(reason)
        yield from self._held_back()

    def interrupt(self) -> list[Piece]:
        """Mark what is not finished as interrupted; returns the text that was held back."""
        self._finish_where("interrupted")
        return list(self._held_back())

    @property
    def unfed(self) -> list[int]:
        """What of the prompt and the first sample's tokens the engine does not hold yet."""
        return (self.prompt + self.samples[0].token_ids)[self.engine.length - self._start :]

    def _feed(self, ids: list[list[int]]) -> NDArray[np.float32]:
        with self._counting():
            logits = self.engine.feed(ids)
        self.stats.steps += 1
        self._check_finite(logits)
        return logits

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Adds the kernel's calls and seconds to the statistics."""
        engine, stats = self.engine, self.stats
        calls, seconds = engine.calls, engine.attention_seconds
        yield
        stats.kernel_calls += engine.calls - calls
        stats.attention_s += engine.attention_seconds - seconds

    def _check_finite(self, logits: NDArray[np.float32]) -> None:
        n_bad = int((~np.isfinite(logits)).sum())
        if n_bad:
            raise NotFinite(
                f"{n_bad} of {logits.size} logits behind token {self.engine.length} are NaN or "
                f"infinite. The kernel '{self.stats.kernel}' is wrong, or the weights are: see "
                "what `-a reference` gives."
            )

    @property
    def _known(self) -> int:
        """Ids below it can be chosen: models pad their vocabulary, and padding has no text."""
        return self.tokenizer.n_vocab if self.tokenizer else self.engine.config.vocab_size

    @property
    def _eos(self) -> int | None:
        """The id that ends a text, if one does."""
        return self.tokenizer.eos if self.tokenizer and not self.options.ignore_eos else None

    def _take(self, sample: Sample, token: int) -> None:
        sample.token_ids.append(token)
        self.stats.generated_tokens += 1
        self.stats.decoded_tokens += len(sample.token_ids) > 1

    def _decode(self, engine: Decoder) -> Iterator[Piece]:
        """Everything, by an engine that chooses tokens itself: the first, then several a call."""
        sample, stats = self.samples[0], self.stats
        known, eos = self._known, self._eos
        ids = self.prompt
        while not sample.finish_reason:
            n_chosen, held = len(sample.token_ids), self.engine.length
            room = self.engine.n_ctx - held - len(ids)  # the next token must fit too
            n = min(self.options.n - n_chosen, room)
            if n <= 0:
                self._finish_where("length" if n_chosen >= self.options.n else "context")
                return
            if n_chosen == 0:  # alone: the prefill is timed
                n = 1
            before = time.perf_counter()
            with self._counting():
                chosen = engine.decode(ids, n, self.sampling, known, n_chosen, eos)
            seconds = time.perf_counter() - before
            if not chosen:  # the same step again finds out why
                self.engine.rewind(held)
                self._feed([ids])
                self.engine.rewind(held)
                continue
            if n_chosen:
                stats.decode_s += seconds
            else:
                stats.prefill_s = stats.ttft_s = seconds
            stats.steps += len(chosen)
            for i, token in enumerate(chosen):
                self._take(sample, token)
                yield from self._pieces([token])
                if sample.finish_reason:  # what was chosen behind it never happened
                    self.engine.rewind(held + len(ids) + i)
                    break
            ids = sample.token_ids[-1:]

    def _check_prompt(self) -> None:
        engine, vocab_size = self.engine, self.engine.config.vocab_size
        if not self.prompt:
            raise InputError("the prompt is empty. Give at least one token.")
        if self.options.stop and self.tokenizer is None:
            raise InputError("stop texts need a tokenizer, and this model has none.")
        outside = [i for i in self.prompt if not 0 <= i < vocab_size]
        if outside:
            raise InputError(f"the prompt has id {outside[0]}; ids go from 0 to {vocab_size - 1}.")
        if engine.length + len(self.prompt) > engine.n_ctx:
            held = f" behind {engine.length} held" if engine.length else ""
            raise InputError(
                f"the prompt has {len(self.prompt)} tokens{held}, and n_ctx is {engine.n_ctx}. "
                "Shorten it, or choose a model with a longer context."
            )

    def _next(self, i: int, logits: NDArray[np.float32]) -> int:
        """Choose sample i's next token, and note it unless the sample is finished."""
        sample = self.samples[i]
        u = self._sampler.uniform(i, len(sample.token_ids))
        token = self._sampler.choose(logits[: self._known], self.engine.ids[i], u)
        if sample.finish_reason:
            return token
        self._take(sample, token)
        if self.options.logprobs is not None:
            sample.logprobs.append(_top_logprobs(logits, self._known, token, self.options.logprobs))
        return token

    def _pieces(self, tokens: list[int]) -> Iterator[Piece]:
        """What the tokens of a step add to the texts of the unfinished samples."""
        eos = self._eos
        for i, (sample, stream) in enumerate(zip(self.samples, self._streams, strict=True)):
            if sample.finish_reason:
                continue
            text = ""
            if tokens[i] == eos:
                sample.finish_reason = "eos"
            elif stream is not None:
                text = stream.push(tokens[i])
                if stream.stopped:
                    sample.finish_reason = "stop"
            sample.text += text
            yield Piece(i, tokens[i], text)

    def _finish_where(self, reason: str | None) -> None:
        for sample in self.samples:
            sample.finish_reason = sample.finish_reason or reason

    def _held_back(self) -> Iterator[Piece]:
        for i, (sample, stream) in enumerate(zip(self.samples, self._streams, strict=True)):
            text = stream.finish() if stream is not None else ""
            if text:
                sample.text += text
                yield Piece(i, None, text)


def _top_logprobs(logits: NDArray[np.float32], known: int, token: int, k: int) -> TokenLogprobs:
    """Of the model's whole vocabulary; those of its padding are not told."""
    logp = log_probabilities(logits)
    top = np.argsort(-logp[:known], kind="stable")[:k]
    return TokenLogprobs(token, float(logp[token]), [(int(i), float(logp[i])) for i in top])

"""From token ids to more of them: prefill, decode, stop, and what it cost.

`TorchEngine` runs the model a step at a time and holds the sequences; `Generation` is the loop over
steps, the same for any engine with `feed`, `fork` and the counters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from .cache import KVCache
from .dispatch import Attention
from .errors import InputError, NotFinite
from .model import GPT
from .sampling import Sampling, log_probabilities
from .tokenizer import TextStream, Tokenizer

KV_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class TorchEngine:
    """The model in torch with a KV cache, or recomputing everything at every step without one.

    Holds one sequence, or several after `fork`; `ids` are those that were fed so far.
    """

    name = "torch"

    def __init__(
        self,
        model: GPT,
        attention: Attention,
        *,
        n_ctx: int | None = None,
        kv_cache: bool = True,
        kv_dtype: str = "float32",
    ) -> None:
        """n_ctx: a context shorter than the model's; None: the model's. kv_dtype: of KV_DTYPES.

        Raises:
            InputError: n_ctx is out of range, or kv_dtype is unknown.
        """
        self.model, self.attention, self.kv_cache = model, attention, kv_cache
        if kv_dtype not in KV_DTYPES:
            raise InputError(f"kv_dtype is {kv_dtype!r}, and must be one of {list(KV_DTYPES)}.")
        self._kv_dtype = KV_DTYPES[kv_dtype]
        longest = model.config.n_ctx
        self.n_ctx = longest if n_ctx is None else n_ctx
        if not 1 <= self.n_ctx <= longest:
            raise InputError(f"n_ctx is {n_ctx}, and this model allows 1 to {longest}.")
        self.ids: list[list[int]] = [[]]
        self._cache = self._empty_cache()

    @property
    def length(self) -> int:
        """Tokens fed, the same for every sequence."""
        return len(self.ids[0])

    @torch.inference_mode()
    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One step: append (batch, n) ids to the sequences.

        Returns:
            The logits behind the last one, (batch, vocab_size).
        """
        grown = [old + list(new) for old, new in zip(self.ids, ids, strict=True)]
        inputs = torch.tensor(ids if self.kv_cache else grown)
        logits = self.model(inputs, self.attention, cache=self._cache, last_only=True)
        self.ids = grown  # only now: an interrupted step leaves no trace
        last: NDArray[np.float32] = logits[:, -1].numpy()
        return last

    def fork(self, n: int) -> None:
        """Go on with n copies of the only sequence."""
        self.ids = [list(self.ids[0]) for _ in range(n)]
        if self._cache is not None:
            self._cache = self._cache.repeat(n)

    def rewind(self, length: int) -> None:
        """Forget what was fed behind the first `length` tokens."""
        self.ids = [ids[:length] for ids in self.ids]
        if self._cache is not None:
            self._cache.length = min(self._cache.length, length)

    def clear(self) -> None:
        """Forget the sequences; one empty one remains."""
        self.ids = [[]]
        self._cache = self._empty_cache()

    def _empty_cache(self) -> KVCache | None:
        c = self.model.config
        if not self.kv_cache:
            return None
        return KVCache(c.n_layer, 1, c.n_head, self.n_ctx, c.head_dim, self._kv_dtype)


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
    kernel: str
    isa: str
    n_layer: int
    n_threads: int
    prompt_tokens: int
    load_s: float = 0.0
    prefill_s: float = 0.0
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
        engine: TorchEngine,
        prompt: Sequence[int],
        *,
        tokenizer: Tokenizer | None = None,
        sampling: Sampling | None = None,
        options: Options | None = None,
    ) -> None:
        """Continue what the engine holds by the prompt's ids, then by generated ones.

        Raises:
            InputError: the prompt is empty, has an id outside the vocabulary, or does not fit.
        """
        self.engine, self.prompt, self.tokenizer = engine, list(prompt), tokenizer
        self.sampling, self.options = sampling or Sampling(), options or Options()
        self._check_prompt()
        self._start, self._ran = engine.length, False
        self.samples = [Sample() for _ in range(self.options.num_samples)]
        self._streams = [
            TextStream(tokenizer, self.options.stop) if tokenizer else None for _ in self.samples
        ]
        self.stats = Stats(
            engine=engine.name,
            kernel=engine.attention.kernel.name,
            isa=engine.attention.kernel.isa,
            n_layer=engine.model.config.n_layer,
            n_threads=engine.attention.n_threads,
            prompt_tokens=len(self.prompt),
        )

    def __iter__(self) -> Iterator[Piece]:
        if self._ran:
            raise InputError("this generation has run already: make another.")
        self._ran = True
        options, engine, stats = self.options, self.engine, self.stats
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
        attention, stats = self.engine.attention, self.stats
        calls, seconds = attention.calls, attention.seconds
        logits = self.engine.feed(ids)
        stats.kernel_calls += attention.calls - calls
        stats.attention_s += attention.seconds - seconds
        stats.steps += 1
        n_bad = int((~np.isfinite(logits)).sum())
        if n_bad:
            raise NotFinite(
                f"{n_bad} of {logits.size} logits behind token {self.engine.length} are NaN or "
                f"infinite. The kernel '{stats.kernel}' is wrong, or the weights are: see what "
                "`-a reference` gives."
            )
        return logits

    def _check_prompt(self) -> None:
        engine, vocab_size = self.engine, self.engine.model.config.vocab_size
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
        known = self.tokenizer.n_vocab if self.tokenizer else len(logits)
        # Models pad their vocabulary; what has no text is never chosen.
        token = self.sampling.choose(logits[:known], self.engine.ids[i], i, len(sample.token_ids))
        if sample.finish_reason:
            return token
        sample.token_ids.append(token)
        self.stats.generated_tokens += 1
        self.stats.decoded_tokens += len(sample.token_ids) > 1
        if self.options.logprobs is not None:
            sample.logprobs.append(_top_logprobs(logits, token, self.options.logprobs))
        return token

    def _pieces(self, tokens: list[int]) -> Iterator[Piece]:
        """What the tokens of a step add to the texts of the unfinished samples."""
        eos = self.tokenizer.eos if self.tokenizer and not self.options.ignore_eos else None
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


def _top_logprobs(logits: NDArray[np.float32], token: int, k: int) -> TokenLogprobs:
    logp = log_probabilities(logits)
    top = np.argsort(-logp, kind="stable")[:k]
    return TokenLogprobs(token, float(logp[token]), [(int(i), float(logp[i])) for i in top])

"""From token ids to more of them: prefill, decode, stop, and what it cost.

`Generation` is the loop over an engine's steps, the same for any of them (see protocol.py), for one
prompt or many, one sample of each or several.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFinite
from ..kernels.registry import DEFAULT, resolve
from ..model.tokenizer import Tokenizer
from ..system.child import running
from .protocol import Burst, Decoder, Engine
from .sampling import Sampler, Sampling, log_probabilities
from .texts import Options, Piece, Prompt, Sample, Stats, TokenLogprobs
from .track import Track

PREFILL_TOKENS = 1024  # of several prompts in a step: products are as fast as they get


class Generation:
    """Iterate over it to generate; `samples` and `stats` grow meanwhile.

    Of several prompts, `Options.batch` texts grow at once. One that has ended makes room for the
    next; what it is does not depend on the others. The samples of prompt i begin at
    i * num_samples. The engine is left holding everything but the last token of each that ended
    last.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int] | Sequence[Prompt],
        *,
        tokenizer: Tokenizer | None = None,
        sampling: Sampling | None = None,
        options: Options | None = None,
    ) -> None:
        """Continue what the engine holds by the prompt's ids, then by generated ones.

        Several prompts, whose texts are given as ids here, begin anew.

        Raises:
            InputError: a prompt is empty, has an id outside the vocabulary, or does not fit; or
                what one asks for means nothing.
        """
        self.engine, self.tokenizer = engine, tokenizer
        self.sampling, self.options = sampling or Sampling(), options or Options()
        prompts = [one for one in prompt if isinstance(one, Prompt)]
        self._several, self._start = bool(prompts), 0 if prompts else engine.length
        if not prompts:
            prompts = [Prompt([token for token in prompt if not isinstance(token, Prompt)])]
        if self._several and self.options.num_samples > self.options.batch:
            raise InputError(
                f"num_samples is {self.options.num_samples}, and batch {self.options.batch}: the "
                "samples of a prompt grow together. Ask for a larger batch."
            )
        groups = [self._tracks_of(one, i) for i, one in enumerate(prompts)]
        self.prompts = [tracks[0].prompt for tracks in groups]
        self._tracks = [track for tracks in groups for track in tracks]
        self.samples: list[Sample] = [track.sample for track in self._tracks]
        self._waiting, self._ran = deque(groups), False
        self._active: list[Track] = []  # one for each sequence of the engine
        told = self.options.logprobs is not None  # which needs the logits
        self._decoder = engine if isinstance(engine, Decoder) and not told else None
        self.stats = Stats(
            engine=engine.name,
            dtype=engine.dtype,
            kv_dtype=engine.kv_dtype,
            kernel=engine.kernel.name,
            isa=engine.kernel.isa,
            n_layer=engine.config.n_layer,
            n_threads=engine.n_threads,
        )
        if engine.decode_kernel is not engine.kernel:
            self.stats.decode_kernel = engine.decode_kernel.name
            self.stats.decode_isa = engine.decode_kernel.isa

    @property
    def prompt(self) -> list[int]:
        """The first one's ids."""
        return self.prompts[0]

    def __iter__(self) -> Iterator[Piece]:
        if self._ran:
            raise InputError("this generation has run already: make another.")
        self._ran = True
        if not self._decoder:
            Sampler(self.sampling)  # compiled, if need be, where nothing is timed
        while self._waiting or self._active:
            newcomers = self._newcomers()
            yield from self._prefill(newcomers) if newcomers else self._decode()
            self._let_go()

    def interrupt(self) -> list[Piece]:
        """Mark what is not finished as interrupted; returns the text that was held back."""
        if len(self._active) == len(self.engine.ids):  # what was not seen never happened
            self.engine.rewind([track.n_fed for track in self._active])
        unfinished = [track for track in self._tracks if not track.finished]
        for track in unfinished:
            track.end("interrupted")
        return [piece for track in unfinished for piece in track.held_back()]

    @property
    def unfed(self) -> list[int]:
        """What of the prompt and the first sample's tokens the engine does not hold yet."""
        return (self.prompt + self.samples[0].token_ids)[self.engine.length - self._start :]

    def _tracks_of(self, prompt: Prompt, i: int) -> list[Track]:
        """The samples of prompt i."""
        assert not isinstance(prompt.prompt, str)
        name, ids, n_samples = prompt.name, list(prompt.prompt), self.options.num_samples
        engine, vocab_size = self.engine, self.engine.config.vocab_size
        options, sampling = self._settings(prompt)
        if not ids:
            raise InputError(f"{name} is empty. Give at least one token.")
        outside = [token for token in ids if not 0 <= token < vocab_size]
        if outside:
            raise InputError(f"{name} has id {outside[0]}; ids go from 0 to {vocab_size - 1}.")
        if self._start + len(ids) > engine.n_ctx:
            held = f" behind {self._start} held" if self._start else ""
            raise InputError(
                f"{name} has {len(ids)} tokens{held}, and n_ctx is {engine.n_ctx}. "
                "Shorten it, or choose a model with a longer context."
            )
        return [
            Track(
                ids,
                name=name,
                number=i * n_samples + sample,
                start=self._start,
                n_ctx=engine.n_ctx,
                options=options,
                sampling=sampling,
                tokenizer=self.tokenizer,
            )
            for sample in range(n_samples)
        ]

    def _settings(self, prompt: Prompt) -> tuple[Options, Sampling]:
        """Those of all, but for what this prompt asks for itself."""
        options, sampling = self.options, self.sampling
        try:
            if prompt.n is not None:
                options = replace(options, n=prompt.n)
            if prompt.stop is not None:
                stop = (prompt.stop,) if isinstance(prompt.stop, str) else tuple(prompt.stop)
                options = replace(options, stop=stop)
            if prompt.seed is not None:
                sampling = replace(sampling, seed=prompt.seed)
            if options.stop and self.tokenizer is None:
                raise InputError("stop texts need a tokenizer, and this model has none.")
        except InputError as e:
            raise InputError(f"{prompt.name}: {e}" if self._several else str(e)) from e
        return options, sampling

    def _newcomers(self) -> list[list[Track]]:
        """The samples of the prompts for which there is room now."""
        n_samples, newcomers, n_tokens = self.options.num_samples, list[list[Track]](), 0
        room = max(self.options.batch, n_samples) - len(self._active)
        while self._waiting and (len(newcomers) + 1) * n_samples <= room:
            n_tokens += len(self._waiting[0][0].prompt)
            if newcomers and n_tokens > PREFILL_TOKENS:
                break
            newcomers.append(self._waiting.popleft())
        return newcomers

    def _prefill(self, newcomers: list[list[Track]]) -> Iterator[Piece]:
        """Their prompts in one step, while the others wait, and the first token of each sample."""
        engine, stats, staying = self.engine, self.stats, range(len(self._active))
        prompts = [tracks[0].prompt for tracks in newcomers]
        if self._several:
            engine.arrange([*staying, *(None for _ in prompts)])
        draws = [
            (sequence, track)
            for sequence, tracks in enumerate(newcomers, len(staying))
            for track in tracks
        ]
        wanted = [(sequence, track) for sequence, track in draws if track.left > 0]
        began = stats.busy_s
        with self._counting(decoding=False):
            chosen = self._choose([*([] for _ in staying), *prompts], wanted)
        stats.prompts += len(prompts)
        stats.prompt_tokens += sum(map(len, prompts))
        if wanted and stats.ttft_s is None:
            stats.ttft_s = stats.prefill_s
        if self.options.num_samples > 1:
            engine.arrange([*staying, *(sequence for sequence, _ in draws)])
        for _, track in draws:
            track.began = began
            track.end_where_full()  # without a token, if none is asked for
        self._active += [track for _, track in draws]
        for tokens in chosen:
            for (_, track), token in zip(wanted, tokens, strict=True):
                yield from self._take(track, token)

    def _decode(self) -> Iterator[Piece]:
        """The next token of each text, or several."""
        tracks = self._active
        n = min(track.left for track in tracks) if self._decoder else 1
        ids = [track.sample.token_ids[-1:] for track in tracks]
        with self._counting(decoding=True):
            chosen = self._choose(ids, list(enumerate(tracks)), n)
        for tokens in chosen:
            for track, token in zip(tracks, tokens, strict=True):
                if not track.finished:  # what was chosen behind its end never happened
                    yield from self._take(track, token)
            if all(track.finished for track in tracks):
                break

    def _let_go(self) -> None:
        """Texts that have ended leave the engine; the last ones stay in it as they ended."""
        staying = [i for i, track in enumerate(self._active) if not track.finished]
        if not staying:
            self.engine.rewind([track.n_fed for track in self._active])
            self._active = []
        elif len(staying) < len(self._active):
            self.engine.arrange(staying)
            self._active = [self._active[i] for i in staying]

    def _choose(
        self, ids: Sequence[Sequence[int]], draws: list[tuple[int, Track]], n: int = 1
    ) -> list[list[int]]:
        """Feed ids, then choose up to n tokens for each draw: behind which sequence, for whom."""
        engine = self.engine
        if self._decoder and draws:
            held = [len(ids) for ids in engine.ids]
            wanted = [track.draw(sequence) for sequence, track in draws]
            burst = Burst(ids, n, self.sampling, self._known, wanted, self._eos)
            chosen = self._decoder.decode(burst)
            self.stats.steps += len(chosen)
            if chosen:
                return chosen
            engine.rewind(held)  # the same step again finds out why
        logits = engine.feed(ids)
        self.stats.steps += 1
        fed = [sequence for sequence, new in enumerate(ids) if new]
        self._check_finite(logits, fed, {sequence: track.name for sequence, track in draws})
        return [[self._next(track, logits[fed.index(i)], engine.ids[i]) for i, track in draws]]

    @contextmanager
    def _counting(self, *, decoding: bool) -> Iterator[None]:
        """Adds seconds, and the kernel's calls and seconds, to the statistics."""
        engine, stats = self.engine, self.stats
        kernel = engine.decode_kernel if decoding else engine.kernel
        which = int(decoding) if engine.decode_kernel is not engine.kernel else None
        calls, seconds, before = engine.calls, engine.attention_seconds, time.perf_counter()
        with engine.using(kernel), running(which):
            yield
        took = time.perf_counter() - before
        calls, seconds = engine.calls - calls, engine.attention_seconds - seconds
        stats.kernel_calls += calls
        stats.attention_s += seconds
        if decoding:
            stats.decode_kernel_calls += calls
            stats.decode_attention_s += seconds
            stats.decode_s += took
        else:
            stats.prefill_s += took

    def _check_finite(
        self, logits: NDArray[np.float32], fed: list[int], names: dict[int, str]
    ) -> None:
        """Raise NotFinite for logits, (fed,) sequences by their numbers, that are no numbers."""
        finite = np.isfinite(logits)
        if finite.all():
            return
        row = int((~finite).any(1).argmax())
        n_bad, ids = int((~finite[row]).sum()), list(self.engine.ids[fed[row]])
        where = f" of the text of {names[fed[row]]}" if self._several and names else ""
        raise NotFinite(
            f"{n_bad} of {logits[row].size} logits behind token {len(ids)}{where} are NaN or "
            f"infinite. {self._who_is_wrong(ids)}"
        )

    def _who_is_wrong(self, ids: list[int]) -> str:
        """What the same tokens give through a kernel that is right, in a sentence or two."""
        kernel = self.engine.kernel.name
        if kernel == DEFAULT:  # it proves nothing of itself
            return (
                f"Weights are NaN, infinite or very large, or the kernel '{kernel}' is wrong: see "
                "what --engine torch -a reference gives."
            )
        self.engine.clear()
        with self.engine.using(resolve(DEFAULT)):
            finite = bool(np.isfinite(self.engine.feed([ids])).all())
        if finite:
            return (
                f"The kernel '{kernel}' is wrong: through '{DEFAULT}' the same {len(ids)} tokens "
                "give finite ones."
            )
        return (
            f"It is not the kernel '{kernel}': through '{DEFAULT}' it is the same. Weights are NaN "
            "or infinite, or so large that activations pass what this engine holds (1e19 for "
            "the native one): see what --engine torch gives."
        )

    @property
    def _known(self) -> int:
        """Ids below it can be chosen: models pad their vocabulary, and padding has no text."""
        return self.tokenizer.n_vocab if self.tokenizer else self.engine.config.vocab_size

    @property
    def _eos(self) -> int | None:
        """The one id of those that end a text that an engine watches for in a burst."""
        return self.tokenizer.eos if self.tokenizer and not self.options.ignore_eos else None

    def _next(self, track: Track, logits: NDArray[np.float32], seen: Sequence[int]) -> int:
        """Choose a text's next token, and note its log-probabilities if they are wanted."""
        sample, k = track.sample, self.options.logprobs
        draw = track.draw(0)
        token = track.sampler.choose(
            logits[: self._known], seen, sample=draw.sample, step=draw.step
        )
        if k is not None:
            sample.logprobs.append(_top_logprobs(logits, self._known, token, k))
        return token

    def _take(self, track: Track, token: int) -> list[Piece]:
        self.stats.generated_tokens += 1
        self.stats.decoded_tokens += len(track.sample.token_ids) > 0
        track.sample.seconds = self.stats.busy_s - track.began
        return track.take(token)


def _top_logprobs(logits: NDArray[np.float32], known: int, token: int, k: int) -> TokenLogprobs:
    """Of the model's whole vocabulary; those of its padding are not told."""
    logp = log_probabilities(logits)
    top = np.argsort(-logp[:known], kind="stable")[:k]
    return TokenLogprobs(token, float(logp[token]), [(int(i), float(logp[i])) for i in top])

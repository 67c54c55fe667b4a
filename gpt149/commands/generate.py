"""`gpt149 generate`: a prompt becomes text on stdout, and one line of statistics on stderr."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Gpt149Error, InputError
from . import several
from .figures import as_json, statistics_line
from .prompts import read as read_prompts
from .text import argument, load, read_utf8, utf8

if TYPE_CHECKING:
    from ..engine.generation import Generation
    from ..engine.protocol import Engine
    from ..engine.texts import Piece, Prompt, Sample

ADAPTED_NOTE = (
    "A kernel that does not know n_q < n_kv, or the mask, is called with more rows, or once a "
    "query: a decode step of t tokens may cost O(t^2) in each layer, a prefill of T O(T^3)."
)


@dataclass(frozen=True)
class Request:
    """The options of the command, as `gpt149 generate --help` lists them."""

    prompt: str | None
    file: Path | None
    interactive: bool
    prompts: Path | None
    prompt_ids: str | None
    prompt_tokens: int | None
    special: bool
    attention: str
    decode_attention: str | None
    br: int
    bc: int
    model: str
    meta: Path | None
    n: int
    n_ctx: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...]
    num_samples: int
    batch: int | None
    ignore_eos: bool
    logprobs: int | None
    threads: int | None
    no_kv_cache: bool
    kv_dtype: str
    engine: str
    dtype: str
    no_echo: bool
    as_json: bool


def run(request: Request) -> int:
    """Do it; returns the exit status: 0, or 130 after Ctrl-C.

    Raises:
        Gpt149Error: see `errors`.
    """
    start = time.perf_counter()
    text = _prompt_text(request)
    prompts = [] if request.prompts is None else read_prompts(request.prompts)
    behind_ids = (
        request.prompt_ids is not None
        or request.prompt_tokens is not None
        or any(not isinstance(prompt.prompt, str) for prompt in prompts)
    )
    with _interrupt_ends_quietly():
        session = Session(request, behind_ids=behind_ids)
    session.load_s = time.perf_counter() - start
    if prompts:
        return several.run(session, prompts)
    if request.interactive:
        return session.converse()
    prompt = session.encode(text)
    generation = session.generation(prompt)
    if request.as_json:
        status = session.drain(generation)
        report = as_json(generation, text) | {"model": request.model}
        click.echo(json.dumps(report, ensure_ascii=False))
        return status
    return session.stream(generation, "" if request.no_echo else text or "")


@contextmanager
def _interrupt_ends_quietly() -> Iterator[None]:
    """Ctrl-C while torch is imported would leave it half-loaded, and say so at length."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Session:
    """The loaded model with the request's settings."""

    def __init__(self, request: Request, *, behind_ids: bool) -> None:
        """behind_ids: the prompt is token ids, not text."""
        from ..engine.sampling import Sampling
        from ..engine.start import prepare, start
        from ..engine.texts import Options

        r = self.request = request
        self.load_s = 0.0
        self.sampling = Sampling(
            r.temperature, r.top_k, r.top_p, r.min_p, r.repetition_penalty, r.seed
        )
        batch = {} if r.batch is None else {"batch": r.batch}
        self.options = Options(r.n, r.stop, r.num_samples, r.ignore_eos, r.logprobs, **batch)
        # What is wrong with the kernel comes before the weights.
        specs = [r.attention, *([] if r.decode_attention is None else [r.decode_attention])]
        kernel, *others = prepare(
            *specs, engine=r.engine, dtype=r.dtype, kv_cache=not r.no_kv_cache
        )
        loaded = self.checkpoint = load(r.model, r.meta)
        self.tokenizer = loaded.tokenizer
        self.behind_ids = behind_ids
        if loaded.unusable and behind_ids:
            _say(f"Note: token ids are shown instead of text, since {loaded.unusable}")
        self.engine: Engine = start(
            loaded,
            kernel,
            decode_kernel=others[0] if others else None,
            engine=r.engine,
            n_threads=r.threads,
            n_ctx=r.n_ctx,
            br=r.br,
            bc=r.bc,
            dtype=r.dtype,
            kv_cache=not r.no_kv_cache,
            kv_dtype=r.kv_dtype,
        )

    def encode(self, text: str | None) -> list[int]:
        """The prompt's ids: of the text, as given, or drawn."""
        r = self.request
        vocab_size = self.engine.config.vocab_size
        if r.prompt_tokens is not None:
            if not 1 <= r.prompt_tokens <= self.engine.n_ctx:
                raise InputError(
                    f"--prompt-tokens is {r.prompt_tokens}, and must be from 1 to n_ctx, "
                    f"{self.engine.n_ctx}."
                )
            draw = random.Random(r.seed)
            return [draw.randrange(vocab_size) for _ in range(r.prompt_tokens)]
        if r.prompt_ids is not None:
            try:
                return [int(word) for word in r.prompt_ids.replace(",", " ").split()]
            except ValueError as e:
                raise InputError(f"--prompt-ids must be whole numbers: {e}.") from e
        tokenizer = self.tokenizer or self.checkpoint.need_tokenizer()
        return tokenizer.encode_prompt(text or "", special=r.special)

    def generation(self, prompt: list[int] | list[Prompt]) -> Generation:
        from ..engine.generation import Generation

        r = self.request
        if r.stop and self.tokenizer is None:
            raise InputError("stop texts need a tokenizer, and this model has none.")
        generation = Generation(
            self.engine,
            prompt,
            tokenizer=self.checkpoint.reader(behind_ids=self.behind_ids, ignore_eos=r.ignore_eos),
            sampling=self.sampling,
            options=self.options,
        )
        generation.stats.load_s = self.load_s
        return generation

    def drain(self, generation: Generation) -> int:
        try:
            for _ in generation:
                pass
        except KeyboardInterrupt:
            generation.interrupt()
            return 130
        return 0

    def stream(self, generation: Generation, echo: str) -> int:
        """Print the texts as they come (several samples one after the other), then the rest."""
        status = 0
        shown = [""] * len(generation.samples)  # what stdout holds of each sample
        alone = len(shown) == 1
        if alone:
            _write(echo)
        try:
            for piece in generation:
                text = self._text(piece)
                shown[piece.sample] += text
                if alone:
                    _write(text)
        except Gpt149Error:
            if echo + shown[0]:
                _write("\n")  # the message starts on a line of its own
            raise
        except KeyboardInterrupt:
            status = 130
            for piece in generation.interrupt():
                shown[piece.sample] += piece.text
                if alone:
                    _write(piece.text)
        for i, text in enumerate(shown):
            if not alone:
                _say(f"--- sample {i + 1} of {len(shown)}")
                _write(echo + text)
            if not (echo + text).endswith("\n"):
                _write("\n")
        for sample in generation.samples:
            self.say_logprobs(sample)
        self.say_end(generation)
        return status

    def converse(self) -> int:
        """Read prompts line by line; each continues the context of what came before."""
        self.checkpoint.need_tokenizer()
        _say("Each line continues the text. /reset starts anew, Ctrl-D ends.")
        unfed = list[int]()
        for line in _lines():
            text = line.decode("utf-8", errors="replace")
            if text.strip() == "/reset":
                self.engine.clear()
                unfed = []
                continue
            try:
                generation = self.generation(unfed + self.encode(utf8(line, "stdin")))
                # Each turn has random numbers of its own.
                self.sampling = replace(self.sampling, seed=(self.sampling.seed + 1) % 2**64)
            except Gpt149Error as e:
                _say(f"{e} /reset starts anew.")
                continue
            self.stream(generation, "")
            unfed = generation.unfed
            if self.engine.length + len(unfed) >= self.engine.n_ctx:
                _say("/reset starts anew.")
        return 0

    def _text(self, piece: Piece) -> str:
        """The piece's text; a model without a tokenizer shows ids."""
        return piece.text if self.tokenizer else f"{piece.token_id} "

    def text_of(self, sample: Sample) -> str:
        return sample.text if self.tokenizer else "".join(f"{i} " for i in sample.token_ids)

    def say_logprobs(self, sample: Sample) -> None:
        def name(token: int) -> str:
            return f"{self.tokenizer.decode([token])!r}" if self.tokenizer else str(token)

        for entry in sample.logprobs:
            top = "  ".join(f"{name(i)} {logprob:.3f}" for i, logprob in entry.top)
            _say(f"{name(entry.token_id):>14} {entry.logprob:8.3f}   {top}")

    def say_end(self, generation: Generation) -> None:
        if any(s.finish_reason == "context" for s in generation.samples):
            _say(f"The context is full ({self.engine.n_ctx} tokens): generation stopped.")
        _say(statistics_line(generation.stats))
        if self.engine.kernel.adapted or self.engine.decode_kernel.adapted:
            _say(ADAPTED_NOTE)


def _prompt_text(r: Request) -> str | None:
    """The prompt, from the one place that was named; None where it is not text."""
    given = [
        name
        for name, is_given in (
            ("PROMPT", r.prompt is not None),
            ("-f", r.file is not None),
            ("-i", r.interactive),
            ("--prompts", r.prompts is not None),
            ("--prompt-ids", r.prompt_ids is not None),
            ("--prompt-tokens", r.prompt_tokens is not None),
        )
        if is_given
    ]
    if len(given) != 1:
        found = f"{' and '.join(given)} do not go together" if given else "there is no prompt"
        raise InputError(
            f"{found}. Give one of: PROMPT (- for stdin), -f FILE, -i, --prompts FILE, "
            "--prompt-ids, --prompt-tokens."
        )
    if r.batch is not None and r.prompts is None:
        raise InputError("--batch goes with --prompts alone; samples of one prompt are one batch.")
    if r.interactive and (r.as_json or r.num_samples != 1):
        raise InputError("-i goes with neither --json nor --num-samples.")
    if r.file is not None:
        return read_utf8(r.file)
    if sys.stdin is None and (r.interactive or r.prompt == "-"):
        raise InputError("stdin is closed. Give the prompt as an argument, or -f FILE.")
    if r.prompt == "-":
        return utf8(sys.stdin.buffer.read(), "stdin")
    if r.prompt is not None:
        return argument(r.prompt)
    return None


def _lines() -> Iterator[bytes]:
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        yield line.rstrip(b"\r\n")


def _write(text: str) -> None:
    click.echo(text, nl=False)


def _say(text: str) -> None:
    click.echo(text, err=True)

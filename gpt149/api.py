"""Generation as one call, for Python programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .engine.generation import Generation
from .engine.sampling import Sampling
from .engine.start import start
from .engine.texts import Options, Prompt, encoded
from .errors import InputError
from .kernels.registry import DEFAULT, Kernel
from .model.checkpoint import Checkpoint


def generate(
    checkpoint: Checkpoint,
    prompt: str | Sequence[int] | Sequence[str | Sequence[int] | Prompt],
    *,
    kernel: Kernel | str = DEFAULT,
    decode_kernel: Kernel | str | None = None,
    n: int = 256,
    stop: str | Sequence[str] = (),
    num_samples: int = 1,
    batch: int = 16,
    ignore_eos: bool = False,
    logprobs: int | None = None,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    kv_cache: bool = True,
    kv_dtype: str = "auto",
    engine: str = "auto",
    dtype: str = "float32",
    **sampling: Any,
) -> Generation:
    """Iterate over the result to generate, a `Piece` (sample, token id, text) at a time.

    Args:
        checkpoint: what `load` returned.
        prompt: a text, or token ids; or several of either, or of `Prompt`, each with its own n,
            stop and seed, whose texts are those that each alone would give.
        kernel: a kernel's name, a path, or what `resolve` returned.
        decode_kernel: another for the tokens behind the prompt.
        n: tokens to generate.
        stop: a text, or several, at which to end.
        num_samples: samples of each prompt, generated as a batch.
        batch: of several prompts, how many texts grow at once.
        ignore_eos: go on behind the end-of-text token.
        logprobs: report log-probabilities, and this many of the likeliest tokens.
        n_ctx: a context shorter than the model's.
        n_threads: of the engine and the kernel; None: every processor.
        kv_cache: False recomputes every token at every step.
        kv_dtype: what the cache holds: float32, bf16, which only some kernels read, or auto; see
            `engine.start`.
        engine: auto, native (C++) or torch; see `engine.start`.
        dtype: of the weights: float32, bf16, int8 or int4 (native only).
        **sampling: the fields of `Sampling`: temperature, top_k, top_p, ..., seed.

    Raises:
        Gpt149Error: see `errors`; what the arguments' classes raise.
    """
    asked, behind_ids = _ids(prompt, checkpoint)
    running = start(
        checkpoint,
        kernel,
        decode_kernel=decode_kernel,
        engine=engine,
        n_threads=n_threads,
        n_ctx=n_ctx,
        dtype=dtype,
        kv_cache=kv_cache,
        kv_dtype=kv_dtype,
    )
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    if stop and checkpoint.tokenizer is None:
        raise InputError("stop texts need a tokenizer, and this model has none.")
    tokenizer = checkpoint.reader(behind_ids=behind_ids, ignore_eos=ignore_eos)
    options = Options(n, stop, num_samples, ignore_eos, logprobs, batch)
    return Generation(
        running, asked, tokenizer=tokenizer, sampling=Sampling(**sampling), options=options
    )


def _ids(
    prompt: str | Sequence[int] | Sequence[str | Sequence[int] | Prompt], checkpoint: Checkpoint
) -> tuple[list[int] | list[Prompt], bool]:
    """The token ids of the prompt, or of each of several; and whether it was given as such."""
    if isinstance(prompt, str):
        return checkpoint.need_tokenizer().encode_prompt(prompt), False
    token_ids = [token for token in prompt if isinstance(token, int)]
    if len(token_ids) == len(prompt):
        return token_ids, True
    several = [
        replace(one if isinstance(one, Prompt) else Prompt(one), name=f"prompt {number}")
        for number, one in enumerate(prompt, start=1)
        if not isinstance(one, int)
    ]
    if token_ids:
        raise InputError("prompts are texts or lists of ids, and there are bare ids among them.")
    return encoded(several, checkpoint), not isinstance(several[0].prompt, str)

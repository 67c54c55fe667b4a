"""Generation as one call, for Python programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .engine.generation import Generation
from .engine.sampling import Sampling
from .engine.start import start
from .engine.texts import Options
from .errors import InputError
from .kernels.registry import DEFAULT, Kernel
from .model.checkpoint import Checkpoint


def generate(
    checkpoint: Checkpoint,
    prompt: str | Sequence[int],
    *,
    kernel: Kernel | str = DEFAULT,
    n: int = 256,
    stop: str | Sequence[str] = (),
    num_samples: int = 1,
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
        prompt: a text, or token ids.
        kernel: a kernel's name, a path, or what `resolve` returned.
        n: tokens to generate.
        stop: a text, or several, at which to end.
        num_samples: samples of the one prompt, generated as a batch.
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
    behind_ids = not isinstance(prompt, str)
    if isinstance(prompt, str):
        prompt = checkpoint.need_tokenizer().encode_prompt(prompt)
    running = start(
        checkpoint,
        kernel,
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
    options = Options(n, stop, num_samples, ignore_eos, logprobs)
    return Generation(
        running, prompt, tokenizer=tokenizer, sampling=Sampling(**sampling), options=options
    )

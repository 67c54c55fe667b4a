"""`gpt149 eval`: nats a token and a character, and perplexity, of a model on a text."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError, NotFinite
from ..system.words import in_shell

if TYPE_CHECKING:
    from ..engine.protocol import Engine


def run(
    model: str,
    text_file: Path,
    attention: str,
    start: float,
    n_ctx: int | None,
    threads: int | None,
    engine: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Score the text from the share `start` of its characters on; print the figures.

    Raises:
        Gpt149Error: see `errors`.
    """
    from ..engine.start import prepare
    from ..engine.start import start as start_engine
    from .text import load, read_utf8

    if not 0 <= start < 1:
        raise InputError(f"--from is {start}, and must be from 0 to below 1.")
    (kernel,) = prepare(
        attention, engine=engine, dtype=dtype
    )  # what is wrong with it comes before the text
    text = read_utf8(text_file)
    text = text[int(start * len(text)) :]
    loaded = load(model)
    tokenizer = loaded.need_tokenizer()
    ids = tokenizer.encode(text)
    context = loaded.config.n_ctx if n_ctx is None else n_ctx
    if not 2 <= context <= loaded.config.n_ctx:
        raise InputError(
            f"--context is {context}, and must be from 2 to {loaded.config.n_ctx} here."
        )
    if len(ids) < 2:
        raise InputError(f"the text has {len(ids)} tokens, and scoring takes at least 2.")
    running = start_engine(loaded, kernel, engine=engine, dtype=dtype, n_threads=threads)
    begin = time.perf_counter()
    with click.progressbar(length=len(ids) - 1, label="scoring", file=sys.stderr) as bar:
        nats = _nats(running, ids, context, bar.update)
    seconds = time.perf_counter() - begin
    if not math.isfinite(nats):
        raise NotFinite(
            f"the text's {len(ids)} tokens score {nats} nats through the kernel "
            f"'{running.kernel.name}'. Find out why: gpt149 check {in_shell(attention)}"
        )
    result = {
        "model": model,
        "kernel": running.kernel.name,
        "engine": running.name,
        "dtype": running.dtype,
        "kv_dtype": running.kv_dtype,
        "context": context,
        "tokens": len(ids),
        "characters": len(text),
        "nats_per_token": nats / (len(ids) - 1),
        "nats_per_character": nats / len(text),
        "perplexity": math.exp(nats / (len(ids) - 1)),
        "tok_s": len(ids) / seconds,
    }
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{result['nats_per_character']:.4f} nats a character, {result['nats_per_token']:.4f} nats "
        f"a token, perplexity {result['perplexity']:.2f} ({len(text):,} characters, {len(ids):,} "
        f"tokens, context {result['context']}; {running.name} engine, {running.kernel.name}, "
        f"{running.dtype}, KV cache {running.kv_dtype}, {result['tok_s']:.0f} tok/s)"
    )


def _nats(engine: Engine, ids: list[int], n_ctx: int, on_tokens: Callable[[int], None]) -> float:
    if engine.name == "native":
        from ..engine.evaluate import total_nats_native
        from ..engine.native import NativeEngine

        assert isinstance(engine, NativeEngine)
        return total_nats_native(engine, ids, n_ctx=n_ctx, on_tokens=on_tokens)
    import torch

    from ..engine.evaluate import total_nats
    from ..engine.torch import TorchEngine

    assert isinstance(engine, TorchEngine)
    return total_nats(
        engine.model, torch.tensor(ids), engine.attention, n_ctx=n_ctx, on_tokens=on_tokens
    )

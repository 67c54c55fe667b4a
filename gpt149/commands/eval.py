"""`gpt149 eval`: nats a token and a character, and perplexity, of a model on a text."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import click

from ..errors import InputError


def run(
    model: str, text_file: Path, attention: str, start: float, threads: int | None, as_json: bool
) -> None:
    """Score the text from the share `start` of its characters on; print the figures.

    Raises:
        Gpt149Error: see `errors`.
    """
    import torch

    from .. import checkpoint
    from ..dispatch import Attention
    from ..evaluate import total_nats
    from .text import read_utf8

    if not 0 <= start < 1:
        raise InputError(f"--from is {start}, and must be from 0 to below 1.")
    attend = Attention(attention, n_threads=threads)
    torch.set_num_threads(attend.n_threads)
    text = read_utf8(text_file)
    text = text[int(start * len(text)) :]
    loaded = checkpoint.load(model)
    if loaded.tokenizer is None:
        raise InputError(f"the model '{model}' has no tokenizer, so it cannot read text.")
    ids = torch.tensor(loaded.tokenizer.encode(text))
    if len(ids) < 2:
        raise InputError(f"the text has {len(ids)} tokens, and scoring takes at least 2.")
    begin = time.perf_counter()
    with click.progressbar(length=len(ids) - 1, label="scoring", file=sys.stderr) as bar:
        nats = total_nats(loaded.model, ids, attend, on_tokens=bar.update)
    seconds = time.perf_counter() - begin
    result = {
        "model": model,
        "kernel": attend.kernel.name,
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
        f"tokens; {attend.kernel.name}, {result['tok_s']:.0f} tok/s)"
    )

"""`gpt149 diff X Y`: the same prompt through two kernels in the real model."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np

from ..errors import InputError


def run(
    names: tuple[str, str], prompt: str, model: str, n: int, threads: int | None, as_json: bool
) -> int:
    """Print each kernel's error a layer and head, and where text departs; 1 if it does, else 0.

    Raises:
        Gpt149Error: see `errors`.
    """
    import torch
    from torch import Tensor

    from ..engine.probe import Spy
    from ..kernels.dispatch import Attention
    from .text import argument, load

    kernels = [Attention(name, n_threads=threads) for name in names]
    reference = Attention("reference")
    torch.set_num_threads(kernels[0].n_threads)
    loaded = load(model)
    tokenizer = loaded.need_tokenizer()
    ids = tokenizer.encode(argument(prompt))
    n_ctx = loaded.config.n_ctx
    if not 1 <= n < n_ctx:
        raise InputError(f"-n is {n}, and must be from 1 to {n_ctx - 1} for this model.")
    if not 1 <= len(ids) <= n_ctx - n:
        raise InputError(
            f"the prompt has {len(ids)} tokens, and must have 1 to {n_ctx - n}: with {n} that are "
            f"generated it must fit into {n_ctx}."
        )
    layers: list[list[list[float]]] = []  # [layer][kernel][head]

    def compare(_layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        want = reference(q, k, v, causal=True, scale=scale)
        size = want.abs().amax((0, 2, 3))
        outs = [attend(q, k, v, causal=True, scale=scale) for attend in kernels]
        layers.append([((out - want).abs().amax((0, 2, 3)) / size).tolist() for out in outs])

    with torch.inference_mode():
        prompt_ids = torch.tensor([ids])
        loaded.model(prompt_ids, Spy(reference, compare))
        logits = [loaded.model(prompt_ids, attend)[0, -1].double() for attend in kernels]
    logp = [one.log_softmax(-1) for one in logits]
    kl = float((logp[0].exp() * (logp[0] - logp[1])).sum())
    texts = [_greedy(loaded, ids, attend, n) for attend in kernels]
    departs = next((i for i, (a, b) in enumerate(zip(*texts, strict=True)) if a != b), None)
    if as_json:
        result: dict[str, Any] = {
            "kernels": names,
            "relative_error": layers,
            "kl_nats": kl,
            "first_differing_token": departs,
            "token_ids": texts,
        }
        click.echo(json.dumps(result))
    else:
        _print(names, layers, kl, departs, texts, loaded)
    return 0 if departs is None else 1


def _greedy(loaded: Any, ids: list[int], attend: Any, n: int) -> list[int]:
    from ..engine.generation import Generation
    from ..engine.sampling import Sampling
    from ..engine.texts import Options
    from ..engine.torch import TorchEngine
    from ..errors import NotFinite

    engine = TorchEngine(loaded.model, attend)
    options = Options(n=n, ignore_eos=True)
    generation = Generation(engine, ids, sampling=Sampling(temperature=0), options=options)
    try:
        for _ in generation:
            pass
    except NotFinite:
        pass
    tokens = generation.samples[0].token_ids
    return tokens + [-1] * (n - len(tokens))  # -1: the kernel's NaN ended the text


def _print(
    names: tuple[str, str],
    layers: list[list[list[float]]],
    kl: float,
    departs: int | None,
    texts: list[list[int]],
    loaded: Any,
) -> None:
    click.echo("Largest error relative to the reference's largest value, on the same inputs:")
    click.echo(f"{'layer':>5}  {names[0]:>14}  {names[1]:>14}  worst head of each")
    for i, errors in enumerate(layers):
        worst = [int(np.argmax(e)) for e in errors]  # a NaN before all others
        cells = "  ".join(f"{e[h]:>14.1e}" for e, h in zip(errors, worst, strict=True))
        click.echo(f"{i:>5}  {cells}  {worst[0]}, {worst[1]}")
    click.echo(f"KL divergence of the next token's distribution: {kl:.2e} nats")
    if departs is None:
        click.echo(f"Greedy text is the same for {len(texts[0])} tokens.")
        return
    a, b = (repr(_token(loaded, text[departs])) for text in texts)
    click.echo(f"Greedy text departs at token {departs}: {names[0]} has {a}, {names[1]} has {b}.")


def _token(loaded: Any, token: int) -> str:
    return "(not finite)" if token < 0 else str(loaded.tokenizer.decode([token]))

"""Is the greedy text the same, token for token, through every kernel, cached or recomputed?

    python scripts/same_text.py -n 200

Twenty prompts; what `reference` with the KV cache writes is what the others must write. Where two
logits nearly tie, rounding decides, so the smallest gaps between the best two are reported.
"""

from __future__ import annotations

import sys

import click
import torch

from gpt149.api import generate
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.registry import BUILTINS
from gpt149.model.checkpoint import DEFAULT_MODEL, Checkpoint, load

PROMPTS = (
    "O Romeo, Romeo!",
    "ROMEO:\n",
    "JULIET:\nWhat man art thou",
    "KING RICHARD III:\n",
    "First Citizen:\nBefore we proceed any further",
    "MENENIUS:\nYour belly's answer?",
    "To be, or not to be",
    "Now is the winter of our discontent",
    "The quality of mercy",
    "Friends, Romans, countrymen",
    "DUKE VINCENTIO:\nO, sir, you are deceived.",
    "Enter the King, with his train\n",
    "All the world's a stage,",
    "GLOUCESTER:\nI had a father, Edward;",
    "My lord, I will not",
    "What news from Rome?",
    "QUEEN ELIZABETH:\nO, he is young and his minority",
    "Good night, good night!",
    "PETRUCHIO:\nCome, Kate,",
    "A horse!",
)


def greedy(checkpoint: Checkpoint, prompt: str, n: int, kernel: str, kv_cache: bool) -> list[int]:
    generation = generate(
        checkpoint, prompt, kernel=kernel, n=n, temperature=0, ignore_eos=True, kv_cache=kv_cache
    )
    for _ in generation:
        pass
    return generation.samples[0].token_ids


def gaps(checkpoint: Checkpoint, prompt: str, tokens: list[int]) -> list[float]:
    """Best minus second-best logit before each of the tokens."""
    assert checkpoint.tokenizer is not None
    before = checkpoint.tokenizer.encode(prompt)
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([before + tokens[:-1]]), Attention("reference"))
    best = logits[0, len(before) - 1 :].topk(2).values
    return [float(gap) for gap in best[:, 0] - best[:, 1]]


@click.command(help=__doc__)
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True)
@click.option("-n", default=200, show_default=True, help="Tokens a prompt.")
@click.option("--prompts", default=len(PROMPTS), show_default=True, help="How many of the prompts.")
def main(model: str, n: int, prompts: int) -> None:
    checkpoint = load(model)
    chosen = PROMPTS[:prompts]
    want = {p: greedy(checkpoint, p, n, "reference", True) for p in chosen}
    all_gaps = sorted(gap for p, tokens in want.items() for gap in gaps(checkpoint, p, tokens))
    click.echo(f"{len(chosen)} prompts, {len(all_gaps)} tokens; smallest logit gaps: ", nl=False)
    click.echo(", ".join(f"{gap:.1e}" for gap in all_gaps[:5]))
    differing = 0
    for kernel in BUILTINS:
        for kv_cache in (True, False):
            if (kernel, kv_cache) == ("reference", True):
                continue
            other = [p for p in chosen if greedy(checkpoint, p, n, kernel, kv_cache) != want[p]]
            differing += len(other)
            how = "KV cache" if kv_cache else "recomputed"
            verdict = f"differs for {other}" if other else "same text"
            click.echo(f"{kernel:<10} {how:<10} {verdict}")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()

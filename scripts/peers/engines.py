"""gpt149 beside other engines: the same weights, prompt, threads, precision and greedy tokens.

    pip install '.[peers,plot]'
    python scripts/peers/engines.py --model gpt2 -p 128 -n 128
    python scripts/peers/engines.py --model tiny -p 1 -p 256 -p 512 -p 960 -n 64 --plot depth.png

The weights are random and written once. Each engine runs in a process of its own; they take turns,
round by round. Engines that are not installed are skipped by name. First tokens are compared, so
that everybody computes the same thing. Prints a Markdown table for each length of prompt, and can
draw decode against depth.

Keys and values are cached in float32, except: float16 in llama.cpp, bfloat16 in OpenVINO's bf16 and
uint8 in its int8, bfloat16 in gpt149's bf16 and int8. These are everybody's defaults.

Prefill is from the prompt's ids to the first token; decode counts the tokens behind it. Where
both together take less than a quarter of a second, a turn lasts as long and counts its medians. The
start is the faster of two, with the files in memory.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import engine_peers
from engine_tables import draw, table
from gpt149.bench.html import need_matplotlib
from gpt149.errors import MissingDependency
from gpt149.system.child import Reply
from model_files import read_once, write_model
from peer import choose
from turns import Measured, Run, serve_turns, take_turns

SEED = 149
ENGINES = engine_peers.by_name()


def load(name: str, model: Path, n_threads: int, n_ctx: int) -> Run:
    """In the child: load the engine, and give what runs a prompt."""
    engine = ENGINES[name](model, n_threads, n_ctx)

    def run(question: Reply) -> tuple[dict[str, float], Reply]:
        prefill, decode, tokens = engine.run(question["ids"], question["n"])
        return {"prefill": prefill, "decode": decode}, {"tokens": tokens}

    return run


def measure(
    names: Sequence[str], model: Path, ids: list[int], n: int, n_threads: int, rounds: int
) -> dict[str, Measured | str]:
    """Every engine's samples, or why there are none."""
    read_once(model)
    child = [sys.executable, __file__, "--path", str(model), "--threads", str(n_threads)]
    child += ["--n-ctx", str(len(ids) + n)]
    commands = {name: [*child, "--serve", name, "--answers"] for name in names}
    return take_turns(commands, {"ids": ids, "n": 1}, {"ids": ids, "n": n}, rounds)


@click.command(help=__doc__)
@click.option("--model", default="gpt2", show_default=True, help="gpt2 or tiny: random weights.")
@click.option(
    "-p", "prompts", default=[128], show_default=True, multiple=True, help="Tokens of the prompt."
)
@click.option("-n", default=128, show_default=True, help="Tokens to generate.")
@click.option("--threads", default=os.cpu_count, type=int, help="Default: every processor.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--engines", help=f"Some of: {'; '.join(ENGINES)}. Separated by semicolons.")
@click.option("--plot", type=Path, help="PNG to draw, of decode against depth.")
@click.option("--serve", "served", hidden=True)
@click.option("--path", hidden=True, type=Path)
@click.option("--n-ctx", hidden=True, type=int)
@click.option("--answers", hidden=True, type=int)
def main(
    model: str,
    prompts: Sequence[int],
    n: int,
    threads: int,
    rounds: int,
    engines: str | None,
    plot: Path | None,
    served: str | None,
    path: Path | None,
    n_ctx: int | None,
    answers: int | None,
) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if served and path and n_ctx and answers is not None:
        serve_turns(answers, lambda: load(served, path, threads, n_ctx))
        return
    if plot:
        try:
            need_matplotlib("--plot")
        except MissingDependency as e:
            raise click.UsageError(str(e)) from e
        if not plot.parent.is_dir():
            raise click.UsageError(f"there is no folder {plot.parent} for --plot.")
    here = choose(ENGINES, engines, "engine")
    folder = write_model(model)
    for name in here:
        click.echo(f"preparing {name}", err=True)
        ENGINES[name].prepare(folder)
    vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
    chance = random.Random(SEED)
    ids = [chance.randrange(vocab) for _ in range(max(prompts))]
    by_depth = {}
    for n_prompt in prompts:
        by_depth[n_prompt] = measure(here, folder, ids[:n_prompt], n, threads, rounds)
        click.echo(f"{model}, {n_prompt} + {n} tokens, {threads} threads\n")
        click.echo(table(by_depth[n_prompt], n_prompt, n) + "\n")
    if plot:
        draw(by_depth, n, plot)


if __name__ == "__main__":
    main()

"""gpt149 beside other engines: the same weights, prompt, precision and greedy tokens.

    pip install '.[peers,plot]'
    python scripts/peers/engines.py --model gpt2 -p 128 -n 128
    python scripts/peers/engines.py --model gpt2 -p 128 -n 32 --batch 1,4,16,64
    python scripts/peers/engines.py --model tiny -p 1 -p 256 -p 512 -p 960 -n 64 --plot depth.png

The weights are random and written once. Each engine runs in a process of its own; they take turns,
round by round. Engines that are not installed are skipped by name. First tokens are compared, so
that everybody computes the same thing. Each engine gets its best number of threads, found by trial:
with which the prompt and the tokens take least time. Prints a Markdown table for each length of
prompt and each number of sequences, and can draw decode against depth.

Keys and values are cached in float32, except: float16 in llama.cpp, bfloat16 in OpenVINO's bf16 and
uint8 in its int8, bfloat16 in gpt149's bf16 and int8. These are everybody's defaults.

Prefill is from the prompt's ids to the first token; decode counts the tokens behind it. Where
both together take less than a quarter of a second, a turn lasts as long and counts its medians. The
start is the faster of two, with the files in memory.

With --batch, as many sequences continue the prompt, in engines that have batches; decode counts
the tokens of all.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import click

import engine_peers
from engine_tables import draw, table
from gpt149.bench.html import need_matplotlib
from gpt149.errors import InputError, MissingDependency
from gpt149.system.child import Reply
from gpt149.system.threads import checked_threads
from model_files import read_once, write_model
from peer import choose
from turns import STARTS, Measured, Run, counts, serve_turns, take_turns

SEED = 149
ENGINES = engine_peers.by_name()
Name = TypeVar("Name", str, int)


def load(name: str, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> Run:
    """In the child: load the engine, and give what runs a prompt."""
    engine = ENGINES[name](model, n_threads, n_ctx, n_batch)

    def run(question: Reply) -> tuple[dict[str, float], Reply]:
        prefill, decode, tokens = engine.run(question["ids"], question["n"])
        return {"prefill": prefill, "decode": decode}, {"tokens": tokens}

    return run


@dataclass(frozen=True)
class Contest:
    """What all engines do: n tokens behind the ids, in n_batch sequences."""

    model: Path
    ids: list[int]
    n: int
    n_batch: int

    def command(self, name: str, n_threads: int) -> list[str]:
        """What starts an engine's child."""
        sizes = {"--threads": n_threads, "--n-ctx": len(self.ids) + self.n, "--batch": self.n_batch}
        said = [word for option, size in sizes.items() for word in (option, str(size))]
        child = [sys.executable, __file__, "--path", str(self.model), *said]
        return [*child, "--serve", name, "--answers"]

    def hold(
        self, commands: Mapping[Name, Sequence[str]], rounds: int, starts: int = STARTS
    ) -> dict[Name, Measured | str]:
        """Every engine's samples, or why there are none."""
        question = {"ids": self.ids, "n": self.n}
        return take_turns(commands, question | {"n": 1}, question, rounds, starts)

    def best_threads(self, name: str, n_threads: int) -> int:
        """With which number the prompt and the tokens take least, of all, a half, ... and 1."""
        commands = {n: self.command(name, n) for n in counts(n_threads)}
        took = {
            n: sum(seconds[0] for seconds in found.seconds.values())
            for n, found in self.hold(commands, 1, 1).items()
            if isinstance(found, Measured)
        }
        return min(took, key=lambda n: took[n], default=n_threads)


def whole_numbers(text: str) -> list[int]:
    """Numbers above 0, separated by commas.

    Raises:
        InputError: it is something else.
    """
    words = text.split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise InputError(f"--batch is {text!r}, and must be numbers from 1 on, such as 1,4,16.")
    return [int(word) for word in words]


@click.command(help=__doc__)
@click.option("--model", default="gpt2", show_default=True, help="gpt2 or tiny: random weights.")
@click.option(
    "-p", "prompts", default=[128], show_default=True, multiple=True, help="Tokens of the prompt."
)
@click.option("-n", default=128, show_default=True, help="Tokens to generate.")
@click.option("--batch", default="1", show_default=True, help="Sequences at once, such as 1,4,16.")
@click.option("--threads", type=int, help="For everyone. Default: each engine's best, by trial.")
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
    batch: str,
    threads: int | None,
    rounds: int,
    engines: str | None,
    plot: Path | None,
    served: str | None,
    path: Path | None,
    n_ctx: int | None,
    answers: int | None,
) -> None:
    try:
        batches, n_threads = whole_numbers(batch), checked_threads(threads)
    except InputError as e:
        raise click.UsageError(str(e)) from e
    if served and path and n_ctx and answers is not None:
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        serve_turns(answers, lambda: load(served, path, n_threads, n_ctx, batches[0]))
        return
    if plot and batches != [1]:
        raise click.UsageError("--plot draws one sequence alone: leave out --batch.")
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
    read_once(folder)
    by_depth = {}
    for n_prompt, n_batch in product(prompts, batches):
        contest = Contest(folder, ids[:n_prompt], n, n_batch)
        names = [name for name in here if n_batch == 1 or ENGINES[name].batches]
        given = {name: threads or contest.best_threads(name, n_threads) for name in names}
        found = contest.hold({name: contest.command(name, given[name]) for name in names}, rounds)
        click.echo(f"{model}, {n_prompt} + {n} tokens, {n_batch} at once\n")
        click.echo(table(found, given, n_prompt, n, n_batch) + "\n")
        by_depth[n_prompt] = found
    if plot:
        draw(by_depth, n, plot)


if __name__ == "__main__":
    main()

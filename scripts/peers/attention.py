"""gpt149's kernels beside attention of other libraries, float32, each at its best.

    pip install '.[peers]'
    python scripts/peers/attention.py
    python scripts/peers/attention.py -s causal -s 32/8,1x4096,128:cold --peers 'torch SDPA'
    python scripts/peers/attention.py --isa avx2 -s causal

A row is HEADS[/KV_HEADS],[N_Qx]N_KV,DIM[:full][:cold]: causal, aligned to the bottom right, unless
`:full`; with `:cold`, calls go round over keys and values that no cache holds together. Without -s,
all of causal, full, decode, few-cold, few-warm, grouped.

Each library runs in a process of its own; those that are not installed are skipped by name. For
each row a peer packs the inputs in its own layout, which is not timed; its output is judged against
float64, as `gpt149 check` does; it is given its best number of threads, found by trial; and those
that came near the fastest then take turns with the kernels, round by round. The table has the
fastest peer, the ratio of the kernel's time to its time (the median over the rounds, and from where
to where), and the share of what the machine can do, which takes turns too: arithmetic, or reading
as many bytes from as much memory.

With --isa avx2, kernels are built for it, and so are the peers that can be kept to it; the others
are left out. zentorch lives in an environment of its own: see attention_peers/zentorch.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import click

import attention_peers
from attention_peers import CannotRun, Racer, drawn
from attention_peers.ceiling import Ceiling
from attention_peers.gpt149 import DEFAULT, of_kernel
from attention_rows import ROWS, Row, chosen, parse
from attention_tables import HEAD, Entry, lines, times
from gpt149.errors import Gpt149Error
from gpt149.kernels.registry import compiled, locate
from gpt149.system.child import Reply
from gpt149.system.talker import Talker
from gpt149.system.threads import checked_threads
from peer import choose
from turns import Measured, Run, counts, play, serve_turns, started

PEERS = attention_peers.by_name()
TRIALS = 3  # turns with each number of threads, of which the fastest counts
CLEARLY = 0.9  # of the time with more threads: what is no faster than that is noise
BEHIND = 2.0  # times the fastest peer's time, in the trial: who took longer is not the best
NOTHING = {"call": 0.0}
PACE = {"turn": 0.1, "settle": 0.2}  # seconds; these libraries' threads spin on for less


def peer_of(name: str) -> type[Racer]:
    """A peer by its name, or a kernel's."""
    return PEERS.get(name) or of_kernel(name)


def load(name: str) -> Run:
    """In the child: what takes a row's times, which are judged first."""
    peer = peer_of(name)
    row, sets = "", []
    ready: dict[int, tuple[Racer, str]] = {}

    def run(question: Reply) -> tuple[dict[str, float], Reply]:
        nonlocal row, sets
        if question["row"] != row:
            ready.clear()
            row = question["row"]
            sets = drawn(parse(row))
        n_threads = question["threads"]
        if n_threads not in ready:
            try:
                racer = peer(parse(row), sets, n_threads)
            except CannotRun as e:
                return NOTHING, {"computes": False, "why": str(e)}
            ready[n_threads] = racer, racer.wrong()
        racer, wrong = ready[n_threads]
        if wrong:
            return NOTHING, {"computes": False, "why": f"wrong: {wrong}"}
        return {"call": racer.sample()}, {"computes": True}

    return run


def try_out(player: Talker, row: Row, n_threads: int) -> Entry:
    """With which number of threads it is fastest; no samples yet."""
    entry = Entry(n_threads)
    questions = {n: {"row": row.name, "threads": n} for n in counts(n_threads)}
    tried = play(dict.fromkeys(questions, player), questions, TRIALS, **PACE)
    for n, found in tried.items():
        if isinstance(found, str):
            return Entry(n_threads, why=found)
        if not found.said["computes"]:
            return Entry(n_threads, why=found.said["why"])
        least = min(found.seconds["call"])
        if least < CLEARLY * entry.trial:
            entry.n_threads, entry.trial = n, least
    return entry


def race(
    row: Row, players: Mapping[str, Talker], kernels: Sequence[str], n_threads: int, rounds: int
) -> dict[str, Entry]:
    """Everybody's trial, and the samples of kernels, of peers that can win, and of the ceiling."""
    entries = {name: try_out(player, row, n_threads) for name, player in players.items()}
    always = {*kernels, Ceiling.name}
    fast = BEHIND * min((e.trial for name, e in entries.items() if name not in always), default=0)
    questions = {
        name: {"row": row.name, "threads": entry.n_threads}
        for name, entry in entries.items()
        if entry.trial < math.inf and (name in always or entry.trial <= fast)
    }
    for name, found in play(players, questions, rounds, **PACE).items():
        if isinstance(found, Measured):
            entries[name].samples = found.seconds["call"]
        else:
            entries[name] = Entry(n_threads, why=found)
    return entries


def kept_to(isa: str, names: Sequence[str]) -> list[str]:
    """The peers that can be kept to this instruction set; the environment then does it."""
    if isa == "native":
        return list(names)
    here = []
    for name in names:
        environment = peer_of(name).avx2
        if environment is None:
            click.echo(f"skipped {name}: nothing keeps it to {isa}", err=True)
            continue
        os.environ.update(environment)
        here.append(name)
    return here


@click.command(help=__doc__)
@click.option("-a", "kernels", default=[DEFAULT], show_default=True, multiple=True, help="Kernels.")
@click.option("-s", "rows", multiple=True, help=f"Rows, or some of {', '.join(ROWS)}.")
@click.option("--peers", help=f"Some of: {'; '.join(PEERS)}. Separated by semicolons.")
@click.option("--threads", type=int, help="At most; default: every processor.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--isa", default="native", show_default=True, type=click.Choice(["native", "avx2"]))
@click.option("--serve", "served", hidden=True)
@click.option("--answers", hidden=True, type=int)
def main(
    kernels: Sequence[str],
    rows: Sequence[str],
    peers: str | None,
    threads: int | None,
    rounds: int,
    isa: str,
    served: str | None,
    answers: int | None,
) -> None:
    if served and answers is not None:
        serve_turns(answers, lambda: load(served))
        return
    try:
        wanted, n_threads = list(chosen(rows)), checked_threads(threads)
        names = kept_to(isa, [*kernels, *choose(PEERS, peers, "peer")])
        for kernel in kernels:
            compiled(locate(kernel))
    except Gpt149Error as e:
        raise click.UsageError(str(e)) from e
    commands = {
        name: [peer_of(name).python(), __file__, "--serve", name, "--answers"] for name in names
    }
    by_row = {}
    click.echo(HEAD)
    with started(commands) as players:
        for row in wanted:
            by_row[row.name] = race(row, players, kernels, n_threads, rounds)
            for line in lines(row.name, by_row[row.name], kernels, Ceiling.name):
                click.echo(line)
    click.echo(f"\nEach peer's time on up to {n_threads} threads (how many it had):\n")
    click.echo(times(by_row))


if __name__ == "__main__":
    main()

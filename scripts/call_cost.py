"""What does it cost that the attention kernel is a plug-in?

    python scripts/call_cost.py -m shakespeare

Decodes through a kernel of the contract that computes nothing. All that is left of attention is
what any kernel pays: a layer's struct is filled, the workspace asked for, the function called
through its pointer, the new key and value kept, and threads meet. Shown per call and as a share of
a step with the kernel `simd`.
"""

from __future__ import annotations

import statistics
import time

import click

from gpt149.engine.native import NativeEngine
from gpt149.engine.protocol import Burst, Draw
from gpt149.engine.sampling import Sampling
from gpt149.engine.start import start
from gpt149.model.checkpoint import load
from gpt149.system.paths import cache_dir, write_whole

COUNT = click.IntRange(min=1)
EMPTY = """#include "gpt149.h"
static int64_t workspace_bytes(const gpt149_args *) { return 0; }
static const char *run(const gpt149_args *) { return nullptr; }
GPT149_KERNEL({"empty", "computes nothing", "0", workspace_bytes, run})
"""


def decode(engine: NativeEngine, n: int, depth: int) -> tuple[float, float]:
    """Seconds a step, and of these in attention, behind `depth` tokens."""
    engine.clear()
    engine.feed([[1] * depth])
    in_attention = engine.attention_seconds
    before, done = time.perf_counter(), 0
    while done < n:  # a call ends after a fiftieth of a second
        greedy = Sampling(temperature=0)
        draws = [Draw(0, seed=0, step=done)]
        burst = Burst([[1]], n - done, greedy, engine.config.vocab_size, draws)
        done += len(engine.decode(burst))
    took = time.perf_counter() - before
    return took / n, (engine.attention_seconds - in_attention) / n


@click.command(help=__doc__)
@click.option("-m", "--model", default="shakespeare", show_default=True)
@click.option(
    "-d", "--depth", type=COUNT, default=128, show_default=True, help="Tokens held before."
)
@click.option("-n", type=COUNT, default=200, show_default=True, help="Tokens to decode a round.")
@click.option("--rounds", type=COUNT, default=15, show_default=True)
@click.option("--threads", type=COUNT, help="Default: OMP_NUM_THREADS, else every processor.")
def main(model: str, depth: int, n: int, rounds: int, threads: int | None) -> None:
    checkpoint = load(model)
    if depth + n > checkpoint.config.n_ctx:
        raise click.UsageError(f"--depth and -n exceed n_ctx, {checkpoint.config.n_ctx}, together.")
    empty = cache_dir() / "empty.cpp"
    empty.parent.mkdir(parents=True, exist_ok=True)
    write_whole(empty, EMPTY.encode())
    engines = [
        start(checkpoint, kernel, engine="native", n_threads=threads)
        for kernel in (str(empty), "simd")
    ]
    samples: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds):
        for engine, mine in zip(engines, samples, strict=True):
            assert isinstance(engine, NativeEngine)
            mine.append(decode(engine, n, depth))
    (_, cost), (step, attention) = ([statistics.median(x) for x in zip(*s, strict=True)]
                                    for s in samples)  # fmt: skip
    calls = checkpoint.config.n_layer
    click.echo(
        f"{model}, {depth} tokens held, {engines[0].n_threads} threads, medians of {rounds}: the "
        f"call {1e9 * cost / calls:,.0f} ns a layer, {1e6 * cost:.2f} us a token\n"
        f"with simd: a step {1e6 * step:,.1f} us, attention {1e6 * attention:,.1f} us of it; "
        f"the call is {cost / step:.1%} of the step"
    )


if __name__ == "__main__":
    main()

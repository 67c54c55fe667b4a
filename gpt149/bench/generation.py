"""Generation: prefill and decode of a real model through every kernel, in turn.

The tests are llama-bench's: `pp128` feeds a prompt of 128 tokens, `tg32` decodes 32; `@ d512`: with
512 tokens in the KV cache before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..kernels.registry import compiled, described, locate
from ..system.child import module_command
from ..system.talker import Ending, Talker
from ..system.words import duration
from .pace import SAMPLE_SECONDS, Rest
from .results import Row

WORKER = "gpt149.bench.worker"
JUDGE = "torch"
LEAST_ROUNDS, MOST_ROUNDS = 3, 20
TIMEOUT = 30.0
MEMORY = 16 << 30
MOST_SAMPLE_SECONDS = 5.0
LOGIT_ERROR = 2e-3  # of the spread of the logits: rounding in another order, through all layers


@dataclass(frozen=True)
class Test:
    """n tokens behind `depth` ones: decoded one by one, or as one prompt."""

    n: int
    depth: int
    decode: bool

    @property
    def name(self) -> str:
        kind = f"tg{self.n}" if self.decode else f"pp{self.n}"
        return f"{kind} @ d{self.depth}" if self.depth else kind


def tests(prompts: Sequence[int], n: int, depths: Sequence[int]) -> list[Test]:
    """Prompts into an empty cache, and n tokens decoded at every depth."""
    asked = [Test(p, 0, decode=False) for p in prompts]
    return asked + ([Test(n, depth, decode=True) for depth in depths] if n else [])


class Player(Talker):
    """A process with the model and one kernel."""

    def __init__(self, spec: str, model: str, n_threads: int) -> None:
        source = locate(spec)
        kernel = described(source, compiled(source))
        super().__init__(module_command(WORKER, kernel, model, str(n_threads)), MEMORY)
        self.n_ctx = 0

    def greeted(self, hello: dict[str, Any]) -> None:
        self.n_ctx = hello["n_ctx"]

    def play(self, test: Test, seed: int, passes: int) -> dict[str, Any] | Ending:
        """Time the test in so many passes, the last one with the tokens of the seed."""
        question = {**asdict(test), "seed": seed, "passes": passes}
        return self.ask(question, TIMEOUT)


def measure(
    specs: Sequence[str],
    asked: Sequence[Test],
    model: str,
    n_threads: int,
    *,
    seconds: float,
    keep: Callable[[Row], None],
    progress: Callable[[], None],
) -> None:
    """Run the tests through each kernel, A B C A B C ..., for about `seconds` in all.

    Each finished row goes to `keep` at once. Raises what loading the model or a kernel raises.
    """
    with ExitStack() as stack:
        players = [stack.enter_context(Player(spec, model, n_threads)) for spec in specs]
        judge = (
            players[list(specs).index(JUDGE)]
            if JUDGE in specs
            else stack.enter_context(Player(JUDGE, model, n_threads))
        )
        for test in asked:
            for row in _run(test, specs, players, judge, seconds / len(asked)):
                keep(row)
            progress()


def _run(
    test: Test, specs: Sequence[str], players: Sequence[Player], judge: Player, seconds: float
) -> list[Row]:
    rows = [Row("generation", spec, test.name, work=test.n) for spec in specs]
    shares: list[list[float]] = [[] for _ in rows]
    passes = [1] * len(rows)
    rng, rest = np.random.default_rng(), Rest()
    start, n_rounds = time.monotonic(), 0
    while n_rounds <= MOST_ROUNDS and (
        n_rounds <= LEAST_ROUNDS or time.monotonic() - start < seconds
    ):
        seed = int(rng.integers(2**63))
        with rest:
            wanted = judge.play(test, seed, 1)
        if isinstance(wanted, Ending) or "failed" in wanted:
            for row in rows:
                row.skipped = wanted.detail if isinstance(wanted, Ending) else wanted["failed"]
            break
        for i, (row, player) in enumerate(zip(rows, players, strict=True)):
            if row.rejected or row.skipped:
                continue
            with rest:
                reply = player.play(test, seed, passes[i])
            if isinstance(reply, Ending):
                if reply.outcome == "hang" and n_rounds == 0:
                    row.skipped = f"more than {TIMEOUT:g} s a sample"
                else:
                    row.rejected = f"{reply.outcome}: {reply.detail}"
                continue
            if "failed" in reply:
                row.rejected = reply["failed"]
                continue
            row.rejected = _doubt(reply["logits"], wanted["logits"])
            passes[i] = math.ceil(SAMPLE_SECONDS / reply["seconds"])
            if n_rounds == 0:  # warm-up, and who is too slow
                if reply["seconds"] > MOST_SAMPLE_SECONDS:
                    row.skipped = f"{duration(reply['seconds'])} a sample"
                continue
            row.samples.append(reply["seconds"])
            shares[i].append(reply["attention_seconds"] / reply["seconds"])
            row.peak_rss = reply["peak_rss"]
        n_rounds += 1
    for row, share in zip(rows, shares, strict=True):
        row.attention_share = float(np.median(share)) if share else None
        if row.samples and not test.decode and not test.depth:
            row.ttft_s = float(np.median(row.samples))
    return rows


def _doubt(logits: Sequence[float], wanted: Sequence[float]) -> str:
    """Why the kernel's last logits cannot be right; empty if they can."""
    error = float(np.abs(np.subtract(logits, wanted)).max())
    allowed = LOGIT_ERROR * float(np.ptp(wanted))
    if error <= allowed:
        return ""
    return (
        f"its logits are off by {error:.2g} from {JUDGE}'s, and rounding explains {allowed:.2g}; "
        "see gpt149 check"
    )

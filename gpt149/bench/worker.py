"""The child of a generation benchmark: a model, a kernel, and prefill or decode when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import Gpt149Error
from ..kernels.registry import DEFAULT, load_described, resolve
from ..system.child import Reply, serve
from ..system.memory import peak_rss

SEED = 149
SHOWN_LOGITS = 64


class Worker:
    """The loaded model, and random tokens of which a test feeds some."""

    def __init__(self, kernel: str, model: str, n_threads: int) -> None:
        from ..engine.start import start
        from ..model import checkpoint

        self.engine = start(
            checkpoint.load(model),
            load_described(kernel),
            n_threads=n_threads,
        )
        config = self.engine.config
        rng = np.random.default_rng(SEED)
        self.ids = rng.integers(0, config.vocab_size, config.n_ctx).tolist()
        self.shown = rng.integers(0, config.vocab_size, SHOWN_LOGITS)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Feed `n` tokens behind `depth` ones, in one step or one by one; that `passes` times.

        Times are the mean of these passes. Each feeds other tokens, so that nothing kept from one
        is right in another, and the last one those of the `seed`, so that logits can be compared.
        """
        engine, depth, n = self.engine, question["depth"], question["n"]
        passes = question["passes"]
        if depth + n > engine.n_ctx:
            return {"failed": f"{depth + n} tokens do not fit into n_ctx, {engine.n_ctx}"}
        engine.rewind([depth])
        if engine.length < depth:  # whatever the kernel, a fast one fills the cache
            with engine.using(resolve(DEFAULT)):
                engine.feed([self.ids[engine.length : depth]])
        rng = np.random.default_rng(question["seed"])
        draws = rng.integers(0, engine.config.vocab_size, (passes, n)).tolist()
        attention_before = engine.attention_seconds
        seconds = 0.0
        for tokens in reversed(draws):
            engine.rewind([depth])
            steps = [[token] for token in tokens] if question["decode"] else [tokens]
            start = time.perf_counter()
            for step in steps:
                logits = engine.feed([step])
            seconds += time.perf_counter() - start
        engine.rewind([depth])
        return {
            "seconds": seconds / passes,
            "attention_seconds": (engine.attention_seconds - attention_before) / passes,
            "logits": logits[0, self.shown].tolist(),
            "peak_rss": peak_rss(),
        }


def main() -> None:
    """Arguments: the kernel as JSON, the model, the threads, the descriptor for answers."""
    kernel, model, n_threads, answers = sys.argv[1:]
    serve(int(answers), lambda: _begin(kernel, model, int(n_threads)))


def _begin(kernel: str, model: str, n_threads: int) -> tuple[Reply, Callable[[Reply], Reply]]:
    worker = Worker(kernel, model, n_threads)

    def answer(question: Reply) -> Reply:
        try:
            return worker.answer(question)
        except Gpt149Error as e:
            return {"failed": str(e)}

    return {"n_ctx": worker.engine.n_ctx}, answer

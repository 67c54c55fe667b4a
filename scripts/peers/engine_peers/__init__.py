"""The engines that gpt149 is measured beside: a module a peer, its precisions and variants in it.

The next peer is a module here, with a subclass of Engine or Stepper for each row of the table. All
of them stand in its PEERS, the module in MODULES, its package in pyproject.toml's extra `peers`.
Packages are imported in methods alone, so that a peer can be found, and skipped, without its own.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from peer import Peer, find

MODULES = (  # within a precision, the rows' order
    "gpt149", "transformers", "ctranslate2", "llama_cpp", "onnxruntime", "openvino", "reading",
)  # fmt: skip
PRECISIONS = ("float32", "bf16", "int8", "int4", "none")  # "none": nothing is computed


class Engine(Peer, ABC):
    """A way to run the model, GPT-2 as a Hugging Face directory.

    batches: whether it decodes several sequences at once.
    """

    precision: ClassVar[str] = "float32"
    batches: ClassVar[bool] = False

    @staticmethod
    def prepare(model: Path) -> None:
        """Write the engine's own files beside the model's, unless they are there."""

    @abstractmethod
    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        """Load the model, for n_batch sequences of n_ctx tokens at most."""

    @abstractmethod
    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        """Seconds of the prefill and of the decoding, and n greedy tokens.

        With n_batch sequences, all continue the ids: the tokens are the first one's.
        """


class Stepper(Engine):
    """An engine that is fed ids and gives logits, step by step.

    n_batch: sequences that it continues at once; more than one if `batches` alone.
    """

    n_batch: int = 1

    @abstractmethod
    def reset(self) -> None:
        """Forget all tokens."""

    @abstractmethod
    def feed(self, ids: list[int]) -> Any:
        """The logits behind the last of the ids, (vocab_size,): an array or a tensor."""

    def share(self) -> None:
        """Let n_batch sequences continue what was fed, each by itself."""
        raise NotImplementedError

    def feed_each(self, tokens: list[int]) -> Any:
        """A token for each sequence; the logits behind them, (n_batch, vocab_size)."""
        raise NotImplementedError

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        self.reset()
        start = time.perf_counter()
        tokens = [int(self.feed(ids).argmax())]
        prefill = time.perf_counter() - start
        if self.n_batch > 1:
            self.share()
        start = time.perf_counter()
        last = tokens * self.n_batch
        while len(tokens) < n:
            if self.n_batch > 1:
                last = self.feed_each(last).argmax(-1).tolist()
            else:
                last = [int(self.feed(last).argmax())]
            tokens.append(last[0])
        return prefill, time.perf_counter() - start, tokens


def by_name() -> dict[str, type[Engine]]:
    """Every engine, installed or not, in the table's order."""
    found: list[type[Engine]] = find(__name__)
    found.sort(key=lambda engine: PRECISIONS.index(engine.precision))
    return {engine.name: engine for engine in found}

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
PRECISIONS = ("float32", "bf16", "int8", "none")  # "none": nothing is computed


class Engine(Peer, ABC):
    """A way to run the model, GPT-2 as a Hugging Face directory."""

    precision: ClassVar[str] = "float32"

    @staticmethod
    def prepare(model: Path) -> None:
        """Write the engine's own files beside the model's, unless they are there."""

    @abstractmethod
    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        """Load the model, for n_ctx tokens at most."""

    @abstractmethod
    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        """Seconds of the prefill and of the decoding, and n greedy tokens."""


class Stepper(Engine):
    """An engine that is fed ids and gives logits, step by step."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all tokens."""

    @abstractmethod
    def feed(self, ids: list[int]) -> Any:
        """The logits behind the last of the ids, (vocab_size,): an array or a tensor."""

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        self.reset()
        start = time.perf_counter()
        tokens = [int(self.feed(ids).argmax())]
        prefill = time.perf_counter()
        while len(tokens) < n:
            tokens.append(int(self.feed(tokens[-1:]).argmax()))
        return prefill - start, time.perf_counter() - prefill, tokens


def by_name() -> dict[str, type[Engine]]:
    """Every engine, installed or not, in the table's order."""
    found: list[type[Engine]] = find(__name__)
    found.sort(key=lambda engine: PRECISIONS.index(engine.precision))
    return {engine.name: engine for engine in found}

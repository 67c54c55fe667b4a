"""What bounds an engine that reads all float32 weights for each token. Needs no package."""

from __future__ import annotations

import math
from pathlib import Path

from . import Engine


class ReadingAlone(Engine):
    """No engine: how often all float32 weights can be read."""

    name, precision = "(reading the weights alone)", "none"

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        import numpy as np

        self.memory = np.ones((model / "model.safetensors").stat().st_size // 4, np.float32)
        self.n_threads = n_threads

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        from gpt149.bench.ceilings import read_bandwidth

        once = self.memory.nbytes / read_bandwidth(self.memory, self.n_threads)
        return math.inf, (n - 1) * once, []


PEERS = (ReadingAlone,)

"""What bounds any attention: arithmetic, or reading the inputs. Needs no package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from attention_rows import Row

from . import Inputs, Racer


class Ceiling(Racer):
    """No attention: its multiplications and additions in registers, or its bytes read, if slower.

    The bytes are read from as much memory as the row's calls read from, over and over.
    """

    name = "(the machine)"
    avx2: ClassVar[dict[str, str] | None] = {}

    def __init__(self, row: Row, sets: Sequence[Inputs], n_threads: int) -> None:
        self.row, self.n_threads = row, n_threads
        self.memory = np.ones(row.n_sets * row.n_bytes // 4, np.float32)

    def sample(self) -> float:
        from gpt149.bench.ceilings import fma_peak, read_bandwidth

        arithmetic = self.row.case.flops / fma_peak(self.n_threads)
        reading = self.row.n_bytes / read_bandwidth(self.memory, self.n_threads)
        return max(arithmetic, reading)

    def wrong(self) -> str:
        return ""


PEERS = (Ceiling,)

"""Attention of other libraries that kernels are measured beside: a module a peer.

The next peer is a module here, with a subclass of AttentionPeer for each column of the race. All of
them stand in its PEERS, the module in MODULES, its package in pyproject.toml's extra `peers`.
Packages are imported in methods alone, so that a peer can be found, and skipped, without its own.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attention_rows import Row
from gpt149.check.cases import Case
from gpt149.check.judge import attend, judge
from peer import Peer, find

MODULES = ("torch", "zentorch", "onnxruntime", "openvino", "ggml", "ceiling")
SAMPLE_SECONDS = 0.01  # of calls at least, for each time that is taken
LINE = 64

F32 = NDArray[np.float32]
# q (1, n_head, n_q, head_dim); k and v (1, n_kv_head, n_kv, head_dim)
Inputs = tuple[F32, F32, F32]


class Racer(Peer, ABC):
    """Takes times of a row.

    avx2: the environment that keeps it to AVX2; None: nothing does.
    """

    avx2: ClassVar[dict[str, str] | None] = None

    @abstractmethod
    def __init__(self, row: Row, sets: Sequence[Inputs], n_threads: int) -> None:
        """Pack the inputs as it likes them best.

        Raises:
            CannotRun: it has no such call.
        """

    @abstractmethod
    def sample(self) -> float:
        """Seconds of a call, the mean of a few."""

    @abstractmethod
    def wrong(self) -> str:
        """What is wrong with its output; empty if nothing is."""


class CannotRun(Exception):
    """A library has no such call; says what it lacks."""


class AttentionPeer(Racer):
    """What computes attention: of the sets of inputs in rotation."""

    def __init__(self, row: Row, sets: Sequence[Inputs], n_threads: int) -> None:
        self.case, self.sets = row.case, sets
        self.n_calls = len(sets)
        self.pack(row.case, sets, n_threads)

    @abstractmethod
    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        """Prepare calls of the sets, by so many threads. Raises CannotRun."""

    @abstractmethod
    def call(self, i: int) -> Any:
        """The attention of set i."""

    @abstractmethod
    def result(self, out: Any) -> F32:
        """What `call` returned, as (n_head, n_q, head_dim)."""

    def sample(self) -> float:
        while True:
            start = time.perf_counter()
            for i in range(self.n_calls):
                self.call(i % len(self.sets))
            seconds = time.perf_counter() - start
            if seconds > SAMPLE_SECONDS:
                return seconds / self.n_calls
            self.n_calls *= 2

    def wrong(self) -> str:
        """Judges the first query, the last and one between, of every head of the first set."""
        case, (q, k, v) = self.case, (t[0] for t in self.sets[0])
        out = self.result(self.call(0))
        rows = np.unique([0, case.n_q // 2, case.n_q - 1])
        seen = rows + 1 + case.n_kv - case.n_q if case.causal else np.full(len(rows), case.n_kv)
        group = case.n_head // case.n_kv_head
        for h in range(case.n_head):
            expected = attend(q[h, rows], k[h // group], v[h // group], seen, case.scale_value)
            verdict = judge(out[h, rows], expected)
            if not verdict.passed:
                return f"head {h}: error {verdict.error:.2g}, allowed {verdict.tolerance:.2g}"
        return ""


def aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Memory that begins a cache line, as some libraries want it, and as engines have it."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    found: NDArray[Any] = memory[start : start + n_bytes].view(dtype).reshape(shape)
    return found


def drawn(row: Row) -> list[Inputs]:
    """The row's sets of inputs, the same in every process."""
    sets = []
    for i in range(row.n_sets):
        tensors = row.case.draw(i)
        q, k, v = (aligned(tensor.shape) for tensor in tensors)
        for memory, tensor in zip((q, k, v), tensors, strict=True):
            memory[:] = tensor
        sets.append((q, k, v))
    return sets


def token_major(tensor: F32) -> F32:
    """(1, heads, n, head_dim) as (1, n, heads * head_dim)."""
    batch, heads, n, d = tensor.shape
    packed = aligned((batch, n, heads * d))
    packed.reshape(batch, n, heads, d)[:] = tensor.transpose(0, 2, 1, 3)
    return packed


def head_major(tensor: F32, n_head: int) -> F32:
    """(1, n, heads * head_dim) as (heads, n, head_dim)."""
    found: F32 = tensor[0].reshape(tensor.shape[1], n_head, -1).transpose(1, 0, 2)
    return found


def folded(case: Case, q: F32) -> F32:
    """Of decode, the queries of a group of heads as the rows of one, which all see every key.

    (1, n_head, 1, head_dim) as (1, n_kv_head, n_head / n_kv_head, head_dim).
    """
    return q.reshape(1, case.n_kv_head, -1, case.head_dim)


def mask_of(case: Case) -> F32 | None:
    """What to add to the scores, (n_q, n_kv); None: nothing, or is_causal says it."""
    if not case.causal or case.n_q in (1, case.n_kv):
        return None
    hidden = np.triu(np.ones((case.n_q, case.n_kv), bool), case.n_kv - case.n_q + 1)
    return np.where(hidden, -np.inf, 0).astype(np.float32)


def is_causal(case: Case) -> bool:
    """Whether the call is square and causal; most libraries align the mask to the top left."""
    return case.causal and case.n_q == case.n_kv > 1


def by_name() -> dict[str, type[Racer]]:
    """Every peer, installed or not."""
    found: list[type[Racer]] = find(__name__)
    return {peer.name: peer for peer in found}

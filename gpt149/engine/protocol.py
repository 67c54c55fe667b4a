"""What an engine is: it runs the model a step at a time, and holds the sequences.

`native.py` is one in C++, `torch.py` one in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.registry import Kernel
from ..model.config import GPTConfig
from .sampling import Sampling


class Engine(Protocol):
    """A model that is fed tokens: one sequence, or several after `fork`.

    name: torch or native. dtype, kv_dtype: of the weights, one of DTYPES, and of the KV cache, one
    of KV_DTYPES. calls: of the kernel, and attention_seconds spent in them.
    """

    name: str
    dtype: str
    kv_dtype: str
    config: GPTConfig
    kernel: Kernel
    n_threads: int
    n_ctx: int
    ids: list[list[int]]  # that were fed

    @property
    def length(self) -> int:
        """Tokens fed, the same for every sequence."""

    @property
    def calls(self) -> int: ...

    @property
    def attention_seconds(self) -> float: ...

    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One step: append (batch, n) ids to the sequences.

        Returns:
            The logits behind the last one, (batch, vocab_size).
        """

    def using(self, kernel: Kernel) -> AbstractContextManager[None]:
        """Feed through another kernel meanwhile, of the kind that the engine runs."""

    def fork(self, n: int) -> None:
        """Go on with n copies of the only sequence."""

    def rewind(self, length: int) -> None:
        """Forget what was fed behind the first `length` tokens."""

    def clear(self) -> None:
        """Forget the sequences; one empty one remains."""


@dataclass(frozen=True)
class Burst:
    """Tokens that an engine is to choose in one call, for each of several samples.

    ids: (batch, n_ids), the prompt, or what was chosen before. n: how many a sample at most; fewer
    where a fiftieth of a second is over. sampling: how. known: ids below it can be chosen. samples:
    one a sequence, numbered from 0; or several behind the only one, if n is 1. step: how many
    tokens a sample has so far. stop: an id behind which to end, in whichever sample.
    """

    ids: Sequence[Sequence[int]]
    n: int
    sampling: Sampling
    known: int
    samples: int = 1
    step: int = 0
    stop: int | None = None


@runtime_checkable
class Decoder(Protocol):
    """An engine that also chooses tokens itself, several a call."""

    def decode(self, burst: Burst) -> list[list[int]]:
        """Feed its ids in a step, and then each token chosen behind them, but not the last.

        Returns:
            The chosen ids, (steps, samples); none if a logit is no number, after the ids were fed.
        """


def checked_n_ctx(wanted: int | None, config: GPTConfig) -> int:
    """The wanted context; None: the model's.

    Raises:
        InputError: the model does not allow it.
    """
    n_ctx = config.n_ctx if wanted is None else wanted
    if not 1 <= n_ctx <= config.n_ctx:
        raise InputError(f"n_ctx is {n_ctx}, and this model allows 1 to {config.n_ctx}.")
    return n_ctx

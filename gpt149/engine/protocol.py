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
    """A model that is fed tokens: one sequence, or several, each of its own length.

    name: torch or native. dtype, kv_dtype: of the weights, one of DTYPES, and of the KV cache, one
    of KV_DTYPES. kernel: what is fed goes through it; decode_kernel: what should be used (`using`)
    for tokens behind a prefill. calls: of the kernel, and attention_seconds spent in them.
    """

    name: str
    dtype: str
    kv_dtype: str
    config: GPTConfig
    decode_kernel: Kernel
    n_threads: int
    n_ctx: int
    ids: list[list[int]]  # that were fed

    @property
    def kernel(self) -> Kernel: ...

    @property
    def length(self) -> int:
        """Tokens fed to the longest sequence."""

    @property
    def calls(self) -> int: ...

    @property
    def attention_seconds(self) -> float: ...

    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One step: append ids to the sequences, as many to each as there are for it.

        Returns:
            The logits behind the last one of each sequence that got some, (fed, vocab_size).
        """

    def using(self, kernel: Kernel) -> AbstractContextManager[None]:
        """Feed through another kernel meanwhile, of the kind that the engine runs."""

    def arrange(self, sources: Sequence[int | None]) -> None:
        """Go on with these of the sequences, by their numbers; None is an empty one.

        What is named twice is copied, what is not named is forgotten.
        """

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget what each sequence holds behind so many tokens."""

    def clear(self) -> None:
        """Forget the sequences; one empty one remains."""


@dataclass(frozen=True)
class Draw:
    """A token to choose behind a sequence, for a sample (by its number) that has `step` tokens."""

    sequence: int
    seed: int
    sample: int = 0
    step: int = 0


@dataclass(frozen=True)
class Burst:
    """Tokens that an engine is to choose in one call.

    ids: for each sequence what it is fed, as in `Engine.feed`. n: how many tokens a draw at most;
    fewer where a fiftieth of a second is over. sampling: how, but for its seed. known: ids below it
    can be chosen. draws: one for each sequence that is fed, in their order; or any, if n is 1.
    stop: an id behind which to end, wherever it is drawn.
    """

    ids: Sequence[Sequence[int]]
    n: int
    sampling: Sampling
    known: int
    draws: Sequence[Draw]
    stop: int | None = None


@runtime_checkable
class Decoder(Protocol):
    """An engine that also chooses tokens itself, several a call."""

    def decode(self, burst: Burst) -> list[list[int]]:
        """Feed its ids in a step, and then each token chosen behind them, but not the last.

        Returns:
            The chosen ids, (steps, draws); none if a logit is no number, after the ids were fed.
        """


def assigned(slots: Sequence[int], sources: Sequence[int | None], n_slots: int) -> list[int]:
    """Where in a KV cache with n_slots each of the sources goes; see `Engine.arrange`.

    slots: where sequences are. Of each that goes on, one copy stays there.
    """
    staying = {slots[source] for source in sources if source is not None}
    free = iter([slot for slot in range(n_slots) if slot not in staying])
    assigned = []
    for source in sources:
        slot = None if source is None else slots[source]
        if slot in staying:
            staying.remove(slot)
            assigned.append(slot)
        else:
            assigned.append(next(free))
    return assigned


def checked_n_ctx(wanted: int | None, config: GPTConfig) -> int:
    """The wanted context; None: the model's.

    Raises:
        InputError: the model does not allow it.
    """
    n_ctx = config.n_ctx if wanted is None else wanted
    if not 1 <= n_ctx <= config.n_ctx:
        raise InputError(f"n_ctx is {n_ctx}, and this model allows 1 to {config.n_ctx}.")
    return n_ctx

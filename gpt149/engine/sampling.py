"""From logits to a token: how it is chosen, and the C++ that chooses (csrc/engine/sample.h)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, byref, c_double, c_int, c_int64, c_uint64, c_void_p
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.build import Target, build_all
from ..system.paths import shipped


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The settings apply in the order of Hugging Face: the penalty,
    the temperature, then the filters top-k, top-p and min-p. Equal tokens count by their ids. Of
    what is kept, the token with the largest logit / temperature + noise is drawn, the noise being
    -log(-log u) with a uniform number u for each seed, sample, step and id (the Gumbel maximum:
    Gumbel 1954; Maddison, Tarlow and Minka 2014; csrc/engine/noise.h says which u).

    temperature: 0 takes the likeliest token; else logits are divided by it.
    top_k: keep the k likeliest tokens; 0 keeps all.
    top_p: keep the likeliest tokens until their probabilities reach p; 1 keeps all.
    min_p: drop tokens less likely than min_p times the likeliest; 0 keeps all.
    repetition_penalty: logits of tokens that occurred are divided by it where positive,
        multiplied where negative (Keskar et al. 2019); 1 is none.
    seed: any whole number from 0 to 2^64 - 1.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 149

    def __post_init__(self) -> None:
        """Raise InputError for a value that means nothing."""
        # Written as `not good`, so that NaN is refused too.
        for good, name, value, must in (
            (
                0 <= self.temperature < float("inf"),
                "temperature",
                self.temperature,
                ">= 0 and finite",
            ),
            (_whole(self.top_k) and self.top_k >= 0, "top_k", self.top_k, ">= 0"),
            (0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1"),
            (0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1"),
            (
                0 < self.repetition_penalty < float("inf"),
                "repetition_penalty",
                self.repetition_penalty,
                "above 0 and finite",
            ),
            (
                _whole(self.seed) and 0 <= self.seed < 2**64,
                "seed",
                self.seed,
                "from 0 to 2^64 - 1",
            ),
        ):
            if not good:
                raise InputError(f"{name} is {value}, and must be {must}.")


class CSampling(ctypes.Structure):
    """`Sampling` of csrc/engine/sample.h."""

    _fields_ = (
        *((name, c_double) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        ("top_k", c_int64),
        ("seed", c_uint64),
    )

    @classmethod
    def of(cls, s: Sampling) -> CSampling:
        top_k = min(s.top_k, 2**62)
        return cls(s.temperature, s.top_p, s.min_p, s.repetition_penalty, top_k, s.seed)


def to_build() -> Target:
    """What chooses tokens, in C++."""
    return Target((shipped("csrc") / "engine" / "sampler.cpp",))


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build_all([to_build()])[0]))
    library.gpt149_choose.argtypes = (
        POINTER(CSampling), c_void_p, c_int, c_void_p, c_int64, c_int64,
    )  # fmt: skip
    return library


class Sampler:
    """Chooses tokens as a `Sampling` says."""

    def __init__(self, sampling: Sampling) -> None:
        """Raise BuildError or MissingDependency where the sampler cannot be compiled."""
        self.sampling = sampling
        self._sampling = CSampling.of(sampling)
        self._choose = _library().gpt149_choose

    def choose(
        self, logits: NDArray[np.float32], seen: Sequence[int], *, sample: int = 0, step: int
    ) -> int:
        """The next token.

        Args:
            logits: (vocab_size,), none of them NaN.
            seen: ids of the prompt and of what was generated, for the repetition penalty.
            sample: samples count from 0.
            step: how many tokens the sample has.
        """
        logits = np.ascontiguousarray(logits, np.float32)
        marks = np.zeros(logits.size, np.uint8)
        if self.sampling.repetition_penalty != 1:
            ids = np.array(seen, np.int64)
            marks[ids[ids < logits.size]] = 1
        address, marked = logits.ctypes.data, marks.ctypes.data
        return int(self._choose(byref(self._sampling), address, logits.size, marked, sample, step))


def _whole(value: object) -> bool:
    return isinstance(value, int)


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-softmax of the raw logits (vocab_size,), in nats."""
    x = logits.astype(np.float64)
    x -= x.max()
    normalised: NDArray[np.float64] = x - np.log(np.exp(x).sum())
    return normalised

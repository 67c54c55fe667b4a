"""From logits to a token: penalty, temperature, filters, one documented random draw.

The order is Hugging Face's: repetition penalty, temperature, top-k, top-p, min-p. Everything is
computed in float64, ties go to the lower id, and the draw inverts the cumulative distribution in id
order, so that any engine with the same logits writes the same text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

MASK64 = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

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
            (0 <= self.temperature < float("inf"), "temperature", self.temperature, ">= 0"),
            (_whole(self.top_k) and self.top_k >= 0, "top_k", self.top_k, ">= 0"),
            (0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1"),
            (0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1"),
            (
                0 < self.repetition_penalty < float("inf"),
                "repetition_penalty",
                self.repetition_penalty,
                "above 0",
            ),
            (
                _whole(self.seed) and 0 <= self.seed <= MASK64,
                "seed",
                self.seed,
                "from 0 to 2^64 - 1",
            ),
        ):
            if not good:
                raise InputError(f"{name} is {value}, and must be {must}.")

    def choose(
        self, logits: NDArray[np.float32], seen: Iterable[int], sample: int, step: int
    ) -> int:
        """The next token of a sample.

        Args:
            logits: (vocab_size,).
            seen: ids of the prompt and of what was generated, for the repetition penalty.
            sample: number of the sample, from 0.
            step: how many tokens the sample has so far.
        """
        x = logits.astype(np.float64)
        if self.repetition_penalty != 1:
            ids = np.unique(np.fromiter(seen, dtype=np.int64))
            ids = ids[ids < len(x)]
            penalty = self.repetition_penalty
            x[ids] = np.where(x[ids] > 0, x[ids] / penalty, x[ids] * penalty)
        if self.temperature == 0:
            return int(np.argmax(x))
        with np.errstate(over="ignore"):  # a tiny temperature: -inf, and probability 0
            p = self._filtered((x - x.max()) / self.temperature)
        cumulative = np.cumsum(p)
        u = uniform(self.seed, sample, step) * cumulative[-1]
        chosen = int(np.searchsorted(cumulative, u, side="right"))
        return min(chosen, int(np.flatnonzero(p)[-1]))  # u may round up to the whole sum

    def _filtered(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Relative probabilities of x <= 0; the tokens that the filters drop get 0."""
        p: NDArray[np.float64] = np.exp(x)
        if 0 < self.top_k < len(p):
            p[~_largest(p, self.top_k)] = 0
        if self.top_p < 1:
            order = np.argsort(-p, kind="stable")
            wanted = self.top_p * np.cumsum(p)[-1]  # summed in id order, which needs no sorting
            n = int(np.searchsorted(np.cumsum(p[order]), wanted)) + 1
            p[order[n:]] = 0
        if self.min_p > 0:
            p[p < self.min_p * p.max()] = 0
        return p


def _whole(value: object) -> bool:
    return isinstance(value, int)


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-softmax of the raw logits (vocab_size,), in nats."""
    x = logits.astype(np.float64)
    x -= x.max()
    normalised: NDArray[np.float64] = x - np.log(np.exp(x).sum())
    return normalised


def uniform(seed: int, sample: int, step: int) -> float:
    """A number in [0, 1): entry c = 2^32 sample + step of a SplitMix64 stream.

    The stream starts at state mix64(seed); its entry c is mix64(state + (c + 1) GAMMA), and the
    upper 53 bits make the number. Counter-based: no state passes from token to token.
    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
    """
    state = _mix64(seed) + ((sample << 32) + step + 1) * GAMMA
    return float((_mix64(state & MASK64) >> 11) * 2.0**-53)


def _mix64(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def _largest(p: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Marks the k largest; of equal ones those with the lower ids."""
    kth = np.partition(p, -k)[-k]
    keep: NDArray[np.bool_] = p > kth
    keep[np.flatnonzero(p == kth)[: k - int(keep.sum())]] = True
    return keep

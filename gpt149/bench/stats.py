"""Numbers about numbers: medians, spreads, ratios pair by pair, confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOISY = 0.10  # from this spread on
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """median, least and the interquartile range as a share of the median, of n samples."""

    median: float
    least: float
    spread: float
    n: int

    @property
    def noisy(self) -> bool:
        return self.spread >= NOISY


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: the median, and from where to where."""

    median: float
    low: float
    high: float


def summarise(samples: Sequence[float]) -> Summary:
    """Of at least one sample, in seconds."""
    values = np.asarray(samples, np.float64)
    low, median, high = np.percentile(values, (25, 50, 75))
    return Summary(float(median), float(values.min()), float((high - low) / median), len(values))


def paired_ratio(samples: Sequence[float], base: Sequence[float]) -> Ratio:
    """How many times as fast as the base, round by round: what slows both cancels out.

    The range is that of the rounds. Rounds that only one of them has are left out.
    """
    n = min(len(samples), len(base))
    ratios = np.asarray(base[:n], np.float64) / np.asarray(samples[:n], np.float64)
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))


def bootstrap_ratio(samples: Sequence[float], base: Sequence[float], seed: int = 0) -> Ratio:
    """How many times as fast as the base, of runs at different times: ratio of medians.

    The range is a 95 % confidence interval. Source: Efron, Bootstrap methods, 1979 (percentiles).
    """
    rng = np.random.default_rng(seed)
    new, old = np.asarray(samples, np.float64), np.asarray(base, np.float64)
    news = np.median(rng.choice(new, (RESAMPLES, len(new))), axis=1)
    olds = np.median(rng.choice(old, (RESAMPLES, len(old))), axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(olds / news, (tail, 100 - tail))
    return Ratio(float(np.median(old) / np.median(new)), float(low), float(high))


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size): 2 for what grows with the square."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])

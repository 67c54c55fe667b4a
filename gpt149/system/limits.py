"""How much may be asked for: what is absurd is told at once, with the range."""

from __future__ import annotations

from ..errors import InputError

MOST_JOBS = 256
MOST_SECONDS = 86_400  # a day; Python's own clocks overflow somewhere above
MOST_TOKENS = 1 << 20  # of one call


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raise InputError unless the value lies in the range; NaN does not."""
    if not least <= value <= most:
        raise InputError(f"{name} is {value:,}, and must be from {least:,} to {most:,}.")


def check_jobs(jobs: int) -> None:
    """Raise InputError for a number of things side by side that means nothing."""
    check_range("--jobs", jobs, 1, MOST_JOBS)


def check_timeout(seconds: float) -> None:
    """Raise InputError for a time limit that means nothing."""
    check_range("--timeout", seconds, 0.001, MOST_SECONDS)

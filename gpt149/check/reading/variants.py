"""What does a kernel do with a variant? Read from its weights where all scores are 0, or one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..finding import Finding
from ..observe import Bench, Observation


def read_variant(wrong: Sequence[Observation], bench: Bench) -> Iterator[Finding]:
    """What is read of the one variant that the calls need."""
    yield from ()

"""What the instruments saw of a call, and what a cause is."""

from __future__ import annotations

from dataclasses import dataclass

from ..bench.ceilings import Ceilings
from .child import Counters
from .experiments import Found
from .hot import Parts
from .lines import Place
from .missed import Record
from .sharing import Shared
from .trace import Counts


@dataclass(frozen=True)
class Cause:
    """gain: how many times as fast; measured: by an experiment. share: of the time, if known."""

    name: str
    gain: float
    sentence: str
    measured: bool = False
    share: float | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Evidence:
    """What the instruments saw; parts and counts are None where they saw nothing.

    compiled: the kernel is a library, whose threads its author deals with.
    """

    found: Found
    ceilings: Ceilings
    lanes: int
    parts: Parts | None = None
    counts: Counts | None = None
    n_traced: int = 0  # queries of the call that was counted
    alone: float = 0.0  # share of the time of one thread that others would not share
    held: float = 0.0  # and the share under a lock
    counters: Counters | None = None
    record: Record | None = None
    shared: Shared | None = None
    shared_place: Place | None = None
    compiled: bool = True

    @property
    def ceiling(self) -> tuple[float, str]:
        """The least seconds of the call, and what decides it: arithmetic or bytes."""
        shape = self.found.shape
        return self.ceilings.seconds(shape.flops, shape.n_bytes, shape.n_bytes)

    @property
    def share_of_ceiling(self) -> float:
        return self.ceiling[0] / self.found.busy

    def place(self, name: str) -> Place | None:
        """The line that most of a part is in."""
        part = (self.parts or {}).get(name)
        return part.place if part else None


def gain(share: float, factor: float) -> float:
    """How many times as fast a call is whose share becomes `factor` times as fast."""
    return 1 / (1 - share * (1 - 1 / factor))

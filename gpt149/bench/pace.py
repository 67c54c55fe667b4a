"""When to measure: samples long enough to be timed, and too far apart to disturb each other."""

from __future__ import annotations

import math
import time
from types import TracebackType

SAMPLE_SECONDS = 0.02  # what is shorter is repeated until a sample is about this long
REST_SECONDS = 0.02


class Rest:
    """`with rest:` begins REST_SECONDS after the one before it ended, or at once if that is over.

    OpenMP's threads spin for some milliseconds in case more work comes, on a core that the next
    kernel needs: with two cores, each of its calls then waits for the slower half.
    """

    def __init__(self) -> None:
        self._ended = -math.inf

    def __enter__(self) -> None:
        time.sleep(max(0.0, self._ended + REST_SECONDS - time.monotonic()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = time.monotonic()

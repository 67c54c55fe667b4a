"""How much memory a process took."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_rss() -> int:
    """The largest resident set of this process so far, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else usage * 1024

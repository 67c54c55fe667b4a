"""What another process is doing, as the system tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def rss(pid: int) -> int:
    """Resident bytes of a process; 0 where the platform does not tell this way."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def threads(pid: int) -> dict[str, tuple[str, int]]:
    """State (R: it runs, S: it sleeps), and CPU time in ticks, of each thread of a process.

    Empty where the platform does not tell this way.
    """
    found = {}
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{thread}/stat").read_text(errors="replace")
                # The name before it may hold anything, parentheses too.
                fields = stat.rpartition(")")[2].split()
                found[thread] = fields[0], int(fields[11]) + int(fields[12])
    return found


class Effort:
    """What a process has done since this was made: a busy machine's clock says little of that."""

    def __init__(self, pid: int) -> None:
        self._pid, self._start = pid, time.monotonic()
        self._before = threads(pid)
        self._last, self._awake = self._before, self._start

    def seconds(self) -> float:
        """CPU time of its busiest thread, or how long all of them have been asleep, if longer.

        By the clock where the platform does not tell. Threads that wake up for less than a tick of
        the system's clock between two calls count as asleep.
        """
        now, found = time.monotonic(), threads(self._pid)
        if not found:
            return now - self._start
        if any(state in "RD" for state, _ in found.values()) or found != self._last:
            self._last, self._awake = found, now
        busiest = max(
            ticks - self._before.get(thread, ("", 0))[1] for thread, (_, ticks) in found.items()
        )
        return max(busiest / os.sysconf("SC_CLK_TCK"), now - self._awake)


def stack(pid: int) -> str:
    """Where the process is, by gdb if there is one: the frames above the kernel's caller."""
    if not shutil.which("gdb"):
        return ""
    command = ["gdb", "-p", str(pid), "-batch", "-ex", "backtrace 6"]
    try:
        # A kernel that overwrote the process's memory has gdb print names that are no text.
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("#"))

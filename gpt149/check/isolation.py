"""Calls of a kernel in a child process: whatever it does, the parent gets an answer.

A crash, a hang, exit() and endless allocation are answers. The child is started again after each,
so that the remaining cases still run.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import errors
from ..child import python_command
from ..kernels import Source
from .arena import Arena
from .cases import Case

LOAD_TIMEOUT = 60.0  # seconds; a kernel in Python imports torch
MEMORY_LIMIT = 2 << 30  # bytes that a kernel may add to what the child and the arena take
POLL_SECONDS = 0.02
PROGRAM = "import sys; sys.path[0] = sys.argv.pop(1); from gpt149.check.worker import main; main()"


@dataclass(frozen=True)
class Answer:
    """What became of one call.

    outcome: ok, declined, raised, crash, hang, memory, exit. detail: a sentence, empty when ok.
    seconds, cpu_seconds: of the call alone.
    """

    outcome: str
    detail: str = ""
    stack: str = ""
    workspace_bytes: int = 0
    workspace_overrun: bool = False
    peak_growth: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Child:
    """A process that has one kernel loaded. Use as a context manager."""

    def __init__(self, source: Source, library: Path | None, arena: Arena, timeout: float) -> None:
        """The kernel of a source, from its library (None: it has none)."""
        described = {
            "loader": source.loader,
            "path": str(source.path) if source.path else None,
            "name": source.name,
            "library": str(library) if library else None,
        }
        self._command = python_command(PROGRAM, json.dumps(described), str(arena.path))
        self.kernel = source.name or str(source)  # until the child says its name
        self._arena, self._timeout = arena, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self._noise.close()

    def run(
        self, case: Case, *, workspace_fill: int = 0xFF, n_threads: int | None = None
    ) -> Answer:
        """One call of the kernel on what the arena holds for the case."""
        if self._process is None:
            self._start()
            hello = self._receive(LOAD_TIMEOUT)
            if isinstance(hello, Answer):
                return replace(hello, detail=f"{hello.detail}, while it is loaded")
            if "error" in hello:
                self._stop()
                raise getattr(errors, hello["kind"])(hello["error"])
            self.kernel = hello["kernel"]
        process = self._process
        assert process is not None
        assert process.stdin is not None
        command = self._describe(case, workspace_fill, n_threads)
        try:
            process.stdin.write((json.dumps(command) + "\n").encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._post_mortem(process.wait())
        reply = self._receive(self._timeout)
        if isinstance(reply, Answer):
            return reply
        for outcome in ("declined", "raised"):
            if outcome in reply:
                return Answer(outcome, reply[outcome])
        return Answer("ok", **reply)

    def restart(self) -> None:
        """Go on with a new process."""
        self._stop()

    def noise(self) -> str:
        """What the kernel printed so far, to stdout and stderr."""
        self._noise.seek(0)
        return self._noise.read().decode(errors="replace")

    def _describe(self, case: Case, workspace_fill: int, n_threads: int | None) -> dict[str, Any]:
        return {
            "shape": case.shape if n_threads is None else case.shape | {"n_threads": n_threads},
            "tensors": {n: (p.start, p.strides) for n, p in self._arena.placed.items()},
            "heads_at_once": case.calls == "heads",
            "workspace_fill": workspace_fill,
        }

    def _start(self) -> None:
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [*self._command, str(write)],
            stdin=subprocess.PIPE,
            stdout=self._noise,
            stderr=self._noise,
            pass_fds=(write,),
            start_new_session=True,
        )
        os.close(write)
        self._answers = read

    def _stop(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        os.close(self._answers)
        self._process = None

    def _receive(self, timeout: float) -> dict[str, Any] | Answer:
        """What the child says next, or what became of it."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + timeout
        allowed = _rss(process.pid) + self._arena.size + MEMORY_LIMIT
        while time.monotonic() < deadline:
            if select.select([self._answers], [], [], POLL_SECONDS)[0]:
                data = os.read(self._answers, 65536)
                if not data:
                    return self._post_mortem(process.wait())
                reply: dict[str, Any] = json.loads(data)
                return reply
            if _rss(process.pid) > allowed:
                self._stop()
                return Answer(
                    "memory", f"it took more than {MEMORY_LIMIT >> 30} GiB besides its workspace"
                )
        stack = _stack(process.pid)
        self._stop()
        return Answer("hang", f"it did not return within {timeout:g} s", stack)

    def _post_mortem(self, status: int) -> Answer:
        self._stop()
        if status >= 0:
            return Answer("exit", f"it ended the process with exit status {status}")
        name = signal.Signals(-status).name
        return Answer("crash", f"{name}: {signal.strsignal(-status)}")


def _rss(pid: int) -> int:
    """Resident bytes of a process; 0 where the platform does not tell this way."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _stack(pid: int) -> str:
    """Where the process is, by gdb if there is one: the frames above the kernel's caller."""
    if not shutil.which("gdb"):
        return ""
    command = ["gdb", "-p", str(pid), "-batch", "-ex", "backtrace 6"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("#"))

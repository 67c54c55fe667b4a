"""A child process that answers questions, whatever becomes of it.

A crash, a hang, exit() and endless allocation are answers. The child is started again after each,
so that the remaining questions are still asked.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import errors

if TYPE_CHECKING:
    from typing_extensions import Self

LOAD_TIMEOUT = 60.0  # seconds; a kernel in Python imports torch
MEMORY_LIMIT = 2 << 30  # bytes that a kernel may add to what its process takes besides
POLL_SECONDS = 0.02
THROWN = re.compile(
    r"terminate called after throwing an instance of '(.+)'(?:\n  what\(\):  (.*))?"
)


@dataclass(frozen=True)
class Ending:
    """What became of a child instead of its reply.

    outcome: crash, hang, memory, exit. detail: a sentence. stack: where it hung, if that is known.
    """

    outcome: str
    detail: str = ""
    stack: str = ""


class Talker:
    """A child process that answers JSON objects, one a line, whatever becomes of it.

    The child gets the descriptor for its answers as its last argument, says hello on it, and reads
    questions from stdin. What it prints otherwise is kept apart. Use as a context manager.
    """

    def __init__(self, command: Sequence[str], memory: int) -> None:
        """memory: bytes that the child may take besides what it takes when it is asked."""
        self._command, self._memory = list(command), memory
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restart()
        self._noise.close()

    def ask(self, question: dict[str, Any], timeout: float) -> dict[str, Any] | Ending:
        """The child's reply, or what became of it; after that, a new child is started.

        Raises:
            Gpt149Error: the child said in its hello that it cannot serve, and why.
        """
        if self._process is None:
            self._start()
            hello = self._receive(LOAD_TIMEOUT)
            if isinstance(hello, Ending):
                return replace(hello, detail=f"{hello.detail}, while it is loaded")
            if "error" in hello:
                self.restart()
                raise getattr(errors, hello["kind"])(hello["error"])
            self.greeted(hello)
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write((json.dumps(question) + "\n").encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._post_mortem(timeout)
        return self._receive(timeout)

    def greeted(self, hello: dict[str, Any]) -> None:
        """What the child says of itself when it starts."""

    def noise(self) -> str:
        """What the child printed so far, to stdout and stderr."""
        self._noise.seek(0)
        return self._noise.read().decode(errors="replace")

    def restart(self) -> None:
        """End the child; the next question starts a new one."""
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

    def _receive(self, timeout: float) -> dict[str, Any] | Ending:
        """What the child says next, or what became of it."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + timeout
        allowed = _rss(process.pid) + self._memory
        said = b""
        while time.monotonic() < deadline:
            if select.select([self._answers], [], [], POLL_SECONDS)[0]:
                data = os.read(self._answers, 65536)
                if not data:
                    return self._post_mortem(deadline - time.monotonic())
                said += data
                if said.endswith(b"\n"):
                    return self._understood(said)
            if _rss(process.pid) > allowed:
                self.restart()
                return Ending(
                    "memory", f"it took more than {MEMORY_LIMIT >> 30} GiB besides its workspace"
                )
        stack = _stack(process.pid)
        self.restart()
        return Ending("hang", f"it did not return within {timeout:g} s", stack)

    def _understood(self, said: bytes) -> dict[str, Any] | Ending:
        try:
            reply: dict[str, Any] = json.loads(said)
        except ValueError:
            self.restart()
            return Ending("crash", "its process was forked, or wrote to files that are not its own")
        return reply

    def _post_mortem(self, seconds: float) -> Ending:
        """What became of a child that no longer listens or answers; it may still be there."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.restart()
            return Ending("hang", "it closed files that are not its own, and did not return")
        self.restart()
        if status >= 0:
            return Ending("exit", f"it ended the process with exit status {status}")
        thrown = THROWN.findall(self.noise()) if status == -signal.SIGABRT else []
        if thrown:
            kind, what = thrown[-1]
            return Ending("crash", f"it throws {kind}{what and ': '}{what}")
        name = signal.Signals(-status).name
        return Ending("crash", f"{name}: {signal.strsignal(-status)}")


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
        # A kernel that overwrote the process's memory has gdb print names that are no text.
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("#"))

"""A child process that answers questions, whatever becomes of it.

A crash, a hang, exit() and endless allocation are answers. The child is started again after each,
so that the remaining questions are still asked.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import errors
from .child import DEAF
from .process import Effort, rss, stack
from .words import one_line

if TYPE_CHECKING:
    from typing_extensions import Self

LOAD_TIMEOUT = 60.0  # seconds; a kernel in Python imports torch
MEMORY_LIMIT = 2 << 30  # bytes that a kernel may add to what its process takes besides
POLL_SECONDS = 0.02
PATIENCE = 10  # times the time limit that a child may take by the clock, where it is kept waiting
TIMERS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
FORKED = "its process was forked, or wrote to files that are not its own"
THROWN = re.compile(
    r"terminate called after throwing an instance of '(.+)'(?:\n  what\(\):  (.*))?"
)

# Rust's ("panicked at FILE:LINE:COLUMN:", then what; before 1.73 "panicked at 'WHAT', FILE:LINE"),
# and Zig's ("panic: WHAT", then its stack, of which the first line of an author is told).
PANICS = "it panics"
PANICKED = re.compile(
    r"panicked at (?:'(?P<old>.*)', (?P<old_place>.+?:\d+)|(?P<place>.+?:\d+):\d+:\n(?P<what>.*))"
    r"|panic: (?P<zig>.*)(?:\n(?P<zig_place>.+?:\d+):\d+: 0x)?"
)


@dataclass(frozen=True)
class Ending:
    """What became of a child instead of its reply.

    outcome: crash, hang, memory, exit. detail: a sentence. stack: where it hung, if that is known.
    phase: what it was doing: load, or what it last said. asked_bytes: of workspace, if it said so.
    """

    outcome: str
    detail: str = ""
    stack: str = ""
    phase: str = ""
    asked_bytes: int | None = None


class Talker:
    """A child process that answers JSON objects, one a line, whatever becomes of it.

    The child gets the descriptor for its answers as its last argument, says hello on it, and reads
    questions from stdin. Before an answer it may say what it is doing, {"phase": ...}. What it
    prints otherwise is kept apart. Use as a context manager.
    """

    def __init__(
        self, command: Sequence[str], memory: int, *, inherited: Sequence[int] = ()
    ) -> None:
        """memory: bytes that the child may take besides what it takes when it is asked.

        inherited: descriptors that it has, too.
        """
        self._command, self._memory, self._inherited = list(command), memory, tuple(inherited)
        self._stack = 0  # KiB; 0: as much as this process has
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._hung: Ending | None = None  # while it was loaded
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

        timeout: seconds of CPU time that a thread of the child may take, or of sleep; by the clock,
        PATIENCE times that.

        Raises:
            Gpt149Error: the child said in its hello that it cannot serve, and why.
        """
        if (ending := self.greet()) is not None:
            return ending
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write((json.dumps(question) + "\n").encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._post_mortem(timeout)
        return self._receive(timeout)

    def greet(self) -> Ending | None:
        """Start a child if there is none, and hear its hello; what became of it if it says none.

        Raises:
            Gpt149Error: as `ask`.
        """
        if self._process is not None:
            return None
        if self._hung is not None:  # it is not waited for again
            return self._hung
        self._start()
        hello = self._receive(LOAD_TIMEOUT)
        if isinstance(hello, Ending):
            hello = replace(hello, detail=f"{hello.detail}, while it is loaded", phase="load")
            self._hung = hello if hello.outcome == "hang" else None
            return hello
        if "error" in hello:
            self.restart()
            error = getattr(errors, hello["kind"])(hello["error"])
            vars(error).update(hello["about"])
            raise error
        self.greeted(hello)
        return None

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

    @contextmanager
    def larger_stack(self, n_bytes: int) -> Iterator[None]:
        """Within it, children have stacks of so many bytes, if the system lets them."""
        self.restart()
        self._stack = n_bytes >> 10
        try:
            yield
        finally:
            self.restart()
            self._stack = 0

    @property
    def stack_bytes(self) -> int:
        """The size of a child's stack, -1 if it has no limit."""
        return self._stack << 10 or resource.getrlimit(resource.RLIMIT_STACK)[0]

    def _start(self) -> None:
        try:
            read, write = os.pipe()
        except OSError as e:
            raise _no_child(e) from e
        command = [*self._command, str(write)]
        if self._stack:  # threads take theirs from the limit, too
            program = f'ulimit -s {self._stack} 2> /dev/null; exec "$@"'
            command = ["/bin/sh", "-c", program, "sh", *command]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._noise,
                stderr=self._noise,
                pass_fds=(write, *self._inherited),
                start_new_session=True,
            )
        except OSError as e:
            os.close(read)
            raise _no_child(e) from e
        finally:
            os.close(write)
        self._answers = read

    def _receive(self, timeout: float) -> dict[str, Any] | Ending:
        """What the child says next, or what became of it."""
        process = self._process
        assert process is not None
        start, effort = time.monotonic(), Effort(process.pid)
        allowed = rss(process.pid) + self._memory
        said, doing = b"", dict[str, Any]()
        while True:
            if select.select([self._answers], [], [], POLL_SECONDS)[0]:
                data = os.read(self._answers, 65536)
                if not data:
                    return replace(self._post_mortem(timeout), **doing)
                said += data
                while said.endswith(b"\n") and said.startswith(b'{"phase"'):
                    line, _, said = said.partition(b"\n")
                    doing = json.loads(line)
                if said.endswith(b"\n"):
                    return self._understood(said)
            if rss(process.pid) > allowed:
                self.restart()
                limit = f"it took more than {MEMORY_LIMIT >> 30} GiB besides its workspace"
                return replace(Ending("memory", limit), **doing)
            if max(effort.seconds(), (time.monotonic() - start) / PATIENCE) > timeout:
                break
        where = stack(process.pid)
        self.restart()
        return Ending("hang", f"it did not return within {timeout:g} s", where, **doing)

    def _understood(self, said: bytes) -> dict[str, Any] | Ending:
        assert self._process is not None
        try:
            reply: dict[str, Any] = json.loads(said)
            forked = reply.pop("pid", self._process.pid) != self._process.pid
        except ValueError:
            forked = True
        if forked:
            self.restart()
            return Ending("crash", FORKED)
        return reply

    def _post_mortem(self, seconds: float) -> Ending:
        """What became of a child that no longer listens or answers; it may still be there."""
        process = self._process
        assert process is not None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.restart()
            return Ending("hang", "it closed files that are not its own, and did not return")
        self.restart()
        if status == DEAF:
            return Ending("crash", "it closed files that are not its own")
        if status >= 0:
            return Ending("exit", f"it ended the process with exit status {status}")
        noise = self.noise() if status == -signal.SIGABRT else ""
        if thrown := THROWN.findall(noise):
            kind, what = thrown[-1]
            return Ending("crash", one_line(f"it throws {kind}{what and ': '}{what}"))
        if panics := list(PANICKED.finditer(noise)):
            return Ending("crash", one_line(_panic(panics[-1])))
        name = signal.Signals(-status).name
        late = ", a timer that it set earlier" if -status in TIMERS else ""
        return Ending("crash", f"{name}: {signal.strsignal(-status)}{late}")


def _panic(found: re.Match[str]) -> str:
    what = found["old"] or found["what"] or found["zig"] or "it says no more"
    place = found["old_place"] or found["place"] or found["zig_place"] or ""
    return f"{PANICS}: {what}{place and f', at {os.path.basename(place)}'}"


def _no_child(e: OSError) -> errors.MachineFault:
    return errors.MachineFault(
        f"no process can be started to run the kernel in: {e.strerror}. Is a limit of this shell's "
        "too low (ulimit -a)?"
    )

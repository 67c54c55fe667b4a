"""A user's kernel is native code that may do anything: commands that use one run in a child."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import Gpt149Error, KernelCrashed
from .words import in_shell

Reply = dict[str, Any]  # what JSON can hold

MARK = "GPT149_CHILD"  # names the descriptor of a file that holds what the child does
FINISHED = b"x"
# The package's own folder takes the place of the current one, where a file of the user's may bear
# the name of a module.
PROGRAM = """
import sys
sys.path[0] = sys.argv.pop(1)
from importlib import import_module
from gpt149.system.child import run_as_child
run_as_child(import_module(sys.argv.pop(1)).main)
"""
PR_SET_PDEATHSIG = 1
# In a process of its own, for code between fork and exec may find other threads' locks taken.
WITH_PARENT = """
import ctypes, os, sys
number, parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
MOST_WRITTEN = 64 << 20  # bytes of a file, such as that of what a kernel prints
DEAF = 113  # exit status of a child whose descriptor for answers was closed


def python_command(program: str, *arguments: str) -> list[str]:
    """A Python process that runs `program` with this package, whatever the current folder holds."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-c", program, root, *arguments]


def module_command(module: str, *arguments: str) -> list[str]:
    """A Python process that runs a module's `main` with these arguments."""
    program = f"import sys; sys.path[0] = sys.argv.pop(1); from {module} import main; main()"
    return python_command(program, *arguments)


def with_parent(command: Sequence[str], number: signal.Signals) -> list[str]:
    """A command (the program's whole path) that gets this signal when our process ends (Linux)."""
    if sys.platform != "linux":
        return list(command)
    said = (str(int(number)), str(os.getpid()))
    return [sys.executable, "-I", "-S", "-c", WITH_PARENT, *said, *command]


def limit(pid: int, resource_: int, most: int) -> None:
    """Let a process, and those that it starts, take no more of a resource (Linux)."""
    if sys.platform == "linux":
        soft, hard = resource.prlimit(pid, resource_)
        if soft == resource.RLIM_INFINITY or soft > most:
            resource.prlimit(pid, resource_, (most, hard))


def serve(answers: int, begin: Callable[[], tuple[Reply, Callable[[Reply], Reply]]]) -> None:
    """Answer questions, a JSON object a line, from stdin on a descriptor.

    begin: prepares, and gives what to say hello with and what answers a question. A Gpt149Error of
    it is said instead of the hello. Answers bear the process's id, for a fork of it answers too.
    """
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Python ignores the signal, so that what is printed beyond it is lost, and nothing else.
    limit(os.getpid(), resource.RLIMIT_FSIZE, MOST_WRITTEN)
    try:
        hello, answer = begin()
    except Gpt149Error as e:
        say(answers, {"error": str(e), "kind": type(e).__name__, "about": vars(e)})
        return
    say(answers, hello)
    for line in sys.stdin:
        say(answers, {**answer(json.loads(line)), "pid": os.getpid()})


def say(answers: int, reply: Reply) -> None:
    """A line for the parent; the end of this process where it can no longer be written."""
    left = (json.dumps(reply) + "\n").encode()
    try:
        while left:
            left = left[os.write(answers, left) :]
    except OSError:
        os._exit(DEAF)


def in_child() -> bool:
    """Whether this process is the child that may run a user's kernel."""
    return MARK in os.environ


def run_in_child(module: str, kernels: Sequence[str]) -> int:
    """Run this very command line, which uses these kernels, by a module's `main` in a child.

    kernels: "" is one that ships. Returns the exit status.

    Raises:
        KernelCrashed: a signal killed the child, or the kernel ended the process.
    """
    command = python_command(PROGRAM, module, *sys.argv[1:])
    with (
        tempfile.TemporaryFile() as report,
        subprocess.Popen(
            command,
            env={**os.environ, MARK: str(report.fileno())},
            pass_fds=(report.fileno(),),
        ) as child,
    ):
        asked_to_end: list[int] = []

        def end(number: int, _frame: FrameType | None) -> None:
            asked_to_end.append(number)
            if number == signal.SIGINT and asked_to_end.count(number) == 1:
                child.send_signal(number)  # which answers it itself
            else:
                child.kill()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, end) for number in numbers]
        try:
            status = child.wait()
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
        said = report.read()
    if said == FINISHED and status >= 0:
        return status
    if asked_to_end:
        return 128 + asked_to_end[-1]
    theirs = [kernel for kernel in kernels if kernel]
    if said.isdigit() and kernels[int(said)]:
        theirs = [kernels[int(said)]]
    one = " or ".join(theirs)
    if status >= 0:
        raise KernelCrashed(f"the kernel {one} ended the process with exit status {status}.")
    check = " ".join(["gpt149 check", *map(in_shell, theirs)])
    raise KernelCrashed(
        f"the kernel {one} crashed with {signal.Signals(-status).name}: "
        f"{signal.strsignal(-status)}. Find out where: {check}"
    )


@contextmanager
def running(kernel: int | None) -> Iterator[None]:
    """Tells the parent which of `run_in_child`'s kernels is to blame for a crash meanwhile.

    None: any of them may be.
    """
    report = int(os.environ.get(MARK, -1))
    if report < 0 or kernel is None:
        yield
        return
    os.pwrite(report, str(kernel).encode(), 0)
    yield
    os.pwrite(report, b" ", 0)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Ctrl-C reaches the foreground group, and our parent hands it on: once is what is meant."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at the second one, the parent ends us
    signal.default_int_handler(number, frame)


def die_with_parent() -> None:
    """Let this process not outlive a parent that was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_as_child(command_line: Callable[..., object]) -> None:
    """Run the command line, and tell the parent that it came to its own end.

    What a kernel prints to stdout goes to stderr, so that stdout holds our text alone.
    """
    die_with_parent()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt_once)
    ours = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(ours, "w", encoding="utf-8")
    try:
        command_line(prog_name="gpt149")
    except SystemExit:
        os.pwrite(int(os.environ[MARK]), FINISHED, 0)
        raise

"""What a kernel leaves behind in its process besides out: looked at in the child, told in words.

A call may only write out and its workspace. What else it changes (signal handlers, timers, the
floating-point mode, limits, files, memory that is not given back, threads that go on) is not wrong
by itself where the values are right; it meets whoever uses the process next.
"""

from __future__ import annotations

import ctypes
import gc
import locale
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel
from ..system.child import Reply
from ..system.process import rss, threads
from .calls import NAN_BYTE, Command, Workspace, filled, poison, rows, without_pointers
from .finding import Finding

WINDOWS, REPEATS = 4, 5  # of so many calls: what grows in each is no pool that is being filled
LATE_CALLS, LATE_SECONDS = 3, 0.01
QUIET_SECONDS = 0.5  # in which a pool's threads go to sleep, as OpenMP's do
AWAKE_SECONDS = 0.4
SPUN_SECONDS = 0.06  # of CPU time that threads take when nothing is to be done
ALONE_CALLS, ALONE_SECONDS = 4, 0.03  # with one thread, at least
WOKEN_SECONDS = 5e-5  # of CPU time: more than it takes a thread to see that it has nothing to do
SPARE_BYTES = 1 << 20
LEAST_LEAK = 1024  # bytes a call
LEAST_GROWTH = 65536  # the same of what only the resident set tells
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
SMALLEST = 2.0**-1022
SentenceOf = Callable[[Any, Any], str]


def state() -> dict[str, Any]:
    """What may be changed in this process; None where it cannot be told."""
    library = ctypes.CDLL(None)
    found: dict[str, Callable[[], Any]] = {
        "rounding": _rounding,
        "denormals": lambda: (SMALLEST * _value(0.5) > 0, _value(SMALLEST / 2) > 0),
        "traps": lambda: library.fegetexcept(),
        "handlers": lambda: {n: _handler(library, n) for n in range(1, 32)},
        "blocked": lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": lambda: any(signal.getitimer(timer)[0] for timer in TIMERS),
        "folder": os.getcwd,
        "environment": lambda: _environment(library),
        "locale": lambda: locale.setlocale(locale.LC_ALL),
        "limits": _limits,
        "processors": lambda: os.sched_getaffinity(0),
        "processes": _has_children,
        "files": _files,
    }
    told = dict[str, Any]()
    for name, ask in found.items():
        told[name] = None
        with suppress(OSError, AttributeError, ValueError):
            told[name] = ask()
    return told


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """What is not as it was: a sentence's end for each thing that changed."""
    return {
        name: sentence(before[name], after[name])
        for name, sentence in CHANGES.items()
        if before[name] is not None and after[name] is not None and before[name] != after[name]
    }


def _new(before: dict[Any, Any], after: dict[Any, Any]) -> str:
    """Keys whose value is another one, a few by name."""
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return ", ".join(map(str, keys[:4])) + (", ..." if len(keys) > 4 else "")


CHANGES: dict[str, SentenceOf] = {
    "rounding": lambda _, __: "the floating-point rounding mode is changed",
    "denormals": lambda _, __: (
        "the floating-point mode is changed: small numbers (denormals) are flushed to zero"
    ),
    "traps": lambda _, __: "floating-point exceptions are made to trap",
    "handlers": lambda b, a: (
        "signal handlers are changed: "
        + _new(*({signal.Signals(n).name: h for n, h in one.items()} for one in (b, a)))
    ),
    "blocked": lambda _, __: "signals are blocked",
    "timer": lambda _, __: "a timer is left running (alarm, setitimer): it ends the process later",
    "folder": lambda _, a: f"the working directory is changed, to {a}",
    "environment": lambda b, a: f"environment variables are changed: {_new(b, a)}",
    "locale": lambda _, __: "the locale is changed",
    "limits": lambda b, a: f"resource limits are changed: {_new(b, a)}",
    "processors": lambda _, a: f"the process is bound to {len(a)} of its processors",
    "processes": lambda _, __: "a child process is left",
    "files": lambda b, a: (
        f"{len(a.keys() - b.keys())} files are left open"
        if len(a) > len(b)
        else "files that are not its own are closed"
    ),
}


def look(kernel: ContractKernel, base: int, command: Command, before: dict[str, Any]) -> Reply:
    """Repeat the command's call in the arena and tell what it leaves behind.

    grown: bytes a call. late: whether out is written to after run returned. more_threads: how many
    more there are behind twenty calls. spinning: whether threads go on computing. team: how many
    worked where n_threads is 1. changes: see `changes`, since the kernel was loaded.
    """
    args = filled(base, command)
    workspace = _workspace(kernel, args)
    kernel.run(args)
    kernel.run(args)
    _until_quiet()
    running = len(threads(os.getpid()))
    grown = min(_growth(kernel, args) for _ in range(WINDOWS))
    late = any(_late(kernel, args) for _ in range(LATE_CALLS))
    spinning = not _until_quiet()
    if spinning:  # clang's OpenMP lets threads wait awake for a fifth of a second
        time.sleep(AWAKE_SECONDS)
        spinning = not _until_quiet()
    del workspace
    return {
        "grown": grown,
        "late": late,
        "more_threads": max(0, len(threads(os.getpid())) - running),
        "spinning": spinning,
        "team": 0 if spinning or late else _team(kernel, args),
        "changes": changes(before, state()),
    }


def findings(seen: dict[str, Any]) -> Iterator[Finding]:
    """What `look` saw in words: first what explains wrong values, then what is only rude."""
    evidence = f"{WINDOWS * REPEATS} calls of one shape"
    if seen["late"]:
        yield Finding(
            "returns_early",
            "run returned before its threads were done: join them before it returns",
            "out is not the same some milliseconds later",
            1.0,
        )
    if seen["team"] > 1:
        yield Finding(
            "n_threads_ignored",
            f"{seen['team']} threads work where n_threads is 1: use n_threads, and no more",
            "counted during calls with n_threads=1",
            1.0,
        )
    if seen["grown"]:
        yield Finding(
            "leak",
            f"memory grows by {seen['grown'] / 1024:,.0f} KiB a call: it is not given back",
            evidence,
            1.0,
        )
    if seen["more_threads"] >= REPEATS:
        yield Finding(
            "thread_leak",
            f"{seen['more_threads']} more threads are there after {evidence}",
            "",
            1.0,
        )
    if seen["spinning"]:
        yield Finding(
            "spinning_thread",
            "a thread goes on computing after run returned",
            "",
            1.0,
        )
    for name, sentence in seen["changes"].items():
        yield Finding(f"changes_{name}", sentence, "", 1.0)


def _workspace(kernel: ContractKernel, args: abi.Args) -> Workspace:
    """As much as the kernel asks for, and room for one that takes more than that."""
    asked = kernel.workspace_bytes(without_pointers(args))
    workspace = Workspace(8 * asked + SPARE_BYTES, NAN_BYTE)
    args.workspace = workspace.address
    return workspace


def _late(kernel: ContractKernel, args: abi.Args) -> bool:
    """Whether out is written to after a call returned."""
    whole = rows(args)
    poison(args)
    span = sum(whole[-1]) - args.out
    kernel.run(args)
    written = ctypes.string_at(args.out, span)
    time.sleep(LATE_SECONDS)
    _until_quiet()
    return ctypes.string_at(args.out, span) != written


def _growth(kernel: ContractKernel, args: abi.Args) -> int:
    """Bytes by which memory grows a call, 0 where that is little."""
    gc.collect()
    allocated, resident = _allocated(), rss(os.getpid())
    for _ in range(REPEATS):
        kernel.run(args)
    by_malloc = (_allocated() - allocated) // REPEATS
    by_rss = (rss(os.getpid()) - resident) // REPEATS
    return max(by_malloc if by_malloc >= LEAST_LEAK else 0, by_rss if by_rss >= LEAST_GROWTH else 0)


class _Mallinfo(ctypes.Structure):
    """glibc's `mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _allocated() -> int:
    """Bytes that malloc handed out; 0 where the C library does not tell."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    ask.restype = _Mallinfo
    info = ask()
    return int(info.uordblks + info.hblkhd)


def _until_quiet() -> bool:
    """Wait until all threads but this one are asleep; False if they go on computing."""
    own = str(os.getpid())
    start, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - start < QUIET_SECONDS:
        if all(state == "S" for one, (state, _) in threads(os.getpid()).items() if one != own):
            return True
        if time.process_time() - cpu > SPUN_SECONDS:
            return False
        time.sleep(1e-3)
    return True  # a busy machine: not known


def _team(kernel: ContractKernel, args: abi.Args) -> int:
    """How many threads work in a call with n_threads = 1, at most; 0 if that cannot be told."""
    args.n_threads = 1
    workspace = _workspace(kernel, args)
    most = calls = 0
    start = time.monotonic()
    while calls < ALONE_CALLS or time.monotonic() - start < ALONE_SECONDS:
        _until_quiet()
        most, calls = max(most, _working(kernel, args)), calls + 1
    del workspace
    return most


def _working(kernel: ContractKernel, args: abi.Args) -> int:
    """Threads besides the caller that work during one call."""
    done, most = threading.Event(), 0
    main = {os.getpid()}
    before = {thread: _cpu(thread) for thread in _tasks() - main}

    def sample() -> None:
        # Without a pause: a thread may live for some microseconds only.
        nonlocal most
        ours = main | {threading.get_native_id()} | before.keys()
        while not done.is_set():
            most = max(most, len(_tasks() - ours))

    sampler = threading.Thread(target=sample)
    sampler.start()
    kernel.run(args)
    worked = [t for t, cpu in before.items() if _cpu(t) - cpu > WOKEN_SECONDS]
    done.set()
    sampler.join()
    return len(worked) + most


def _tasks() -> set[int]:
    with suppress(OSError):
        return set(map(int, os.listdir("/proc/self/task")))
    return set()


def _cpu(thread: int) -> float:
    """CPU time of a thread of this process, in seconds; 0 if it is gone."""
    with suppress(OSError):
        return time.clock_gettime((~thread << 3) | 6)  # Linux: the clock of that thread
    return 0.0


def _value(number: float) -> float:
    """The number, as the processor hands it over."""
    return ctypes.c_double(number).value


def _rounding() -> list[bool]:
    one, little = _value(1.0), _value(2.0**-60)
    return [one + little > 1, one - little < 1, -one - little < -1]


def _handler(library: ctypes.CDLL, number: int) -> int:
    action = (ctypes.c_size_t * 32)()  # longer than any system's struct sigaction
    library.sigaction(number, None, action)
    return action[0]  # the handler is its first member


def _environment(library: ctypes.CDLL) -> dict[str, str]:
    """The C library's: os.environ is a copy that a kernel does not reach."""
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(library, "environ")
    found = dict[str, str]()
    i = 0
    while environ and (entry := environ[i]) is not None:
        name, _, value = entry.decode(errors="replace").partition("=")
        found[name] = value
        i += 1
    return found


def _limits() -> dict[str, tuple[int, int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

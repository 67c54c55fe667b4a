"""A call of a kernel on what the arena holds, as a command describes it; made in the child."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any

from ..errors import NoWorkspace
from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel
from ..kernels.loaders.tensors import TensorKernel
from ..system.child import Reply
from ..system.memory import peak_rss

if TYPE_CHECKING:
    from torch import Tensor

Command = dict[str, Any]  # what `Child.run` asks

PROT_NONE = 0
WORKSPACE_GUARD = 4096 + 64  # bytes: the workspace is aligned to 64 of them and no better
NAN_BYTE = 0xFF  # four of them are a NaN
AT_ONCE_SECONDS = 0.04  # of CPU time: some of the scheduler's slices even where one core is free


@contextmanager
def read_only(base: int, n_bytes: int) -> Iterator[None]:
    """Writing to so many bytes, whole pages, is a SIGSEGV meanwhile."""
    libc = ctypes.CDLL(None)
    address, length = ctypes.c_void_p(base), ctypes.c_size_t(n_bytes)
    libc.mprotect(address, length, mmap.PROT_READ)
    try:
        yield
    finally:
        libc.mprotect(address, length, mmap.PROT_READ | mmap.PROT_WRITE)


@contextmanager
def fence(base: int, pages: Sequence[int]) -> Iterator[None]:
    """Touching these pages (their first floats) is a SIGSEGV meanwhile."""
    libc = ctypes.CDLL(None)
    addresses = [ctypes.c_void_p(base + 4 * page) for page in pages]
    length = ctypes.c_size_t(mmap.PAGESIZE)
    for address in addresses:
        libc.mprotect(address, length, PROT_NONE)
    try:
        yield
    finally:
        for address in addresses:
            libc.mprotect(address, length, mmap.PROT_READ | mmap.PROT_WRITE)


class Workspace:
    """Memory of the size that the kernel asked for, poisoned, between guards."""

    def __init__(self, n_bytes: int, fill: int) -> None:
        size = n_bytes + 2 * WORKSPACE_GUARD
        try:
            self._memory = mmap.mmap(-1, size)
        except (OSError, OverflowError) as e:
            raise NoWorkspace(
                f"it wants {n_bytes:,} bytes of workspace, and there is not that much memory"
            ) from e
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        ctypes.memset(self._base, NAN_BYTE, size)
        ctypes.memset(self._base + WORKSPACE_GUARD, fill, n_bytes)
        self.address = self._base + WORKSPACE_GUARD
        self.n_bytes = n_bytes

    def written_outside(self) -> bool:
        guard = bytes([NAN_BYTE]) * WORKSPACE_GUARD
        before = ctypes.string_at(self._base, WORKSPACE_GUARD)
        behind = ctypes.string_at(self.address + self.n_bytes, WORKSPACE_GUARD)
        return before != guard or behind != guard


class Clock:
    """Wall and CPU time of a call, in seconds."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """The time since it was made."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
        }


def call_contract(
    kernel: ContractKernel, base: int, command: Command, say: Callable[[Reply], None]
) -> Reply:
    """Fill the struct from the command and run the kernel; heads apart if the case says so.

    say: is told before the kernel is called, what for.
    """
    args = filled(base, command)
    calls = _split_heads(args) if command["calls"] == "heads" else [args]
    workspaces, unsteady = [], None
    say({"phase": "workspace_bytes"})
    for one in calls:
        asked = without_pointers(one)
        asked.n_threads = command["sized_for"] or one.n_threads
        n_bytes = kernel.workspace_bytes(asked)
        if (again := kernel.workspace_bytes(asked)) != n_bytes:
            unsteady = n_bytes, again
        workspaces.append(Workspace(n_bytes, command["workspace_fill"]))
        one.workspace = workspaces[-1].address
    say({"phase": "run", "asked_bytes": sum(w.n_bytes for w in workspaces)})
    before = peak_rss()
    clock = Clock()
    _at_once(kernel, calls) if len(calls) > 1 else kernel.run(args)
    return {
        **clock.stop(),
        "workspace_bytes": sum(w.n_bytes for w in workspaces),
        "workspace_overrun": any(w.written_outside() for w in workspaces),
        "workspace_unsteady": unsteady,
        "peak_growth": peak_rss() - before,
    }


def call_tensors(kernel: TensorKernel, memory: mmap.mmap, command: Command) -> Reply:
    """The call of a kernel that is a function on torch tensors."""
    views, shape = tensor_views(memory, command), command["shape"]
    q, k, v, out = (views.pop(name) for name in ("q", "k", "v", "out"))
    lse = views.pop("lse", None)
    given = {name: shape[name] for name in ("window", "softcap", "head_dim_v") if shape[name]}
    given |= views if lse is None else {**views, "return_lse": True}
    clock = Clock()
    found = kernel.function(q, k, v, causal=shape["causal"], scale=shape["scale"], **given)
    times = clock.stop()
    if lse is not None:
        found, of_rows = found
        lse[..., 0].copy_(of_rows)
    out.copy_(found)
    return times


def _at_once(kernel: ContractKernel, calls: Sequence[abi.Args]) -> None:
    """Each call by itself, then all at the same time, over and over, a thread each.

    Ends when time is up, or with the first result that is not what the call gave by itself: that
    one is left in out. A thread that is done early would leave the last ones undisturbed.
    """
    for one in calls:
        kernel.run(one)
    alone = [_result(one) for one in calls]
    start, ended = Barrier(len(calls)), Event()

    def run(one: abi.Args, undisturbed: list[bytes]) -> None:
        start.wait()
        clock = Clock()
        while not ended.is_set():
            poison(one)  # what is left out must not be right from before
            kernel.run(one)
            if _result(one) != undisturbed or clock.stop()["cpu_seconds"] > AT_ONCE_SECONDS:
                ended.set()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls, alone))


def _result(args: abi.Args) -> list[bytes]:
    """The rows of a call's out and lse."""
    return [ctypes.string_at(address, n_bytes) for address, n_bytes in rows(args)]


def poison(args: abi.Args) -> None:
    """Make the rows of a call's out and lse NaN."""
    for address, n_bytes in rows(args):
        ctypes.memset(address, NAN_BYTE, n_bytes)


def rows(args: abi.Args) -> list[tuple[int, int]]:
    """Address and bytes of each row of a call's out and lse."""
    batch, head, token = args.out_stride
    element, width = element_bytes(args.dtype), args.head_dim_v or args.head_dim
    found = [
        (args.out + element * (b * batch + h * head + i * token), element * width)
        for b in range(args.batch)
        for h in range(args.n_head)
        for i in range(args.n_q)
    ]
    if args.lse:
        batch, head = args.lse_stride
        found += [
            (args.lse + 4 * (b * batch + h * head), 4 * args.n_q)
            for b in range(args.batch)
            for h in range(args.n_head)
        ]
    return found


def element_bytes(dtype: int) -> int:
    """Of a `gpt149_dtype`."""
    return 2 if dtype == abi.BFLOAT16 else 4


def filled(base: int, command: Command) -> abi.Args:
    """The struct of a command's call, without workspace; base: the arena's address."""
    args = abi.shape_args(**command["shape"])
    for name, (start, strides) in command["tensors"].items():
        setattr(args, name, base + 4 * start)
        if hasattr(args, f"{name}_stride"):
            held = getattr(args, f"{name}_stride")
            held[:] = strides[: len(held)]
    return args


def tensor_views(memory: mmap.mmap, command: Command) -> dict[str, Tensor]:
    """The tensors of a command's call by name, on the arena's memory; all but kv_begin float32."""
    import torch

    floats = torch.frombuffer(memory, dtype=torch.float32)
    ints = torch.frombuffer(memory, dtype=torch.int32)
    shape, views = command["shape"], {}
    width = shape["head_dim_v"] or shape["head_dim"]
    q, k = (
        (shape["batch"], shape[h], shape[n]) for h, n in (("n_head", "n_q"), ("n_kv_head", "n_kv"))
    )
    sizes = {
        "q": (*q, shape["head_dim"]),
        "k": (*k, shape["head_dim"]),
        "v": (*k, width),
        "out": (*q, width),
        "lse": (*q, 1),
    }
    for name, (start, strides) in command["tensors"].items():
        if name in sizes:
            views[name] = floats.as_strided(sizes[name], (*strides, 1), start)
        else:
            n = shape["batch" if name == "kv_begin" else "n_head"]
            views[name] = (ints if name == "kv_begin" else floats)[start : start + n]
    return views


def _split_heads(args: abi.Args) -> list[abi.Args]:
    """One call a key head, with the query heads that read it: how a native engine calls."""
    group = args.n_head // args.n_kv_head
    calls = []
    for h in range(args.n_kv_head):
        one = abi.Args.from_buffer_copy(args)
        one.n_head, one.n_kv_head, one.n_threads = group, 1, 1
        queries, keys = element_bytes(args.dtype), element_bytes(args.kv_dtype)
        for name, step in (
            ("q", group * queries * args.q_stride[1]),
            ("k", keys * args.k_stride[1]),
            ("v", keys * args.v_stride[1]),
            ("out", group * queries * args.out_stride[1]),
            ("alibi_slopes", 4 * group),
            ("sinks", 4 * group),
            ("lse", 4 * group * args.lse_stride[1]),
        ):
            if address := getattr(args, name):
                setattr(one, name, address + h * step)
        calls.append(one)
    return calls


def workspace_sizes(
    kernel: ContractKernel, command: Command, say: Callable[[Reply], None]
) -> Reply:
    """What workspace_bytes says for the command's shape with each of its numbers of keys."""
    say({"phase": "workspace_bytes"})
    sizes = []
    for n_kv in command["n_kv"]:
        sizes.append(kernel.entry.workspace_bytes(abi.shape_args(**command["shape"], n_kv=n_kv)))
    return {"sizes": sizes}


def without_pointers(args: abi.Args) -> abi.Args:
    bare = abi.Args.from_buffer_copy(args)
    for name, kind in abi.Args._fields_:
        if kind is ctypes.c_void_p:
            setattr(bare, name, None)
    return bare

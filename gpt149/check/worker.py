"""The child that loads and calls a kernel. It may die; that is the point.

Says its kernel's name on the descriptor that it was given. Then reads one JSON object a line from
stdin, makes the call in the shared arena, and answers. It judges nothing: its own memory may be
what the kernel destroys.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

from ..errors import KernelDeclined, KernelRaised
from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel
from ..kernels.loaders.tensors import TensorKernel
from ..kernels.registry import load_described
from ..system.child import Reply, serve
from ..system.memory import peak_rss

WORKSPACE_GUARD = 4096
NAN_BYTE = 0xFF  # four of them are a NaN
AT_ONCE_SECONDS = 0.04  # of CPU time: some of the scheduler's slices even where one core is free


class Workspace:
    """Memory of the size that the kernel asked for, poisoned, between guards."""

    def __init__(self, n_bytes: int, fill: int) -> None:
        size = n_bytes + 2 * WORKSPACE_GUARD
        try:
            self._memory = mmap.mmap(-1, size)
        except (OSError, OverflowError) as e:
            raise KernelDeclined(
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


def call_tensors(
    kernel: TensorKernel, memory: mmap.mmap, command: dict[str, Any]
) -> dict[str, Any]:
    """The call of a kernel that is a function on torch tensors, on views into the arena."""
    import torch

    shape = command["shape"]
    torch.set_num_threads(shape["n_threads"])
    floats = torch.frombuffer(memory, dtype=torch.float32)
    sizes = {
        name: (shape["batch"], shape[heads], shape[n], shape["head_dim"])
        for name, heads, n in (
            ("q", "n_head", "n_q"),
            ("k", "n_kv_head", "n_kv"),
            ("v", "n_kv_head", "n_kv"),
            ("out", "n_head", "n_q"),
        )
    }
    views = {
        name: floats.as_strided(sizes[name], (*strides, 1), start)
        for name, (start, strides) in command["tensors"].items()
    }
    q, k, v = (views[name] for name in "qkv")
    settings = {"causal": shape["causal"], "scale": shape["scale"]}
    try:
        if command["calls"] == "batches":
            sets = [tuple(t[b : b + 1] for t in (q, k, v)) for b in range(shape["batch"])]
            outs: list[Any] = [None] * len(sets)

            def run(b: int) -> None:
                outs[b] = kernel.function(*sets[b], **settings)

            times = _timed(run, memory, command)
            out = torch.cat([one if one is not None else views["out"][:1] for one in outs])
        else:
            clock = Clock()
            out = kernel.function(q, k, v, **settings)
            times = clock.stop()
    except KernelRaised as e:
        return {"raised": str(e)}
    views["out"].copy_(out)
    return times


def call_batches(
    kernel: ContractKernel, base: int, memory: mmap.mmap, command: dict[str, Any]
) -> dict[str, Any]:
    """Every batch in a call of its own, `repeat` calls in all; one workspace for all of them."""
    whole = _filled(base, command)
    calls = []
    for b in range(whole.batch):
        one = abi.Args.from_buffer_copy(whole)
        one.batch = 1
        for name in ("q", "k", "v", "out"):
            stride = getattr(whole, f"{name}_stride")[0]
            setattr(one, name, getattr(whole, name) + 4 * b * stride)
        calls.append(one)
    workspace = Workspace(kernel.workspace_bytes(_without_pointers(calls[0])), 0xFF)
    for one in calls:
        one.workspace = workspace.address
    before = peak_rss()
    try:
        times = _timed(lambda b: kernel.run(calls[b]), memory, command)
    except KernelDeclined as e:
        return {"declined": str(e)}
    overhead = _timed(lambda b: kernel.workspace_bytes(calls[b]), memory, command)
    tracemalloc.start()
    _timed(lambda b: kernel.workspace_bytes(calls[b]), memory, {**command, "repeat": 1})
    overhead_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        **times,
        "overhead": overhead["seconds"] / command["repeat"],
        "overhead_bytes": overhead_bytes,
        "workspace_bytes": workspace.n_bytes,
        "workspace_overrun": workspace.written_outside(),
        "peak_growth": peak_rss() - before,
    }


def _timed(
    run: Callable[[int], object], memory: mmap.mmap, command: dict[str, Any]
) -> dict[str, float]:
    """Time run(0), run(1), ... in rotation.

    Before each call the sign of one element of its q is flipped, the first of the last query of
    head 0: an output that was kept from an earlier call is then wrong.
    """
    shape, (start, strides) = command["shape"], command["tensors"]["q"]
    q = (ctypes.c_float * (len(memory) // 4)).from_buffer(memory)
    n = shape["batch"]
    flipped = [start + b * strides[0] + (shape["n_q"] - 1) * strides[2] for b in range(n)]
    clock = Clock()
    for i in range(command["repeat"]):
        b = i % n
        q[flipped[b]] = -q[flipped[b]]
        run(b)
    return clock.stop()


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


def call(kernel: ContractKernel, base: int, command: dict[str, Any]) -> dict[str, Any]:
    """Fill the struct from the command and run the kernel; heads apart if the case says so."""
    args = _filled(base, command)
    calls = _split_heads(args) if command["calls"] == "heads" else [args]
    workspaces = []
    try:
        for one in calls:
            n_bytes = kernel.workspace_bytes(_without_pointers(one))
            workspaces.append(Workspace(n_bytes, command["workspace_fill"]))
            one.workspace = workspaces[-1].address
        before = peak_rss()
        clock = Clock()
        _at_once(kernel, calls) if len(calls) > 1 else kernel.run(args)
    except KernelDeclined as e:
        return {"declined": str(e)}
    return {
        **clock.stop(),
        "workspace_bytes": sum(w.n_bytes for w in workspaces),
        "workspace_overrun": any(w.written_outside() for w in workspaces),
        "peak_growth": peak_rss() - before,
    }


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
            kernel.run(one)
            if _result(one) != undisturbed or clock.stop()["cpu_seconds"] > AT_ONCE_SECONDS:
                ended.set()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls, alone))


def _result(args: abi.Args) -> list[bytes]:
    """The rows of a call's out."""
    batch, head, token = args.out_stride
    return [
        ctypes.string_at(args.out + 4 * (b * batch + h * head + i * token), 4 * args.head_dim)
        for b in range(args.batch)
        for h in range(args.n_head)
        for i in range(args.n_q)
    ]


def _filled(base: int, command: dict[str, Any]) -> abi.Args:
    """The struct of a command's call, without workspace; base: the arena's address."""
    args = abi.shape_args(**command["shape"])
    for name, (start, strides) in command["tensors"].items():
        setattr(args, name, base + 4 * start)
        setattr(args, f"{name}_stride", abi.Strides(*strides))
    return args


def _split_heads(args: abi.Args) -> list[abi.Args]:
    """One call a key head, with the query heads that read it: how a native engine calls."""
    group = args.n_head // args.n_kv_head
    calls = []
    for h in range(args.n_kv_head):
        one = abi.Args.from_buffer_copy(args)
        one.n_head, one.n_kv_head, one.n_threads = group, 1, 1
        for name, step in (("q", group), ("k", 1), ("v", 1), ("out", group)):
            stride = getattr(args, f"{name}_stride")[1]
            setattr(one, name, getattr(args, name) + 4 * h * step * stride)
        calls.append(one)
    return calls


def _without_pointers(args: abi.Args) -> abi.Args:
    bare = abi.Args.from_buffer_copy(args)
    bare.q = bare.k = bare.v = bare.out = bare.workspace = None
    return bare


def main() -> None:
    """Arguments: the kernel's source and library as JSON, the arena, the descriptor for answers."""
    described, arena, answers = sys.argv[1:]
    serve(int(answers), lambda: _begin(described, arena))


def _begin(described: str, arena: str) -> tuple[Reply, Callable[[Reply], Reply]]:
    kernel = load_described(described)
    with open(arena, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 0)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def answer(command: Reply) -> Reply:
        if isinstance(kernel, TensorKernel):
            return call_tensors(kernel, memory, command)
        if command["calls"] == "batches":
            return call_batches(kernel, base, memory, command)
        return call(kernel, base, command)

    return {"kernel": kernel.name}, answer

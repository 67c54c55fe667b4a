"""Calls of a kernel over and over, each batch in one of its own: how a kernel is timed."""

from __future__ import annotations

import ctypes
import mmap
import tracemalloc
from collections.abc import Callable

from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel
from ..kernels.loaders.tensors import TensorKernel
from ..system.child import Reply
from ..system.memory import peak_rss
from .calls import NAN_BYTE, Clock, Command, Workspace, filled, tensor_views, without_pointers


def time_contract(kernel: ContractKernel, base: int, memory: mmap.mmap, command: Command) -> Reply:
    """`repeat` calls, batch after batch; one workspace for all of them."""
    whole = filled(base, command)
    calls = []
    for b in range(whole.batch):
        one = abi.Args.from_buffer_copy(whole)
        one.batch = 1
        for name in ("q", "k", "v", "out"):
            stride = getattr(whole, f"{name}_stride")[0]
            setattr(one, name, getattr(whole, name) + 4 * b * stride)
        calls.append(one)
    workspace = Workspace(kernel.workspace_bytes(without_pointers(calls[0])), NAN_BYTE)
    for one in calls:
        one.workspace = workspace.address
    before = peak_rss()
    times = _timed(lambda b: kernel.run(calls[b]), memory, command)
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


def time_tensors(kernel: TensorKernel, memory: mmap.mmap, command: Command) -> Reply:
    """The same for a kernel that is a function on torch tensors."""
    import torch

    views, shape = tensor_views(memory, command), command["shape"]
    sets = [[views[name][b : b + 1] for name in "qkv"] for b in range(shape["batch"])]
    outs = [views["out"][:1]] * len(sets)

    def run(b: int) -> None:
        q, k, v = sets[b]
        outs[b] = kernel.function(q, k, v, causal=shape["causal"], scale=shape["scale"])

    times = _timed(run, memory, command)
    views["out"].copy_(torch.cat(outs))
    return times


def _timed(run: Callable[[int], object], memory: mmap.mmap, command: Command) -> dict[str, float]:
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

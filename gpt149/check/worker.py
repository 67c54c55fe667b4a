"""The child that calls a kernel. It may die; that is the point.

Reads one JSON object a line from stdin, makes the call in the shared arena, and answers on the
descriptor that it was given. It judges nothing: its own memory may be what the kernel destroys.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import abi
from ..errors import KernelDeclined
from ..loaders import contract
from ..loaders.tensors import TENSOR_KERNELS, TensorKernel

WORKSPACE_GUARD = 4096
NO_LIBRARY = "-"  # in place of a library: a kernel of torch tensors
NAN_BYTE = 0xFF  # four of them are a NaN


class Workspace:
    """Memory of the size that the kernel asked for, poisoned, between guards."""

    def __init__(self, n_bytes: int, fill: int) -> None:
        size = n_bytes + 2 * WORKSPACE_GUARD
        self._memory = mmap.mmap(-1, size)
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
    out = kernel.function(q, k, v, causal=shape["causal"], scale=shape["scale"])
    views["out"].copy_(out)
    return {"workspace_bytes": 0, "workspace_overrun": False, "peak_growth": 0}


def call(kernel: contract.ContractKernel, base: int, command: dict[str, Any]) -> dict[str, Any]:
    """Fill the struct from the command and run the kernel; heads apart if the case says so."""
    args = abi.shape_args(**command["shape"])
    for name, (start, strides) in command["tensors"].items():
        setattr(args, name, base + 4 * start)
        setattr(args, f"{name}_stride", abi.Strides(*strides))
    calls = _split_heads(args) if command["heads_at_once"] else [args]
    workspaces = []
    for one in calls:
        n_bytes = kernel.workspace_bytes(_without_pointers(one))
        workspaces.append(Workspace(n_bytes, command["workspace_fill"]))
        one.workspace = workspaces[-1].address
    before = _peak_rss()
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(kernel.run, calls)) if len(calls) > 1 else kernel.run(args)
    except KernelDeclined as e:
        return {"declined": str(e)}
    return {
        "workspace_bytes": sum(w.n_bytes for w in workspaces),
        "workspace_overrun": any(w.written_outside() for w in workspaces),
        "peak_growth": _peak_rss() - before,
    }


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


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Arguments: the library, the kernel's name, the arena's file, the descriptor for answers."""
    library, name, arena, answers = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tensors = TENSOR_KERNELS[name]() if library == NO_LIBRARY else None
    if tensors is None:
        kernel = next(k for k in contract.open_library(Path(library), library) if k.name == name)
    with open(arena, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 0)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with os.fdopen(int(answers), "w") as out:
        for line in sys.stdin:
            command = json.loads(line)
            if tensors is not None:
                reply = call_tensors(tensors, memory, command)
            else:
                reply = call(kernel, base, command)
            print(json.dumps(reply), file=out, flush=True)

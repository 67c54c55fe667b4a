"""The child that attention is timed in: a kernel, called over and over on what an arena holds.

No inputs come twice. Before each call, while the clock stands, every head gets new numbers where
they change every row of its output: what a kernel kept from an earlier call is wrong. Of some
calls, and it cannot tell which, rows go to the parent, which judges them.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..check.arena import Placed
from ..check.calls import (
    NAN_BYTE,
    Command,
    Workspace,
    element_bytes,
    filled,
    without_pointers,
)
from ..errors import KernelDeclined, KernelRaised, NoWorkspace
from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel, declined
from ..kernels.loaders.tensors import TensorKernel
from ..kernels.registry import load_described
from ..system.child import Reply, serve

if TYPE_CHECKING:
    from torch import Tensor

VECTORS = {"alibi_slopes", "sinks"}
F32 = NDArray[np.float32]
Numbers = NDArray[np.float32] | NDArray[np.uint16]


def fresh(seed: int, n_head: int, half: bool = False) -> Iterator[F32]:
    """Numbers for `renew`, call after call: child and parent draw the same ones.

    half: such as bfloat16 has.
    """
    rng = np.random.default_rng(seed)
    kept = np.uint32(0xFFFF0000 if half else 0xFFFFFFFF)
    while True:
        yield (rng.standard_normal((3, n_head), np.float32).view(np.uint32) & kept).view(np.float32)


def renew(q: Numbers, k: Numbers, v: Numbers, numbers: F32, window: int = 0) -> None:
    """Change q, k and v (heads, n, head_dim) in every head; they may be bits of bfloat16.

    The last query, whose output changes most; and so many keys and values that each query sees one:
    the first of all, or the first of each window.
    """
    keys = slice(0, None, window) if window else slice(0, 1)
    for tensor, rows, new in zip((q, k, v), (slice(-1, None), keys, keys), numbers, strict=True):
        bits = new.view(np.uint32) >> 16
        tensor[:, rows, 0] = (bits if tensor.dtype == np.uint16 else new)[:, None]


def main() -> None:
    """Arguments: the kernel's source and library as JSON; descriptors of the arena, for answers."""
    described, arena, answers = sys.argv[1:]
    serve(int(answers), lambda: _begin(described, int(arena)))


def _begin(described: str, arena: int) -> tuple[Reply, Callable[[Reply], Reply]]:
    memory = mmap.mmap(arena, 0)
    kernel = load_described(described)

    def answer(command: Reply) -> Reply:
        whole = filled(ctypes.addressof(ctypes.c_char.from_buffer(memory)), command)
        if missing := abi.needs(whole) & ~kernel.features:
            words = [abi.IN_WORDS[feature] for feature in abi.Feature if feature & missing]
            return {"outcome": "declined", "detail": f"does not claim {', '.join(words)}"}
        try:
            if isinstance(kernel, TensorKernel):
                return _time_tensors(kernel, memory, command)
            return _time_contract(kernel, memory, whole, command)
        except NoWorkspace as e:
            return {"outcome": "workspace", "detail": str(e)}
        except KernelDeclined as e:
            return {"outcome": "declined", "detail": str(e)}
        except KernelRaised as e:
            return {"outcome": "raised", "detail": str(e)}

    return {}, answer


def _time_contract(
    kernel: ContractKernel, memory: mmap.mmap, whole: abi.Args, command: Command
) -> Reply:
    """The calls of a kernel of the contract, with one workspace for all of them."""
    calls = []
    for b in range(whole.batch):
        one = abi.Args.from_buffer_copy(whole)
        one.batch = 1
        for name in ("q", "k", "v", "out"):
            stride = getattr(whole, f"{name}_stride")[0]
            dtype = whole.dtype if name in ("q", "out") else whole.kv_dtype
            setattr(one, name, getattr(whole, name) + element_bytes(dtype) * b * stride)
        calls.append(one)
    workspace = Workspace(kernel.workspace_bytes(without_pointers(calls[0])), NAN_BYTE)
    for one in calls:
        one.workspace = workspace.address
    run, pointers = kernel.entry.run, [ctypes.byref(one) for one in calls]

    def call(b: int) -> None:
        why = run(pointers[b])
        if why is not None:
            raise declined(kernel.name, why)

    views = _views(memory, command)
    out = views["out"].__getitem__
    timed = _timed(call, out, views, command)
    idle = {**command, "judged": []}
    overhead = _timed(lambda b: kernel.workspace_bytes(calls[b]), out, views, idle)
    tracemalloc.start()
    kernel.workspace_bytes(calls[0])
    overhead_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        **timed,
        "overhead": overhead["seconds"] / command["repeat"],
        "overhead_bytes": overhead_bytes,
        "workspace_bytes": workspace.n_bytes,
    }


def _time_tensors(kernel: TensorKernel, memory: mmap.mmap, command: Command) -> Reply:
    """The calls of a kernel that is a function on torch tensors."""
    import torch

    shape, views = command["shape"], _views(memory, command)
    torch.set_num_threads(shape["n_threads"])
    given = {name: shape[name] for name in ("window", "softcap", "head_dim_v") if shape[name]}
    floats = torch.frombuffer(memory, dtype=torch.float32)
    for name in VECTORS & command["tensors"].keys():
        start, _ = command["tensors"][name]
        given[name] = floats[start : start + shape["n_head"]]
    tensors = [torch.from_numpy(views[name]) for name in "qkv"]
    dtype = torch.bfloat16 if shape["dtype"] else torch.float32
    sets = [[t[b : b + 1].view(dtype) for t in tensors] for b in range(shape["batch"])]
    outs: dict[int, Tensor] = {}

    def run(b: int) -> None:
        q, k, v = (t.float() for t in sets[b])  # as every call of such a kernel
        out = kernel.function(q, k, v, causal=shape["causal"], scale=shape["scale"], **given)
        outs[b] = out.to(dtype)

    def result(b: int) -> F32:
        found: F32 = outs[b][0].detach().float().numpy()
        return found

    return _timed(run, result, views, command)


def _views(memory: mmap.mmap, command: Command) -> dict[str, Numbers]:
    """q, k, v and out of a command, (batch, heads, n, its width), in the arena's memory."""
    shape, floats = command["shape"], np.frombuffer(memory, np.float32)
    views = {}
    for name in ("q", "k", "v", "out"):
        start, strides = command["tensors"][name]
        n = shape["n_q"] if name in ("q", "out") else shape["n_kv"]
        width = (
            shape["head_dim_v"] or shape["head_dim"] if name in ("v", "out") else shape["head_dim"]
        )
        extents = (shape["batch"], shape["n_head"], n, width)
        half = bool(shape["dtype"])
        placed = Placed(start, extents, tuple(strides), half)
        views[name] = placed.bits(floats) if half else placed.view(floats)
    return views


def _timed(
    run: Callable[[int], object],
    result: Callable[[int], Numbers],
    views: dict[str, Numbers],
    command: Command,
) -> Reply:
    """run(0), run(1), ... in rotation: the seconds that they take, and rows of some results."""
    q, k, v = (views[name] for name in "qkv")
    numbers = fresh(command["seed"], q.shape[1], q.dtype == np.uint16)
    heads = np.array(command["heads"])[:, None]
    seconds, kept = 0.0, []
    for i in range(command["repeat"]):
        b = i % len(q)
        renew(q[b], k[b], v[b], next(numbers), command["shape"]["window"])
        start = time.perf_counter()
        run(b)
        seconds += time.perf_counter() - start
        if i in command["judged"]:
            kept.append(_wide(result(b)[heads, command["rows"]]).tobytes().hex())
    return {"seconds": seconds, "kept": kept}


def _wide(numbers: Numbers) -> F32:
    """As float32, where they are bits of bfloat16."""
    if numbers.dtype == np.uint16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32)

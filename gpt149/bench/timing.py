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
from ..check.calls import NAN_BYTE, Command, Workspace, filled, tensor_views, without_pointers
from ..errors import KernelDeclined, KernelRaised, NoWorkspace
from ..kernels import abi
from ..kernels.loaders.contract import ContractKernel
from ..kernels.loaders.tensors import TensorKernel
from ..kernels.registry import load_described
from ..system.child import Reply, serve

if TYPE_CHECKING:
    from torch import Tensor

F32 = NDArray[np.float32]


def fresh(seed: int, n_head: int) -> Iterator[F32]:
    """Numbers for `renew`, call after call: child and parent draw the same ones."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.standard_normal((3, n_head), np.float32)


def renew(q: F32, k: F32, v: F32, numbers: F32) -> None:
    """Change q, k and v (heads, n, head_dim) in every head.

    The last query, whose output changes most; and the first key and value, which all queries see.
    """
    q[:, -1, 0], k[:, 0, 0], v[:, 0, 0] = numbers


def main() -> None:
    """Arguments: the kernel's source and library as JSON; descriptors of the arena, for answers."""
    described, arena, answers = sys.argv[1:]
    serve(int(answers), lambda: _begin(described, int(arena)))


def _begin(described: str, arena: int) -> tuple[Reply, Callable[[Reply], Reply]]:
    memory = mmap.mmap(arena, 0)
    kernel = load_described(described)

    def answer(command: Reply) -> Reply:
        try:
            if isinstance(kernel, TensorKernel):
                return _time_tensors(kernel, memory, command)
            return _time_contract(kernel, memory, command)
        except NoWorkspace as e:
            return {"outcome": "workspace", "detail": str(e)}
        except KernelDeclined as e:
            return {"outcome": "declined", "detail": str(e)}
        except KernelRaised as e:
            return {"outcome": "raised", "detail": str(e)}

    return {}, answer


def _time_contract(kernel: ContractKernel, memory: mmap.mmap, command: Command) -> Reply:
    """The calls of a kernel of the contract, with one workspace for all of them."""
    whole = filled(ctypes.addressof(ctypes.c_char.from_buffer(memory)), command)
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
    views = _views(memory, command)
    out = views["out"].__getitem__
    timed = _timed(lambda b: kernel.run(calls[b]), out, views, command)
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

    shape = command["shape"]
    torch.set_num_threads(shape["n_threads"])
    tensors = tensor_views(memory, command)
    sets = [[tensors[name][b : b + 1] for name in "qkv"] for b in range(shape["batch"])]
    outs: dict[int, Tensor] = {}

    def run(b: int) -> None:
        q, k, v = sets[b]
        outs[b] = kernel.function(q, k, v, causal=shape["causal"], scale=shape["scale"])

    def result(b: int) -> F32:
        found: F32 = outs[b][0].detach().numpy()
        return found

    return _timed(run, result, _views(memory, command), command)


def _views(memory: mmap.mmap, command: Command) -> dict[str, F32]:
    """q, k, v and out of a command, (batch, heads, n, head_dim), in the arena's memory."""
    shape, floats = command["shape"], np.frombuffer(memory, np.float32)
    views = {}
    for name, (start, strides) in command["tensors"].items():
        n = shape["n_q"] if name in ("q", "out") else shape["n_kv"]
        extents = (shape["batch"], shape["n_head"], n, shape["head_dim"])
        views[name] = Placed(start, extents, tuple(strides)).view(floats)
    return views


def _timed(
    run: Callable[[int], object],
    result: Callable[[int], F32],
    views: dict[str, F32],
    command: Command,
) -> Reply:
    """run(0), run(1), ... in rotation: the seconds that they take, and rows of some results."""
    q, k, v = (views[name] for name in "qkv")
    numbers = fresh(command["seed"], q.shape[1])
    heads = np.array(command["heads"])[:, None]
    seconds, kept = 0.0, []
    for i in range(command["repeat"]):
        b = i % len(q)
        renew(q[b], k[b], v[b], next(numbers))
        start = time.perf_counter()
        run(b)
        seconds += time.perf_counter() - start
        if i in command["judged"]:
            kept.append(result(b)[heads, command["rows"]].tobytes().hex())
    return {"seconds": seconds, "kept": kept}

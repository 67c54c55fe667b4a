"""The child that loads and calls a kernel. It may die; that is the point.

Says its kernel's name on the descriptor that it was given. Then reads one JSON object a line from
stdin, makes the call in the shared arena, and answers. It judges nothing: its own memory may be
what the kernel destroys.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable

from ..errors import KernelDeclined, KernelRaised
from ..kernels.loaders.tensors import TensorKernel
from ..kernels.registry import load_described
from ..system.child import Reply, serve
from .calls import call_contract, call_tensors, read_only
from .timing import time_contract, time_tensors


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
        timed = command["calls"] == "batches"
        try:
            if isinstance(kernel, TensorKernel):
                import torch

                torch.set_num_threads(command["shape"]["n_threads"])
                if timed:
                    return time_tensors(kernel, memory, command)
                with read_only(base, command["read_only"]):
                    return call_tensors(kernel, memory, command)
            if timed:
                return time_contract(kernel, base, memory, command)
            with read_only(base, command["read_only"]):
                return call_contract(kernel, base, command)
        except KernelDeclined as e:
            return {"declined": str(e)}
        except KernelRaised as e:
            return {"raised": str(e)}

    return {"kernel": kernel.name}, answer

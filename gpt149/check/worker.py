"""The child that loads and calls a kernel. It may die; that is the point.

Says its kernel's name and features on the descriptor that it was given. Then reads one JSON object
a line from stdin, makes the call in the shared arena, and answers; before, it says which of the
kernel's functions it is about to call. It judges nothing: its own memory may be what the kernel
destroys.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import partial

from ..errors import KernelDeclined, KernelRaised, NoWorkspace
from ..kernels.abi import Feature
from ..kernels.loaders.tensors import CONVERTED, TensorKernel
from ..kernels.registry import load_described
from ..system.child import Reply, say, serve
from .behaviour import look, state
from .calls import call_contract, call_tensors, fence, read_only, workspace_sizes


def main() -> None:
    """Arguments: the kernel's source and library as JSON; descriptors of the arena, for answers."""
    described, arena, answers = sys.argv[1:]
    told = partial(say, int(answers))
    serve(int(answers), lambda: _begin(described, int(arena), told))


def _begin(
    described: str, arena: int, told: Callable[[Reply], None]
) -> tuple[Reply, Callable[[Reply], Reply]]:
    memory = mmap.mmap(arena, 0)
    before = state()
    kernel = load_described(described)
    features, native = kernel.features, not isinstance(kernel, TensorKernel)
    if not native:  # types are converted elsewhere
        features &= ~CONVERTED
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def answer(command: Reply) -> Reply:
        try:
            if isinstance(kernel, TensorKernel):
                import torch

                torch.set_num_threads(command["shape"]["n_threads"])
                with read_only(base, command["read_only"]):
                    return call_tensors(kernel, memory, command)
            if command["calls"] == "sizes":
                return workspace_sizes(kernel, command, told)
            if command["calls"] == "ten":
                return look(kernel, base, command, before)
            kernel.features = features | Feature(command["assumed"])
            with read_only(base, command["read_only"]), fence(base, command["fenced"]):
                return call_contract(kernel, base, command, told)
        except NoWorkspace as e:
            return {"workspace": str(e)}
        except KernelDeclined as e:
            return {"declined": str(e)}
        except KernelRaised as e:
            return {"raised": str(e)}

    return {"kernel": kernel.name, "features": int(features), "native": native}, answer

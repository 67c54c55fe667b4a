"""Kernels that Python compiled: functions of the contract's signatures at an address.

A .py file offers them in a list `gpt149_kernels`. Numba's cfuncs have an address; see
kernels/numba.py.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from ...errors import BuildError
from .. import abi
from .contract import ContractKernel, kernels_of

TABLE = "gpt149_kernels"


class AtAddress(Protocol):
    """A function in machine code."""

    @property
    def address(self) -> int: ...


@dataclass(frozen=True)
class Kernel:
    """`gpt149_kernel` of gpt149.h: what a kernel says of itself, and its two functions.

    features: a sum of `gpt149_feature`. isa: what it was compiled for.
    """

    name: str
    idea: str
    memory: str
    workspace_bytes: AtAddress
    run: AtAddress
    features: int = 0
    isa: str = "numba"


def kernels(module: ModuleType, source: str) -> list[ContractKernel]:
    """Those that a file of Python offers; [] if it offers none. source: its name, for messages.

    Raises:
        BuildError: they are none of the contract.
    """
    offered = getattr(module, TABLE, None)
    if offered is None:
        return []
    if not isinstance(offered, list) or not offered or not all(map(_is_kernel, offered)):
        raise BuildError(
            f"{source}: {TABLE} must be a list of gpt149.kernels.numba.Kernel, whose "
            "workspace_bytes and run are cfuncs."
        )
    entries = (abi.KernelEntry * len(offered))(
        *(
            abi.KernelEntry(
                *(text.encode() for text in (one.name, one.idea, one.memory)),
                abi.WorkspaceBytes(one.workspace_bytes.address),
                abi.Run(one.run.address),
                one.features,
            )
            for one in offered
        )
    )
    sizes = ctypes.sizeof(abi.Args), ctypes.sizeof(abi.KernelEntry)
    table = abi.Table(abi.ABI_VERSION, *sizes, len(offered), entries, offered[0].isa.encode())
    return kernels_of(table, (module, entries, table), source)


def _is_kernel(one: object) -> bool:
    return isinstance(one, Kernel) and all(
        isinstance(getattr(function, "address", None), int)
        for function in (one.workspace_bytes, one.run)
    )

"""Kernels that Numba compiles: cfuncs of the contract's signatures, called as C++ is.

    from numba import carray, cfunc
    from gpt149.kernels.numba import RUN, WORKSPACE_BYTES, Kernel, floats, row

    @cfunc(RUN)
    def run(args):
        a = carray(args, 1)[0]               # a.n_q and the like: gpt149_args of csrc/gpt149.h
        q = row(a.q, a.q_stride, 0, 0, 0)    # q[x]: a row of float32
        ...
        return 0

    gpt149_kernels = [Kernel("mine", "its idea", "n_kv", workspace_bytes, run)]

Behind run, `Feature.WINDOW | Feature.KV_BEGIN` claims what it computes besides.

`gpt149 new mine_numba.py` writes a whole one. Such a file is a kernel as any: it runs in the native
engine, from several threads, without Python and torch. Needs numba.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numba import njit, types
from numba.extending import intrinsic

from . import abi
from .abi import Feature
from .loaders.cfuncs import Kernel

__all__ = ["RUN", "WORKSPACE_BYTES", "Feature", "Kernel", "floats", "ints", "row"]

SIMPLE = {
    ctypes.c_int32: types.int32,
    ctypes.c_int64: types.int64,
    ctypes.c_float: types.float32,
    ctypes.c_void_p: types.intp,  # records hold no pointers: see floats
}


def _kind(mirror: Any) -> Any:
    if mirror in SIMPLE:
        return SIMPLE[mirror]
    return types.NestedArray(dtype=SIMPLE[mirror._type_], shape=(mirror._length_,))


ARGS = types.Record.make_c_struct([(field[0], _kind(field[1])) for field in abi.Args._fields_])
# What kernels return is an address, 0 where they are done, else that of a string: why they decline.
RUN = types.intp(types.CPointer(ARGS))
WORKSPACE_BYTES = types.int64(types.CPointer(ARGS))


def _numbers_at(address: Any, kind: Any) -> Any:
    """What an intrinsic returns: the pointer's type, and how its code is made."""
    pointer = types.CPointer(kind)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address), generate


@intrinsic
def floats(_context: Any, address: Any) -> Any:
    """The float32 numbers at an address, to be read and written by an index: `floats(a.lse)[i]`."""
    return _numbers_at(address, types.float32)


@intrinsic
def ints(_context: Any, address: Any) -> Any:
    """The int32 numbers at an address: `ints(a.kv_begin)[b]`, where a.kv_begin is not 0."""
    return _numbers_at(address, types.int32)


@njit(inline="always")
def row(tensor: Any, stride: Any, b: Any, h: Any, i: Any) -> Any:
    """Row i of head h (of k and v: of theirs) of batch b of a float32 tensor, as `floats`."""
    return floats(tensor + 4 * (b * stride[0] + h * stride[1] + i * stride[2]))

"""The ctypes mirror of csrc/gpt149.h. A test compiles the header and compares every offset."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p

ABI_VERSION = 1

FLOAT32 = 0
BFLOAT16 = 1

Strides = c_int64 * 3  # elements along (batch, head, token)


class Args(Structure):
    """`gpt149_args`: one attention call."""

    _fields_ = (
        ("abi_version", c_int32),
        ("struct_size", c_int32),
        ("dtype", c_int32),
        ("kv_dtype", c_int32),
        ("causal", c_int32),
        ("n_threads", c_int32),
        ("batch", c_int32),
        ("n_head", c_int32),
        ("n_kv_head", c_int32),
        ("head_dim", c_int32),
        ("n_q", c_int32),
        ("n_kv", c_int32),
        ("br", c_int32),
        ("bc", c_int32),
        ("scale", c_float),
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("out", c_void_p),
        ("workspace", c_void_p),
        ("stream", c_void_p),
        ("q_stride", Strides),
        ("k_stride", Strides),
        ("v_stride", Strides),
        ("out_stride", Strides),
    )


def shape_args(
    *,
    batch: int,
    n_head: int,
    n_kv_head: int,
    head_dim: int,
    n_q: int,
    n_kv: int,
    causal: bool,
    scale: float,
    n_threads: int,
    br: int = 0,
    bc: int = 0,
    kv_dtype: int = FLOAT32,
) -> Args:
    """A call with float32 q and out, and everything but its pointers and strides."""
    return Args(
        abi_version=ABI_VERSION,
        struct_size=ctypes.sizeof(Args),
        dtype=FLOAT32,
        kv_dtype=kv_dtype,
        causal=causal,
        n_threads=n_threads,
        batch=batch,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=head_dim,
        n_q=n_q,
        n_kv=n_kv,
        br=br,
        bc=bc,
        scale=scale,
    )


WorkspaceBytes = ctypes.CFUNCTYPE(c_int64, POINTER(Args))
Run = ctypes.CFUNCTYPE(c_char_p, POINTER(Args))


class KernelEntry(Structure):
    """`gpt149_kernel`: what a kernel says of itself."""

    _fields_ = (
        ("name", c_char_p),
        ("idea", c_char_p),
        ("memory", c_char_p),
        ("workspace_bytes", WorkspaceBytes),
        ("run", Run),
        ("isa", c_char_p),
    )


class Table(Structure):
    """`gpt149_table`: the symbol `gpt149_kernels` that every kernel library exports."""

    _fields_ = (
        ("abi_version", c_int32),
        ("args_size", c_int32),
        ("kernel_size", c_int32),
        ("n_kernels", c_int32),
        ("kernels", POINTER(KernelEntry)),
    )

"""The ctypes mirror of csrc/gpt149.h. A test compiles the header and compares every offset."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_uint32, c_void_p
from enum import IntFlag

ABI_VERSION = 3

FLOAT32 = 0
BFLOAT16 = 1

Strides = c_int64 * 3  # elements along (batch, head, token)


class Feature(IntFlag):
    """`gpt149_feature`: variants of attention, and types, that a kernel may claim."""

    WINDOW = 1
    SOFTCAP = 2
    ALIBI = 4
    SINKS = 8
    KV_BEGIN = 16
    HEAD_DIM_V = 32
    LSE = 64
    KV_BFLOAT16 = 128
    Q_BFLOAT16 = 256


IN_WORDS = {
    Feature.WINDOW: "a sliding window",
    Feature.SOFTCAP: "a softcap",
    Feature.ALIBI: "slopes (ALiBi)",
    Feature.SINKS: "sinks",
    Feature.KV_BEGIN: "padding on the left (kv_begin)",
    Feature.HEAD_DIM_V: "values of another length than keys (head_dim_v)",
    Feature.LSE: "the log-sum-exp",
    Feature.KV_BFLOAT16: "keys and values in bfloat16",
    Feature.Q_BFLOAT16: "queries and output in bfloat16",
}
# Where the struct says it.
FIELD = {
    Feature.WINDOW: "window",
    Feature.SOFTCAP: "softcap",
    Feature.ALIBI: "alibi_slopes",
    Feature.SINKS: "sinks",
    Feature.KV_BEGIN: "kv_begin",
    Feature.HEAD_DIM_V: "head_dim_v",
    Feature.LSE: "lse",
    Feature.KV_BFLOAT16: "kv_dtype",
    Feature.Q_BFLOAT16: "dtype",
}


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
        ("window", c_int32),
        ("head_dim_v", c_int32),
        ("softcap", c_float),
        ("alibi_slopes", c_void_p),
        ("sinks", c_void_p),
        ("kv_begin", c_void_p),
        ("lse", c_void_p),
        ("lse_stride", c_int64 * 2),
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
    dtype: int = FLOAT32,
    kv_dtype: int = FLOAT32,
    window: int = 0,
    softcap: float = 0.0,
    head_dim_v: int = 0,
) -> Args:
    """A call without its pointers and strides."""
    return Args(
        abi_version=ABI_VERSION,
        struct_size=ctypes.sizeof(Args),
        dtype=dtype,
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
        window=window,
        softcap=softcap,
        head_dim_v=head_dim_v,
    )


def needs(args: Args) -> Feature:
    """What a kernel must claim to be given this call."""
    asked = (
        (args.window, Feature.WINDOW),
        (args.softcap, Feature.SOFTCAP),
        (args.alibi_slopes, Feature.ALIBI),
        (args.sinks, Feature.SINKS),
        (args.kv_begin, Feature.KV_BEGIN),
        (args.head_dim_v, Feature.HEAD_DIM_V),
        (args.lse, Feature.LSE),
        (args.kv_dtype, Feature.KV_BFLOAT16),
        (args.dtype, Feature.Q_BFLOAT16),
    )
    needed = Feature(0)
    for value, feature in asked:
        if value:
            needed |= feature
    return needed


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
        ("features", c_uint32),
    )


class Table(Structure):
    """`gpt149_table`: the symbol `gpt149_kernels` that every kernel library exports."""

    _fields_ = (
        ("abi_version", c_int32),
        ("args_size", c_int32),
        ("kernel_size", c_int32),
        ("n_kernels", c_int32),
        ("kernels", POINTER(KernelEntry)),
        ("isa", c_char_p),
    )

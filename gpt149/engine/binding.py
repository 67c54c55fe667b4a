"""csrc/engine/engine.cpp as ctypes sees it: its structs, its functions, its numbers for names."""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    c_bool,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..kernels import abi
from ..kernels.build import Target, build_all
from ..model.config import GPTConfig
from ..system.paths import shipped
from .choices import DTYPES, KV_DTYPES
from .sampling import CSampling

# The unit of the engine for weights of a type: csrc/engine/NAME.cpp.
UNITS = dict(zip(DTYPES, ("float32", "bfloat16", "int8", "int4"), strict=True))
KV_TYPES = dict(zip(KV_DTYPES, (abi.FLOAT32, abi.BFLOAT16), strict=True))
ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "gelu_fast": 1, "relu": 2}
VECTORS = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias")
MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
# `Run` and `Draw` of csrc/engine/binding.h.
RUN = np.dtype([(name, np.int32) for name in ("slot", "start", "n", "row")])
DRAW = np.dtype([("seed", np.uint64), ("step", np.int64), ("run", np.int32), ("sample", np.int32)])


Maker = Any  # a function of C++, as ctypes passes it on


class Config(ctypes.Structure):
    """`Config` of csrc/engine/binding.h."""

    _fields_ = (
        *((name, c_int32) for name in ("n_layer", "n_head", "n_embd", "n_inner", "n_ctx")),
        *((name, c_int32) for name in ("vocab_size", "activation", "kv_dtype")),
        *((name, c_int32) for name in ("n_threads", "br", "bc")),
        ("layer_norm_epsilon", c_float),
    )

    @classmethod
    def of(
        cls,
        c: GPTConfig,
        *,
        n_ctx: int,
        kv_dtype: str,
        n_threads: int,
        br: int,
        bc: int,
    ) -> Config:
        sizes = (c.n_layer, c.n_head, c.n_embd, c.n_inner or 4 * c.n_embd, n_ctx, c.vocab_size)
        types = ACTIVATIONS[c.activation], KV_TYPES[kv_dtype]
        return cls(*sizes, *types, n_threads, br, bc, c.layer_norm_epsilon)


def to_build(dtype: str, *, screened: bool = False) -> list[Target]:
    """The engine, its unit for weights of a type, and the one that screens a head, if that is."""
    units = ["engine", UNITS[dtype], *(["screen"] if screened else [])]
    return [Target((shipped("csrc") / "engine" / f"{unit}.cpp",)) for unit in units]


class Library(NamedTuple):
    """The engine, and what makes its weights and its screen. built: the files of all units.

    The name of such a file, and of its folder, are digests of what it was made of.
    """

    engine: ctypes.CDLL
    weights: Maker
    screen: Maker | None
    built: list[Path]


def library(dtype: str, *, screened: bool) -> Library:
    """The engine for weights of a type, compiled if need be.

    Raises:
        BuildError, MissingDependency: it cannot be compiled.
    """
    built = build_all(to_build(dtype, screened=screened))
    lib, weights, *screen = (ctypes.CDLL(str(path)) for path in built)
    engine, kernel = c_void_p, POINTER(abi.KernelEntry)
    for name, result, arguments in (
        ("new", c_void_p, (POINTER(Config), c_void_p, c_void_p)),
        ("free", None, (engine,)),
        ("vector", c_bool, (engine, c_int, c_int, c_void_p)),
        ("scale", None, (engine, c_int, c_float)),
        ("matrix", c_bool, (engine, c_int, c_int, c_void_p, c_int, c_int, c_int64, c_int64,
                            c_void_p)),
        ("ends", c_bool, (engine, *[c_void_p] * 5)),
        ("fill", c_bool, (engine, c_int, c_int64, c_uint64)),
        ("seal", c_int64, (engine,)),
        ("write", c_bool, (engine, c_int, POINTER(c_uint64))),
        ("cache", None, (engine, c_void_p, c_void_p, c_int)),
        ("attention_seconds", c_double, (engine,)),
        ("step", c_char_p, (engine, kernel, c_void_p, c_void_p, c_int, c_void_p, c_bool)),
        ("decode", c_int, (engine, kernel, c_void_p, c_void_p, c_int, POINTER(CSampling), c_int,
                           c_void_p, c_void_p, c_int, c_int, c_double, c_int, c_void_p,
                           c_void_p, POINTER(c_char_p))),
    ):  # fmt: skip
        function = getattr(lib, f"gpt149_engine_{name}")
        function.restype, function.argtypes = result, arguments
    maker = screen[0].gpt149_screen if screen else None
    return Library(lib, weights.gpt149_weights, maker, built)

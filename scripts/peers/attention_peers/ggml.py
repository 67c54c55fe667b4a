"""ggml's flash attention, in a library of llama.cpp's bindings: pip install llama-cpp-python.

Nothing of ggml.h is mirrored but one struct of three fields: its functions take pointers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from gpt149.check.cases import Case

from . import F32, AttentionPeer, Inputs, aligned, head_major

FLOAT32, FLOAT16 = 0, 1  # of enum ggml_type
PREC_F32 = 10  # of enum ggml_prec
CONTEXT_BYTES = 1 << 20  # tensors' and a graph's headers
THREADPOOL_PARAMS_BYTES = 4096  # more than the struct takes


class InitParams(ctypes.Structure):
    """`ggml_init_params`."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


FUNCTIONS = {  # name: (result, arguments)
    "ggml_init": (c_void_p, (InitParams,)),
    "ggml_new_tensor_4d": (c_void_p, (c_void_p, c_int, c_int64, c_int64, c_int64, c_int64)),
    "ggml_flash_attn_ext": (c_void_p, (c_void_p,) * 5 + (c_float,) * 3),
    "ggml_flash_attn_ext_set_prec": (None, (c_void_p, c_int)),
    "ggml_new_graph": (c_void_p, (c_void_p,)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_backend_cpu_init": (c_void_p, ()),
    "ggml_backend_cpu_set_n_threads": (None, (c_void_p, c_int)),
    "ggml_backend_cpu_set_threadpool": (None, (c_void_p, c_void_p)),
    "ggml_threadpool_params_init": (None, (c_char_p, c_int)),
    "ggml_threadpool_new": (c_void_p, (c_char_p,)),
    "ggml_backend_cpu_buffer_from_ptr": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_tensor_alloc": (c_int, (c_void_p, c_void_p, c_void_p)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
}


def library() -> Any:
    """The functions, by what follows `ggml_` in their names."""
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    libraries = [ctypes.CDLL(str(path)) for path in sorted(folder.glob("libggml*.so"))]
    found = SimpleNamespace()
    for name, (result, arguments) in FUNCTIONS.items():
        function = next(getattr(lib, name) for lib in libraries if hasattr(lib, name))
        function.restype, function.argtypes = result, arguments
        setattr(found, name.removeprefix("ggml_"), function)
    return found


class FlashAttention(AttentionPeer):
    name = "ggml flash attention"
    needs: ClassVar = ("llama_cpp",)

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        self.ggml = ggml = library()
        self.backend = ggml.backend_cpu_init()
        ggml.backend_cpu_set_n_threads(self.backend, n_threads)
        params = ctypes.create_string_buffer(THREADPOOL_PARAMS_BYTES)
        ggml.threadpool_params_init(params, n_threads)
        ggml.backend_cpu_set_threadpool(self.backend, ggml.threadpool_new(params))
        self.kept: list[Any] = []  # memory that tensors point to
        self.calls = [self.graph(case, *tensors) for tensors in sets]

    def graph(self, case: Case, q: F32, k: F32, v: F32) -> tuple[Any, F32]:
        """One node, and the memory of its output, (1, n_q, n_head * head_dim)."""
        ggml = self.ggml
        context = ggml.init(InitParams(CONTEXT_BYTES, None, True))
        mask = None
        if case.causal and case.n_q > 1:
            seen = np.tril(np.ones((case.n_q, case.n_kv), bool), case.n_kv - case.n_q)
            mask = aligned((1, 1, case.n_q, case.n_kv), np.float16)
            mask[:] = np.where(seen, 0, -np.inf)
        tensors = [self.tensor(context, array) for array in (q, k, v, mask)]
        node = ggml.flash_attn_ext(context, *tensors, case.scale_value, 0.0, 0.0)
        ggml.flash_attn_ext_set_prec(node, PREC_F32)
        out = aligned((1, case.n_q, case.n_head * case.head_dim))
        self.place(node, out)
        graph = ggml.new_graph(context)
        ggml.build_forward_expand(graph, node)
        return graph, out

    def tensor(self, context: Any, array: Any) -> Any:
        """A tensor in the array's own memory; its extents are the array's, the last one first."""
        if array is None:
            return None
        kind = FLOAT16 if array.dtype == np.float16 else FLOAT32
        made = self.ggml.new_tensor_4d(context, kind, *reversed(array.shape))
        self.place(made, array)
        return made

    def place(self, tensor: Any, array: Any) -> None:
        self.kept.append(array)
        buffer = self.ggml.backend_cpu_buffer_from_ptr(array.ctypes.data, array.nbytes)
        self.ggml.backend_tensor_alloc(buffer, tensor, array.ctypes.data)

    def call(self, i: int) -> Any:
        graph, out = self.calls[i]
        self.ggml.backend_graph_compute(self.backend, graph)
        return out

    def result(self, out: Any) -> F32:
        return head_major(out, self.case.n_head)


PEERS = (FlashAttention,)

"""THE call: checks shapes, allocates the output and the workspace, dispatches, counts.

Every attention of a model passes through here, whichever kernel computes it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from ..errors import InputError
from ..system.threads import checked_threads
from . import abi
from .abi import Feature
from .loaders.contract import ContractKernel, check_claims, check_tiles
from .loaders.tensors import TensorKernel
from .registry import DEFAULT, Kernel, resolve
from .variants import PLAIN, Variants

INT32_MAX = 2**31 - 1
DTYPES = (
    (torch.float32, torch.float32, torch.float32),
    (torch.float32, torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16, torch.bfloat16),
)
ABI_DTYPES = {torch.float32: abi.FLOAT32, torch.bfloat16: abi.BFLOAT16}


class _Prepared(threading.local):
    """A thread's workspace, and the struct with the shapes that it was filled for."""

    def __init__(self) -> None:
        self.workspace = torch.empty(0, dtype=torch.uint8, device="cpu")
        self.call: tuple[object, ...] = ()
        self.args = abi.Args()


class Attention:
    """A kernel with its settings. Counts its calls and the seconds spent in them.

    Threads may share it; their counts may then miss some.
    """

    def __init__(
        self, kernel: Kernel | str | Path, *, n_threads: int | None = None, br: int = 0, bc: int = 0
    ) -> None:
        """A kernel or its name (see `registry.resolve`); br, bc: tile sizes, 0 for its choice."""
        self.kernel = resolve(kernel) if isinstance(kernel, str | Path) else kernel
        self.n_threads = checked_threads(n_threads)
        check_tiles(br, bc)
        self.br, self.bc = br, bc
        self.calls, self.seconds = 0, 0.0
        self._prepared = _Prepared()

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool,
        scale: float | None = None,
        variants: Variants = PLAIN,
        lse: Tensor | None = None,
    ) -> Tensor:
        """See `attention`. lse: float32 (batch, n_head, n_q) to be filled; its last stride is 1."""
        start = time.perf_counter()
        if isinstance(self.kernel, ContractKernel):
            out = self._run_contract(self.kernel, q, k, v, causal, scale, variants, lse)
        else:
            check_call(q, k, v, causal, variants)
            out = _run_tensors(self.kernel, q, k, v, causal, scale, variants, lse)
        self.calls += 1
        self.seconds += time.perf_counter() - start
        return out

    def _run_contract(
        self,
        kernel: ContractKernel,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        causal: bool,
        scale: float | None,
        variants: Variants,
        lse: Tensor | None,
    ) -> Tensor:
        shapes = (x for t in (q, k, v) for x in (t.shape, t.stride(), t.dtype, t.is_cpu))
        call = (*shapes, causal, scale, variants)
        mine = self._prepared
        known = call == mine.call  # the layers of a step are alike
        if not known:
            check_call(q, k, v, causal, variants)
        q, k, v = (t if t.stride(3) == 1 or t.shape[3] == 1 else t.contiguous() for t in (q, k, v))
        # Token-major memory, so that joining the heads behind the call is a view.
        batch, n_head, n_q, _ = q.shape
        size = (batch, n_q, n_head, v.shape[3])
        out = torch.empty(size, dtype=q.dtype, device="cpu").transpose(1, 2)
        if not known:
            mine.call, mine.args = (), self._filled(q, k, v, out, causal, scale, variants)
            self._reserve(kernel.workspace_bytes(mine.args))
            mine.call = call
        args = mine.args
        args.q, args.k, args.v = q.data_ptr(), k.data_ptr(), v.data_ptr()
        args.out, args.workspace = out.data_ptr(), mine.workspace.data_ptr()
        vectors = _vectors(variants)  # kept until the call has ended
        for name, vector in vectors.items():
            setattr(args, name, vector.data_ptr())
        args.lse = None
        if lse is not None:
            args.lse, args.lse_stride = lse.data_ptr(), (ctypes.c_int64 * 2)(*lse.stride()[:2])
        kernel.run(args)
        return out

    def _filled(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        causal: bool,
        scale: float | None,
        variants: Variants,
    ) -> abi.Args:
        """The struct of a call, without its pointers."""
        batch, n_head, n_q, head_dim = q.shape
        args = abi.shape_args(
            batch=batch,
            n_head=n_head,
            n_kv_head=k.shape[1],
            head_dim=head_dim,
            n_q=n_q,
            n_kv=k.shape[2],
            causal=causal,
            scale=head_dim**-0.5 if scale is None else scale,
            n_threads=self.n_threads,
            br=self.br,
            bc=self.bc,
            dtype=ABI_DTYPES[q.dtype],
            kv_dtype=ABI_DTYPES[k.dtype],
            window=variants.window,
            softcap=variants.softcap,
            head_dim_v=0 if v.shape[3] == head_dim else v.shape[3],
        )
        args.q_stride = abi.Strides(*q.stride()[:3])
        args.k_stride = abi.Strides(*k.stride()[:3])
        args.v_stride = abi.Strides(*v.stride()[:3])
        args.out_stride = abi.Strides(*out.stride()[:3])
        return args

    def _reserve(self, n_bytes: int) -> None:
        """Make the workspace at least this large; torch aligns it to 64 bytes."""
        if n_bytes <= self._prepared.workspace.numel():
            return
        try:
            self._prepared.workspace = torch.empty(n_bytes, dtype=torch.uint8, device="cpu")
        except RuntimeError as e:
            raise InputError(
                f"the kernel '{self.kernel.name}' wants {n_bytes:,} bytes of workspace, and there "
                "is not that much memory. Shorten the context, or choose another kernel with -a."
            ) from e


def _vectors(variants: Variants) -> dict[str, Tensor]:
    """The tensors among the variants, each in one piece, named as in the struct."""
    given = variants.given()
    return {n: given[n].contiguous() for n in ("alibi_slopes", "sinks", "kv_begin") if n in given}


def _run_tensors(
    kernel: TensorKernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    scale: float | None,
    variants: Variants,
    lse: Tensor | None,
) -> Tensor:
    given, needed = variants.given(), variants.needs()
    if v.shape[3] != q.shape[3]:
        given["head_dim_v"], needed = v.shape[3], needed | Feature.HEAD_DIM_V
    if lse is not None:
        given["return_lse"], needed = True, needed | Feature.LSE
    check_claims(kernel.name, kernel.features, needed)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    wide = (t.to(torch.float32) for t in (q, k, v))
    out = kernel.function(*wide, causal=causal, scale=scale, **given)
    if lse is not None:
        out, found = out
        lse.copy_(found)
    result: Tensor = out.to(q.dtype)
    return result


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = ...,
    scale: float | None = ...,
    kernel: Kernel | str | Path = ...,
    n_threads: int | None = ...,
    br: int = ...,
    bc: int = ...,
    window: int = ...,
    softcap: float = ...,
    alibi_slopes: Tensor | None = ...,
    sinks: Tensor | None = ...,
    kv_begin: Tensor | None = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = ...,
    scale: float | None = ...,
    kernel: Kernel | str | Path = ...,
    n_threads: int | None = ...,
    br: int = ...,
    bc: int = ...,
    window: int = ...,
    softcap: float = ...,
    alibi_slopes: Tensor | None = ...,
    sinks: Tensor | None = ...,
    kv_begin: Tensor | None = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    kernel: Kernel | str | Path = DEFAULT,
    n_threads: int | None = None,
    br: int = 0,
    bc: int = 0,
    window: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    kv_begin: Tensor | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * Q K^T + mask) V, computed by the kernel of your choice.

    A name is looked up (and compiled if need be) at every call; keep `resolve(name)` or an
    `Attention` where that matters. A file of yours runs in this process.

    Args:
        q: float32 (batch, n_head, n_q, head_dim), any strides, on the CPU; or bfloat16, if k is.
        k: float32 or bfloat16 (batch, n_kv_head, n_kv, head_dim); n_kv_head divides n_head.
        v: like k; its rows, and so those of the output, may have another length.
        causal: query i sees the keys j <= i + n_kv - n_q (aligned to the bottom right).
        scale: what the scores are multiplied by; None: 1/sqrt(head_dim).
        kernel: a name, a path, or what `resolve` returned.
        n_threads: at most this many; None: every processor.
        br: queries a tile, 0 for the kernel's choice; kernels without tiles ignore it.
        bc: keys a tile, likewise.
        window: how many keys a query sees at most, its own the last; 0: all. Causal calls only.
        softcap: scores become softcap tanh(score / softcap); 0: they do not.
        alibi_slopes: float32 (n_head,): slope (j - p) is added to the score of key j and the query
            at position p = i + n_kv - n_q.
        sinks: float32 (n_head,): one more score of every softmax, which has no value.
        kv_begin: int32 (batch,): keys before it are hidden, such as padding on the left.
        return_lse: return (out, lse) instead, lse float32 (batch, n_head, n_q): the logarithm of
            the sum of the exponentials of a query's scores, and of its sink.

    Returns:
        (batch, n_head, n_q, v's head_dim), of the dtype of q. Zeros where no key is seen.

    Raises:
        InputError: shapes or dtypes that do not fit together, or an unknown kernel.
        KernelDeclined: the kernel cannot do this, or does not claim to.
    """
    given = [type(t).__name__ for t in (q, k, v) if not isinstance(t, Tensor)]
    if given:
        raise InputError(f"q, k and v must be torch tensors, not {given[0]}.")
    call = Attention(kernel, n_threads=n_threads, br=br, bc=bc)
    variants = Variants(window, softcap, alibi_slopes, sinks, kv_begin)
    lse = q.new_empty(q.shape[:3], dtype=torch.float32) if return_lse else None
    out = call(q, k, v, causal=causal, scale=scale, variants=variants, lse=lse)
    return out if lse is None else (out, lse)


def check_call(q: Tensor, k: Tensor, v: Tensor, causal: bool, variants: Variants = PLAIN) -> None:
    """Raise InputError, with the shapes, unless q, k and v make an attention call."""
    problem = _problem(q, k, v, causal)
    if problem is None:
        problem = variants.problem(q.shape[0], q.shape[1], k.shape[2], causal)
    if problem:
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        raise InputError(f"{problem}: {shapes}.")


def _problem(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> str | None:
    tensors = (q, k, v)
    if any(t.dim() != 4 for t in tensors):
        return "q, k and v must have four dimensions (batch, n_head, n, head_dim)"
    if any(t.device.type != "cpu" for t in tensors) or (q.dtype, k.dtype, v.dtype) not in DTYPES:
        return (
            "q, k and v must be float32, or k and v bfloat16, or all three, on the CPU, "
            f"not {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if k.shape[:3] != v.shape[:3]:
        return "k and v must agree in all but the length of their rows"
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        return "q and k must agree in batch and head_dim"
    if any(not 1 <= n <= INT32_MAX for t in tensors for n in t.shape):
        return "every dimension must be from 1 to 2^31 - 1"
    if q.shape[1] % k.shape[1]:
        return "the number of key heads must divide the number of query heads"
    if causal and q.shape[2] > k.shape[2]:
        return "a causal call needs n_q <= n_kv"
    return None

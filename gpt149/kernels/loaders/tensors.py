"""Kernels that are functions on torch tensors: torch's own attention, and the specification."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..abi import Feature

if TYPE_CHECKING:
    from torch import Tensor


# (q, k, v, *, causal, scale) -> out: q and out (batch, n_head, n_q, head_dim), k and v (batch,
# n_kv_head, n_kv, head_dim), float32. Besides, of PARAMETERS what it has; with return_lse it
# returns a pair, the second (batch, n_head, n_q).
TensorFunction = Callable[..., Any]

# What a feature is called as a parameter of a function on tensors. Types are converted for it.
PARAMETERS = {
    "window": Feature.WINDOW,
    "softcap": Feature.SOFTCAP,
    "alibi_slopes": Feature.ALIBI,
    "sinks": Feature.SINKS,
    "kv_begin": Feature.KV_BEGIN,
    "head_dim_v": Feature.HEAD_DIM_V,
    "return_lse": Feature.LSE,
}
CONVERTED = Feature.KV_BFLOAT16 | Feature.Q_BFLOAT16


@dataclass(frozen=True)
class TensorKernel:
    """A function with what `gpt149 kernels` says of it. adapted: calls
    are made of other calls for it.
    """

    name: str
    idea: str
    memory: str
    function: TensorFunction
    isa: str = "torch"
    features: Feature = CONVERTED
    adapted: bool = False


def features_of(function: Callable[..., Any]) -> Feature:
    """What a function claims by the names of its parameters."""
    names = inspect.signature(function).parameters
    claimed = CONVERTED
    for name, feature in PARAMETERS.items():
        if name in names:
            claimed |= feature
    return claimed


def torch_kernel() -> TensorKernel:
    return TensorKernel(
        "torch",
        "torch's scaled_dot_product_attention: the yardstick",
        "chosen by torch",
        _torch_attention,
        features=features_of(_torch_attention),
    )


def reference_kernel() -> TensorKernel:
    return TensorKernel(
        "reference",
        "float64, the specification",
        "O(batch n_head n_q n_kv)",
        _reference_attention,
        features=features_of(_reference_attention),
    )


def _torch_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool,
    scale: float,
    window: int = 0,
    alibi_slopes: Tensor | None = None,
    kv_begin: Tensor | None = None,
    head_dim_v: int = 0,
) -> Tensor:
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    n_q, n_kv = q.shape[2], k.shape[2]
    grouped = k.shape[1] != q.shape[1]
    # torch's is_causal is aligned to the top left: the same as ours when the call is square. One
    # query sees every key. What lies between needs the mask written out.
    square = n_q == n_kv
    plain = not window and alibi_slopes is None and kv_begin is None
    if plain and (square or n_q == 1 or not causal):
        is_causal = causal and square
        return sdpa(q, k, v, is_causal=is_causal, scale=scale, enable_gqa=grouped)
    sees = _sees(n_q, n_kv, causal, window, kv_begin)
    mask = sees
    if alibi_slopes is not None:
        mask = (alibi_slopes[:, None, None] * _distance(n_q, n_kv)).masked_fill(~sees, -torch.inf)
    out = sdpa(q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped)
    return out.masked_fill(~sees.any(-1, keepdim=True), 0)


def _reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    kv_begin: Tensor | None = None,
    head_dim_v: int = 0,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    import torch

    batch, n_head, n_q, _ = q.shape
    group, n_kv = n_head // k.shape[1], k.shape[2]
    hidden = ~_sees(n_q, n_kv, causal, window, kv_begin)[:, 0]
    out = q.new_empty(batch, n_head, n_q, v.shape[3])
    lse = q.new_empty(batch, n_head, n_q)
    for h in range(n_head):  # one at a time: float64 scores of all take much memory
        scores = scale * q[:, h].double() @ k[:, h // group].double().transpose(-2, -1)
        if softcap:
            scores = softcap * (scores / softcap).tanh()
        if alibi_slopes is not None:
            scores = scores + alibi_slopes[h].double() * _distance(n_q, n_kv)
        scores.masked_fill_(hidden, -torch.inf)
        if sinks is not None:
            scores = torch.cat((scores, sinks[h].double().expand(batch, n_q, 1)), -1)
        # Softmax of nothing is NaN, and is to be 0; NaN that was put in stays.
        weights = scores.softmax(-1)[..., :n_kv].masked_fill(hidden, 0)
        out[:, h] = weights @ v[:, h // group].double()
        lse[:, h] = scores.logsumexp(-1)
    return (out, lse) if return_lse else out


def _sees(n_q: int, n_kv: int, causal: bool, window: int, kv_begin: Tensor | None) -> Tensor:
    """True where query i sees key j: (batch or 1, 1, n_q, n_kv)."""
    import torch

    sees = torch.ones(1, 1, n_q, n_kv, dtype=torch.bool)
    if causal:  # j <= i + n_kv - n_q
        sees = sees.tril(n_kv - n_q)
    if window:
        sees = sees.triu(n_kv - n_q - window + 1)
    if kv_begin is not None:
        sees = sees & (torch.arange(n_kv) >= kv_begin[:, None, None, None])
    return sees


def _distance(n_q: int, n_kv: int) -> Tensor:
    """J - p of query i, at p = i + n_kv - n_q, and key j: (n_q, n_kv)."""
    import torch

    return torch.arange(n_kv) - (torch.arange(n_q)[:, None] + n_kv - n_q)


TENSOR_KERNELS: dict[str, Callable[[], TensorKernel]] = {
    "torch": torch_kernel,
    "reference": reference_kernel,
}

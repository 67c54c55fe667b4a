"""What a call may ask of its attention besides mask and scale; see csrc/gpt149.h."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .abi import Feature
from .loaders.tensors import PARAMETERS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Variants:
    """0 and None: the call has none of it.

    window: how many keys a query sees at most, its own the last; causal calls only.
    softcap: s = softcap tanh(s / softcap) of a score s, before anything is added to it.
    alibi_slopes: float32 (n_head,): s += slope (j - p) for key j and the query at position p.
    sinks: float32 (n_head,): one more score of every softmax, which has no value.
    kv_begin: int32 (batch,): the keys before it are hidden.
    """

    window: int = 0
    softcap: float = 0.0
    alibi_slopes: Tensor | None = None
    sinks: Tensor | None = None
    kv_begin: Tensor | None = None

    def given(self) -> dict[str, Any]:
        """Those that the call has, as `PARAMETERS` calls them."""
        numbers = {"window": self.window, "softcap": self.softcap}
        tensors = {n: getattr(self, n) for n in ("alibi_slopes", "sinks", "kv_begin")}
        return {n: x for n, x in numbers.items() if x} | {
            n: x for n, x in tensors.items() if x is not None
        }

    def needs(self) -> Feature:
        """What a kernel must claim for them."""
        needed = Feature(0)
        for name in self.given():
            needed |= PARAMETERS[name]
        return needed

    def problem(self, batch: int, n_head: int, n_kv: int, causal: bool) -> str | None:
        """Why they do not fit a call, if so."""
        import torch

        if self.window < 0 or (self.window and not causal):
            return f"window is {self.window}, and must be 0, or from 1 on in a causal call"
        if not 0 <= self.softcap < math.inf:
            return f"softcap is {self.softcap}, and must be finite and from 0 on"
        for name, n, dtype in (
            ("alibi_slopes", n_head, torch.float32),
            ("sinks", n_head, torch.float32),
            ("kv_begin", batch, torch.int32),
        ):
            given = getattr(self, name)
            if given is None:
                continue
            if given.shape != (n,) or given.dtype != dtype or given.device.type != "cpu":
                return (
                    f"{name} must be {dtype} ({n},) on the CPU, not {given.dtype} "
                    f"{tuple(given.shape)}"
                )
        begin = self.kv_begin
        if begin is not None and not bool(((begin >= 0) & (begin <= n_kv)).all()):
            return f"kv_begin is {begin.tolist()}, and must be from 0 to n_kv = {n_kv}"
        return None


PLAIN = Variants()

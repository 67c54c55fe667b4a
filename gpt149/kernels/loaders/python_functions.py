"""Kernels that are Python functions of another signature than ours; see `python_reading`.

Calls beyond what the function knows are made of calls within it, exactly, as in
`csrc/functions/adapter.cpp`. The classes of CS336 may count on powers of two from 16 on: tokens
behind the last are hidden by the mask or, where there is none, by one more number of q and k.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...errors import KernelRaised
from ..abi import Feature
from ..signatures import Signature
from .python import checked, said
from .tensors import CONVERTED, TensorKernel

if TYPE_CHECKING:
    from torch import Tensor

TILE = 32  # where a function asks for one
LEAST_TILE = 16  # of CS336, whose sizes are powers of two
OTHERWISE = "if it means other axes, a line such as '# gpt149: axes=nd' in the file says so."
HIDDEN = -1e30  # a score that no other is below, and whose exp is 0


def function(module: ModuleType, path: Path, signature: Signature) -> TensorKernel:
    """The function of that signature in a Python file's module."""
    call = Adapted(getattr(module, signature.function), path, signature)
    features = CONVERTED | (Feature.LSE if signature.kind == "autograd" else Feature(0))
    idea = f"{signature.function}: {signature.words}"
    return TensorKernel(
        signature.function, idea, "chosen by Python", checked(call, path), "python", features, True
    )


class Adapted:
    """A function of another signature, as one of ours."""

    def __init__(self, call: Callable[..., Any], path: Path, signature: Signature) -> None:
        self._call, self._path, self._is = call, path, signature

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool,
        scale: float,
        return_lse: bool = False,
    ) -> Any:
        """See `tensors.TensorFunction`."""
        import torch

        n_q, n_kv = q.shape[2], k.shape[2]
        if not self._is.grouped and k.shape[1] != q.shape[1]:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        out = q.new_empty(*q.shape[:3], v.shape[3])
        lse = q.new_empty(q.shape[:3])
        for rows, n, first, masked in self._calls(n_q, n_kv, causal):
            some = q[:, :, rows]
            before = some.new_zeros(*some.shape[:2], first, some.shape[3])
            behind = n - first - some.shape[2] if self._is.square else 0
            after = some.new_zeros(*some.shape[:2], behind, some.shape[3])
            wide = torch.cat((before, some, after), 2)
            found, sums = self._attend(wide, k[:, :, :n], v[:, :, :n], masked, scale, return_lse)
            own = slice(first, first + some.shape[2])
            out[:, :, rows] = found[:, :, own]
            if sums is not None:
                lse[:, :, rows] = sums[:, :, own]
        return (out, lse) if return_lse else out

    def _calls(self, n_q: int, n_kv: int, causal: bool) -> Iterator[tuple[slice, int, int, bool]]:
        """Rows of q, over how many keys, how many rows of zeros come before them, masked or not."""
        told = "causal" in self._is.roles
        masks, can_be_full = told or self._is.causal, told or not self._is.causal
        if not self._is.square and can_be_full and (not causal or n_q == 1):
            yield slice(0, n_q), n_kv, 0, False
        elif causal and masks:
            yield slice(0, n_q), n_kv, n_kv - n_q, True
        elif not causal and can_be_full:
            for i in range(0, n_q, n_kv):
                yield slice(i, min(i + n_kv, n_q)), n_kv, 0, False
        else:
            for i in range(n_q):
                n = i + n_kv - n_q + 1 if causal else n_kv
                rows_before = n - 1 if self._is.square or not can_be_full else 0
                yield slice(i, i + 1), n, rows_before, not can_be_full

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, masked: bool, scale: float, with_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Calls that the function knows, one unless it lacks a batch or heads."""
        n_q, d, d_v = q.shape[2], q.shape[3], v.shape[3]
        if self._is.kind == "autograd":
            q, k, v = _in_powers(q, k, v, masked)
        factor = 1.0
        if "scale" not in self._is.roles:
            factor = scale * (
                math.sqrt(q.shape[3]) if self._is.scale is None else 1 / self._is.scale
            )
        if abs(factor - 1) > 1e-6:
            q = q * _columns(q, d, factor)
        out, lse = self._in_layout(q, k, v, masked, scale, with_lse)
        return out[:, :, :n_q, :d_v], None if lse is None else lse[:, :, :n_q]

    def _in_layout(
        self, q: Tensor, k: Tensor, v: Tensor, masked: bool, scale: float, with_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The call in the function's axes; q, k, v and what is returned (batch, n_head, n, d)."""
        split = zip(*(_split(t, self._is.axes) for t in (q, k, v)), strict=True)
        made = [self._made(a, b, c, masked, scale, with_lse) for a, b, c in split]
        sums = [lse[..., None] for _, lse in made if lse is not None]
        lse = _joined(sums, self._is.axes, q)[..., 0] if sums else None
        return _joined([out for out, _ in made], self._is.axes, q), lse

    def _made(
        self, q: Tensor, k: Tensor, v: Tensor, masked: bool, scale: float, with_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One call of the function."""
        import torch

        sizes = dict(zip(self._is.axes, q.shape, strict=True))
        out = q.new_full((*q.shape[:-1], v.shape[-1]), math.nan)
        values: dict[str, Any] = {
            "q": q, "k": k, "v": v, "out": out, "scale": scale, "causal": masked,
            "batch": sizes.get("b"), "n_head": sizes.get("h"), "n": sizes["n"], "n_q": sizes["n"],
            "n_kv": k.shape[self._is.axes.index("n")], "head_dim": sizes["d"],
            "br": TILE, "bc": TILE, "n_threads": torch.get_num_threads(),
        }  # fmt: skip
        if self._is.in_numpy:
            values |= {name: values[name].numpy() for name in ("q", "k", "v", "out")}
        with torch.enable_grad() if with_lse else nullcontext():
            if with_lse:
                values["q"] = q.detach().requires_grad_()
            try:
                returned = self._returned(values)
            except (Exception, SystemExit) as e:
                shapes = ", ".join(f"{name} {tuple(values[name].shape)}" for name in "qkv")
                raise KernelRaised(
                    f"the kernel {self._path} raised {said(e, self._path)}. It was given {shapes}; "
                    f"{OTHERWISE}"
                ) from e
        result = returned[0] if isinstance(returned, tuple) else returned
        if returned is None and "out" in self._is.roles:
            result = values["out"]
        if self._is.in_numpy and result is not None:
            import numpy as np

            result = torch.from_numpy(np.ascontiguousarray(result, dtype=np.float32))
        if not isinstance(result, torch.Tensor) or result.shape != out.shape:
            got = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
            raise KernelRaised(
                f"the kernel {self._path} returned {got} for q {tuple(q.shape)}, v "
                f"{tuple(v.shape)}, and must return {tuple(out.shape)}; {OTHERWISE}"
            )
        lse = self._saved(result, q) if with_lse else None
        return result.detach().float(), lse

    def _returned(self, values: dict[str, Any]) -> Any:
        known = self._is.roles
        if self._is.kind == "data":
            return self._call(tuple(values[role] for role in known))
        if self._is.kind == "function":
            named = zip(self._is.names, known, strict=True)
            return self._call(**{name: values[role] for name, role in named if role})
        # apply takes no names: defaults are filled in up to the last that is known.
        forward: Any = self._call.forward  # type: ignore[attr-defined]
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        last = max(i for i, role in enumerate(known) if role)
        return self._call.apply(  # type: ignore[attr-defined]
            *(
                values[role] if role else parameter.default
                for role, parameter in zip(known[: last + 1], parameters, strict=False)
            )
        )

    def _saved(self, out: Tensor, q: Tensor) -> Tensor:
        """The log-sum-exp, the one tensor (batch, n_q) that was saved for the way back."""
        saved = getattr(out.grad_fn, "saved_tensors", ())
        of_rows = [t for t in saved if t is not None and t.shape == q.shape[:-1]]
        if len(of_rows) != 1:
            raise KernelRaised(
                f"the kernel {self._path} saves {len(of_rows)} tensors of {tuple(q.shape[:-1])} by "
                "ctx.save_for_backward, and must save one: the log-sum-exp of each query."
            )
        lse: Tensor = of_rows[0].detach().float()
        return lse


def _split(t: Tensor, axes: str) -> list[Tensor]:
    """(batch, n_head, n, d) in other axes: one tensor, or one for each batch, or head."""
    parts: dict[str, Callable[[], list[Tensor]]] = {
        "bhnd": lambda: [t],
        "bnhd": lambda: [t.transpose(1, 2)],
        "bnd": lambda: [t.flatten(0, 1)],
        "hnd": lambda: list(t),
        "nhd": lambda: [one.transpose(0, 1) for one in t],
        "nd": lambda: list(t.flatten(0, 1)),
    }
    return [one.contiguous() for one in parts[axes]()]


def _joined(parts: list[Tensor], axes: str, like: Tensor) -> Tensor:
    """The reverse of `_split`; like: of the same batch and n_head."""
    import torch

    whole = torch.stack(parts)
    if axes in ("bnhd", "nhd"):
        whole = whole.transpose(-3, -2)
    return whole.reshape(*like.shape[:2], *whole.shape[-2:])


def _in_powers(q: Tensor, k: Tensor, v: Tensor, masked: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Padded with zeros to sizes that are powers of two, and what is added hidden from all."""
    from torch.nn.functional import pad

    d, n_kv = q.shape[3], k.shape[2]
    n_rows, n_keys = _power(q.shape[2]), _power(n_kv)
    hides = n_keys > n_kv and not masked
    width = _power(d + hides)
    wide = [
        pad(t, (0, width - d, 0, n - t.shape[2]))
        for t, n in ((q, n_rows), (k, n_keys), (v, n_keys))
    ]
    if hides:
        wide[0][..., d] = 1
        wide[1][:, :, n_kv:, d] = HIDDEN
    return wide[0], wide[1], wide[2]


def _power(n: int) -> int:
    return max(LEAST_TILE, 1 << (n - 1).bit_length())


def _columns(q: Tensor, d: int, factor: float) -> Tensor:
    """What multiplies q's rows: the factor, and 1 for what was added to them."""
    columns = q.new_ones(q.shape[3])
    columns[:d] = factor
    return columns

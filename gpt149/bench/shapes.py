"""Calls of attention to be timed, and how -s writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..check.cases import Case
from ..check.judge import Variant
from ..errors import InputError

MOST_SET_BYTES = 96 << 20  # two sets of inputs above, three below
MOST_EXTENT = 1 << 20
OPTIONS = ":full, :window=N, :softcap=X, :alibi, :sinks, :head_dim_v=N and :bf16"


@dataclass(frozen=True)
class Shape:
    """A call to be timed: prefill where n_q = n_kv, decode where n_q = 1.

    window, softcap, head_dim_v: as in csrc/gpt149.h. alibi, sinks: whether there are slopes and
    sinks: see `vectors`. half: everything is bfloat16.
    """

    name: str
    n_head: int
    n_q: int
    n_kv: int
    head_dim: int
    causal: bool = True
    window: int = 0
    softcap: float = 0.0
    alibi: bool = False
    sinks: bool = False
    head_dim_v: int = 0
    half: bool = False

    def case(self, n_threads: int) -> Case:
        """The call with a few sets of inputs, one a batch."""
        row = self.n_head * self.head_dim * 4
        n_sets = 2 if 2 * row * (self.n_q + self.n_kv) > MOST_SET_BYTES else 3
        case = Case(self.name, n_sets, self.n_head, self.n_head, self.n_q, self.n_kv, self.head_dim)
        names = ("causal", "window", "softcap", "alibi", "sinks", "head_dim_v", "half")
        shared: dict[str, Any] = {name: getattr(self, name) for name in names}
        return replace(case, n_threads=n_threads, **shared)

    def vectors(self) -> dict[str, NDArray[np.float32]]:
        return vectors(self)

    def variant(self, h: int, rows: NDArray[np.int_]) -> Variant:
        """What some queries of head h are judged with."""
        own, vectors = rows + self.n_kv - self.n_q, self.vectors()
        variant = Variant(softcap=self.softcap, half=self.half, half_out=self.half)
        if self.window:
            variant = replace(variant, first=own - self.window + 1)
        if self.alibi:
            slope = float(vectors["alibi_slopes"][h])
            bias = slope * (np.arange(self.n_kv) - own[:, None]).astype(np.float64)
            variant = replace(variant, bias=bias, counted=slope * self.n_kv)
        if self.sinks:
            variant = replace(variant, sink=float(vectors["sinks"][h]))
        return variant

    @property
    def pairs(self) -> int:
        """Queries times the keys that they see, over all heads."""
        if not self.causal:
            return self.n_head * self.n_q * self.n_kv

        def up_to(n: int) -> int:  # keys of the queries that stand before position n
            seen = min(n, self.window) if self.window else n
            return seen * (seen + 1) // 2 + (n - seen) * seen

        return self.n_head * (up_to(self.n_kv) - up_to(self.n_kv - self.n_q))

    @property
    def flops(self) -> int:
        """Multiplications and additions of both products; those of the softmax do not count."""
        return 2 * self.pairs * (self.head_dim + (self.head_dim_v or self.head_dim))

    @property
    def n_bytes(self) -> int:
        """q, and k and v of keys that are seen, read once, out written once."""
        n_kv = min(self.n_kv, self.n_q - 1 + self.window) if self.window else self.n_kv
        width = self.head_dim + (self.head_dim_v or self.head_dim)
        return (2 if self.half else 4) * self.n_head * width * (self.n_q + n_kv)


def vectors(call: Shape | Case) -> dict[str, NDArray[np.float32]]:
    """Those of alibi_slopes and sinks that a call has, (n_head,): as of scores, in every head.

    Slopes: Press, Smith and Lewis, Train Short, Test Long, 2022.
    """
    heads = np.arange(call.n_head, dtype=np.float32)
    given = {"alibi_slopes": np.exp2(-8 * (heads + 1) / call.n_head)} if call.alibi else {}
    return given | ({"sinks": np.cos(heads)} if call.sinks else {})


def parse(text: str) -> Shape:
    """`HEADS,TOKENS,DIM`: a causal prefill; TOKENS may be `N_QxN_KV`; behind it `:OPTION`s.

    Raises:
        InputError: it is something else.
    """
    size, *options = text.split(":")
    found = re.fullmatch(r"(\d+),(?:(\d+)x)?(\d+),(\d+)", size)
    if found is None:
        raise InputError(
            f"the shape '{text}' must be HEADS,TOKENS,DIM, such as 12,1024,64, 12,1024,64:full, "
            "12,1x4096,64 or 12,4096,64:window=512."
        )
    n_head, n_kv, d = int(found[1]), int(found[3]), int(found[4])
    n_q = int(found[2] or n_kv)
    shape = Shape(text, n_head, n_q, n_kv, d)
    named = [option.partition("=")[0] for option in options]
    for option in options:
        more = _with(shape, option)
        if more is None or named.count(option.partition("=")[0]) > 1:
            raise InputError(
                f"'{option}' in the shape '{text}' cannot be: behind HEADS,TOKENS,DIM come, "
                f"each once, {OPTIONS}."
            )
        shape = more
    numbers = (n_head, n_q, n_kv, d, shape.window or 1, shape.head_dim_v or 1)
    if min(numbers) < 1 or max(numbers) > MOST_EXTENT:
        raise InputError(f"the numbers of '{text}' must be from 1 to {MOST_EXTENT}.")
    if shape.causal and n_q > n_kv:
        raise InputError(f"'{text}' is causal, and must have at least as many keys as queries.")
    if shape.window and not shape.causal:
        raise InputError(f"'{text}' has a window, which only causal calls have.")
    return replace(shape, head_dim_v=0) if shape.head_dim_v == d else shape


def _with(shape: Shape, option: str) -> Shape | None:
    """The shape with an option; None where there is no such."""
    name, _, value = option.partition("=")
    given: dict[str, Any] = {}
    if option in ("alibi", "sinks"):
        given[name] = True
    elif option == "full":
        given["causal"] = False
    elif option == "bf16":
        given["half"] = True
    elif name in ("window", "head_dim_v") and re.fullmatch(r"[1-9]\d*", value):
        given[name] = int(value)
    elif name == "softcap" and re.fullmatch(r"\d+(\.\d+)?", value) and float(value) > 0:
        given[name] = float(value)
    return replace(shape, **given) if given else None


SHAPES = (
    "4,1024,32:full",  # the assignment's
    "4,1024,32",
    "12,128,64",  # GPT-2's
    "12,1024,64",
    "12,1024,64:full",
    "8,4096,64",
    "12,1x256,64",
    "12,1x1024,64",
    "12,1x4096,64",
    "12,1x16384,64",
)
SWEEP = tuple(f"4,{n},64" for n in (64, 128, 256, 512, 1024, 2048))  # for pictures over n

"""The conformance cases: one list for the command and for the tests, each replayable by its name.

A case fixes a shape, a memory layout and the numbers in it. Inputs are random with distinct heads
and batches: constants and ramps hide exactly the mistakes that matter. Some are made by hand;
`pairs.py` makes those in which everything meets everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import abi
from ..kernels.abi import Feature
from . import pairs, variants

F32 = np.float32
SEED = 149
# The fields that ask for a feature.
FIELDS = {
    "window": Feature.WINDOW,
    "softcap": Feature.SOFTCAP,
    "alibi": Feature.ALIBI,
    "sinks": Feature.SINKS,
    "kv_begin": Feature.KV_BEGIN,
    "head_dim_v": Feature.HEAD_DIM_V,
    "lse": Feature.LSE,
    "half_kv": Feature.KV_BFLOAT16,
    "half": Feature.Q_BFLOAT16,
}
# What changes out, and not only its type.
CHANGES_OUT = (
    Feature.WINDOW
    | Feature.SOFTCAP
    | Feature.ALIBI
    | Feature.SINKS
    | Feature.KV_BEGIN
    | Feature.HEAD_DIM_V
)


@dataclass(frozen=True)
class Case:
    """One call, or a few calls on the same buffers.

    layout: `contiguous`; `model` (q a slice of a fused QKV projection, k and v views of a longer
        KV cache, out token-major); `padded` (gaps between all rows, heads and batches); `far` (so
        far apart that offsets pass 2^31); `edge` (each tensor ends where mapped memory does).
    inputs: `normal`; `large` (logits of some hundreds); `falling` (the first keys score far higher
        than the later ones); `rising` (the reverse); `falling-far`, `rising-far` (so far that exp
        of a difference overflows, and exp of no score does); `low` (scores near -100,000).
    calls: `once`; `again` (three times, each judged); `changed` (a second call on the same buffers
        with other numbers in them, judged);
        `heads` (the host calls from several threads at once, each on heads of its own).
    half_kv: k and v in bfloat16; half: q and out as well.
    window, softcap, head_dim_v: as in `gpt149_args`. alibi, sinks, kv_begin: whether there are
        slopes, sinks and hidden first keys: see `vectors`. lse: whether it is asked for.
    """

    name: str
    batch: int
    n_head: int
    n_kv_head: int
    n_q: int
    n_kv: int
    head_dim: int
    causal: bool = True
    scale: float | None = None  # None: 1 / sqrt(head_dim)
    br: int = 0
    bc: int = 0
    n_threads: int = 1
    layout: str = "contiguous"
    inputs: str = "normal"
    calls: str = "once"
    half_kv: bool = False
    half: bool = False
    window: int = 0
    softcap: float = 0.0
    alibi: bool = False
    sinks: bool = False
    kv_begin: bool = False
    head_dim_v: int = 0
    lse: bool = False
    aligned: bool = True
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.half:
            object.__setattr__(self, "half_kv", True)

    @property
    def needs(self) -> Feature:
        """What a kernel must claim to be asked this."""
        needed = Feature(0)
        for name, feature in FIELDS.items():
            if getattr(self, name):
                needed |= feature
        return needed

    @property
    def width(self) -> int:
        """The length of rows of v and out."""
        return self.head_dim_v or self.head_dim

    @property
    def scale_value(self) -> float:
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def shape(self) -> dict[str, Any]:
        """The arguments of `abi.shape_args`."""
        names = ("batch", "n_head", "n_kv_head", "head_dim", "n_q", "n_kv", "causal")
        tuning = ("n_threads", "br", "bc")
        values = {name: getattr(self, name) for name in (*names, *tuning)}
        variants = {name: getattr(self, name) for name in ("window", "softcap", "head_dim_v")}
        dtypes = {
            name: abi.BFLOAT16 if half else abi.FLOAT32
            for name, half in (("dtype", self.half), ("kv_dtype", self.half_kv))
        }
        return values | variants | dtypes | {"scale": self.scale_value}

    @property
    def pairs(self) -> int:
        """Queries times the keys that they see without variants, over the heads of one batch."""
        hidden = self.n_q * (self.n_q - 1) // 2 if self.causal else 0
        return self.n_head * (self.n_q * self.n_kv - hidden)

    @property
    def flops(self) -> int:
        """Multiplications and additions of both products for one batch; softmax not counted."""
        return 2 * self.pairs * (self.head_dim + self.width)

    @property
    def work(self) -> int:
        """Scores in all: the smallest failing case is the one with the least."""
        return self.batch * self.n_head * self.n_q * self.n_kv * self.head_dim

    def describe(self) -> str:
        """The shape and what is special about it, in the words of the contract."""
        parts = [f"n_q={self.n_q}", f"n_kv={self.n_kv}", "causal" if self.causal else "full"]
        parts.append(f"batch={self.batch} n_head={self.n_head} head_dim={self.head_dim}")
        if self.n_kv_head != self.n_head:
            parts.append(f"n_kv_head={self.n_kv_head}")
        if self.br or self.bc:
            parts.append(f"br={self.br} bc={self.bc}")
        if self.n_threads != 1:
            parts.append(f"n_threads={self.n_threads}")
        for value, usual in (
            (self.layout, "contiguous"),
            (self.inputs, "normal"),
            (self.calls, "once"),
        ):
            if value != usual:
                parts.append(value)
        if self.half_kv:
            parts.append("dtype=bfloat16" if self.half else "kv_dtype=bfloat16")
        for name in ("window", "softcap", "head_dim_v"):
            if value := getattr(self, name):
                parts.append(f"{name}={value:g}")
        parts += [name for name in ("alibi", "sinks", "kv_begin", "lse") if getattr(self, name)]
        return " ".join(parts)

    def draw(self, repeat: int = 0) -> tuple[NDArray[F32], NDArray[F32], NDArray[F32]]:
        """q, k and v (batch, heads, n, head_dim); another `repeat` gives other numbers.

        v has rows of `width`. What is in bfloat16 are numbers that it has.
        """
        rng = np.random.default_rng([self.seed, self.work, repeat])
        kv = (self.batch, self.n_kv_head, self.n_kv, self.head_dim)
        q = rng.standard_normal((self.batch, self.n_head, self.n_q, self.head_dim), F32)
        k = rng.standard_normal(kv, F32)
        v = rng.standard_normal((*kv[:3], self.width), F32)
        if self.inputs == "large":
            q *= F32(100)
        if self.inputs in ("falling", "rising"):
            # A direction that all queries share lifts the scores of one end of the keys.
            q[..., 0] = 4 / self.scale_value**0.5
            ramp = np.linspace(12, 0, self.n_kv, dtype=F32) / F32(self.scale_value**0.5)
            k[..., 0] = ramp if self.inputs == "falling" else ramp[::-1]
        if self.inputs in ("falling-far", "rising-far"):
            q[..., 0] = 4 / self.scale_value**0.5
            ramp = np.linspace(15, -15, self.n_kv, dtype=F32) / F32(self.scale_value**0.5)
            k[..., 0] = ramp if self.inputs == "falling-far" else ramp[::-1]
        if self.inputs == "low":
            # Numbers of few bits, the large product last: most orders of summing are then exact.
            q, k = np.round(2 * q) / F32(2), np.round(4 * k) / F32(4)
            lowering = 2.0 ** round(math.log2(1e5 / self.scale_value) / 2)
            q[..., -1], k[..., -1] = lowering, -lowering
        if self.half_kv:
            k, v = ((t.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32) for t in (k, v))
        if self.half:
            q = (q.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
        return q, k, v

    def vectors(self, repeat: int = 0) -> dict[str, NDArray[Any]]:
        """Those that the case has of alibi_slopes, sinks (n_head,) and kv_begin (batch,).

        Slopes and sinks differ from head to head, and are no formula's. Of four heads one has a
        sink far above all scores, one far below. Of several batches, the second is wholly hidden
        and the third not at all.
        """
        rng = np.random.default_rng([self.seed, self.work, repeat, 22])
        slopes = np.exp(rng.uniform(np.log(0.02), np.log(0.4), self.n_head)).astype(F32)
        sinks = rng.normal(1, 1, self.n_head).astype(F32)
        sinks[2::4], sinks[3::4] = 110, -1e4
        begins = rng.integers(1, max(2, self.n_kv), self.batch, np.int32)
        begins[1:2], begins[2:3] = self.n_kv, 0
        drawn = {"alibi_slopes": slopes, "sinks": sinks, "kv_begin": begins}
        has = {"alibi_slopes": self.alibi, "sinks": self.sinks, "kv_begin": self.kv_begin}
        return {name: vector for name, vector in drawn.items() if has[name]}


def square(name: str, n: int, *, n_head: int = 2, d: int = 32, **more: object) -> Case:
    return replace(Case(name, 1, n_head, n_head, n, n, d), **more)  # type: ignore[arg-type]


def quick() -> list[Case]:
    """What every mistake that we know of shows in, small enough for a second or two.

    Tensors are aligned no better than the contract promises.
    """
    rows = (*pairs.calls(2), *variants.by_hand(), *variants.calls(1))
    return _as_promised([*_by_hand(), *(Case(**row) for row in rows)])


def _as_promised(cases: list[Case]) -> list[Case]:
    return [replace(case, aligned=False) for case in cases]


def _by_hand() -> list[Case]:
    return [
        # The model's own shapes: prefill, chunk, decode.
        square("prefill", 37, n_head=3, layout="model"),
        replace(square("chunk", 69, n_head=3, layout="model"), n_q=5),
        replace(square("decode", 147, n_head=3, layout="model"), n_q=1),
        square("gpt2-prefill", 128, n_head=12, d=64, layout="model", n_threads=2),
        replace(square("gpt2-decode", 600, n_head=12, d=64, layout="model"), n_q=1),
        # Edges and tails.
        square("one-token", 1, d=8),
        square("n17", 17, n_head=4),
        square("n31", 31, d=8),
        square("n33", 33, d=64),
        square("n127", 127, d=59),
        square("n129", 129, d=128),
        square("n16-full", 16, n_head=4, causal=False),
        square("n64-full", 64, causal=False),
        replace(square("more-queries", 21, causal=False), n_q=50),
        replace(square("fewer-queries", 40, causal=False), n_q=9),
        square("head-dim-1", 19, d=1),
        square("n1000", 1000),
        replace(square("many-queries", 40, causal=False), n_q=1100),
        replace(square("long-decode", 2500, n_threads=3), n_q=1),
        replace(square("beyond-65536", 66000, n_head=1, d=4), n_q=1),
        square("assignment", 1024, n_head=4, causal=False, scale=1.0 / 32, n_threads=2),
        replace(square("long-rows", 16384, n_head=1, d=64), n_q=33),
        # Batches, groups, layouts.
        replace(square("batches", 33, n_head=3), batch=3),
        replace(square("batches-full", 20, n_head=3, causal=False), batch=2, layout="padded"),
        replace(square("padded", 45, n_head=3, layout="padded"), batch=2),
        Case("grouped", 2, 8, 2, 37, 37, 32),
        Case("grouped-decode", 1, 6, 2, 1, 90, 64, layout="model"),
        Case("many-heads", 1, 13, 13, 5, 19, 16),
        Case("many-groups", 1, 32, 2, 3, 33, 16),
        Case("far", 2, 3, 3, 17, 17, 32, layout="far"),
        Case("far-decode", 2, 6, 3, 1, 40, 32, layout="far", n_threads=2),
        square("edge", 9, n_head=3, d=20, layout="edge"),
        replace(square("edge-decode", 45, n_head=3, d=59, layout="edge"), n_q=1),
        Case("edge-tiles", 1, 4, 2, 21, 37, 72, br=8, bc=16, n_threads=2, layout="edge"),
        replace(square("bfloat16-cache", 45, n_head=3, layout="model", half_kv=True), n_q=9),
        Case("bfloat16-grouped", 1, 8, 2, 1, 77, 40, layout="model", half_kv=True),
        # Numbers.
        square("large-logits", 65, inputs="large"),
        square("falling", 150, inputs="falling"),
        square("rising", 150, inputs="rising"),
        square("low", 50, inputs="low"),
        square("scale-1", 40, scale=1.0, d=16),
        # Tiles.
        square("tiles-7x13", 37, br=7, bc=13),
        square("tiles-16x5", 69, br=16, bc=5, n_threads=2),
        replace(square("tiles-1x64", 101, br=1, bc=64), n_q=40),
        square("tiles-64x16", 101, br=64, bc=16, causal=False),
        square("tiles-huge", 45, br=1000, bc=4096),
        # Threads and calls.
        Case("threads-2", 2, 4, 4, 65, 65, 32, n_threads=2),
        square("threads-3", 37, n_head=1, n_threads=3),
        replace(square("threads-idle", 37, n_head=1, n_threads=8), n_q=3),
        replace(square("threads-decode", 701, n_threads=3), n_q=1),
        Case("threads-8", 2, 4, 2, 65, 130, 32, n_threads=8),
        Case("threads-33", 2, 5, 5, 9, 35, 16, n_threads=33),
        square("threads-again", 600, n_head=4, d=16, n_threads=8, calls="again"),
        Case("changed", 1, 4, 4, 33, 33, 32, calls="changed"),
        Case("heads-at-once", 1, 4, 4, 512, 512, 32, calls="heads"),
    ]


def full() -> list[Case]:
    """The quick cases, products of what they take one at a time, and triples."""
    cases = [Case(**row) for row in (*pairs.calls(3), *variants.calls(2))]
    for n in (16, 37, 64, 129, 257, 1024):
        for d in (8, 32, 59, 64, 80, 96, 111, 128):
            for causal in (True, False):
                name = f"n{n}-d{d}-{'causal' if causal else 'full'}"
                cases.append(square(name, n, d=d, causal=causal, layout="padded", n_threads=2))
    for n_q in (1, 2, 3, 16, 31, 33):
        for n_kv in (33, 64, 127, 1000, 4096):
            if n_q <= n_kv:
                case = Case(f"q{n_q}-kv{n_kv}", 1, 8, 4, n_q, n_kv, 64, layout="model")
                cases.append(replace(case, n_threads=2))
    for br, bc in ((1, 1), (3, 17), (17, 3), (32, 64), (64, 32), (128, 128), (5, 1000)):
        for n in (37, 130):
            cases.append(square(f"tiles-{br}x{bc}-n{n}", n, br=br, bc=bc, n_threads=2))
    for inputs in ("large", "falling", "rising"):
        for n in (33, 200, 1500):
            cases.append(square(f"{inputs}-n{n}", n, inputs=inputs, n_threads=2))
    for n_threads in (1, 2, 3, 8):
        cases.append(Case(f"threads-{n_threads}-n200", 2, 6, 3, 200, 200, 64, n_threads=n_threads))
    cases.append(square("gpt2-1024", 1024, n_head=12, d=64, layout="model", n_threads=2))
    return [*quick(), *_as_promised(cases)]


def speed_case(n_threads: int, *, square_only: bool = False) -> Case:
    """A small prefill, for a first idea of a kernel's speed; unmasked for square kernels."""
    return square(
        "speed", 256, n_head=12, d=64, causal=not square_only, layout="model", n_threads=n_threads
    )

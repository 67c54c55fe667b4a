"""Experiments through the contract: calls in turn that differ in one thing.

Figures are of CPU time, with threads that sleep while they wait, so neighbours do not stretch them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..bench.shapes import Shape
from ..bench.stats import Ratio, paired_ratio
from ..check.cases import Case
from .child import Calls, Watched

ROUNDS = 5
ROUNDS_SECONDS = 0.25  # for one of the two that are compared
MOST_SECONDS, LEAST_N = 0.06, 256  # of a call of one head, n is halved while it takes longer
TILES = ((16, 32), (32, 64), (64, 64), (64, 128), (128, 256), (256, 512))
UNSURE = 1.6  # highest against lowest of a ratio's rounds: no more is said than "noisy"
LONG_SECONDS, MOST_KEYS = 0.01, 1 << 16
SHRUNK, LEAST_SHRUNK, FEW = (2, 4, 8), 64, (32, 256)  # parts of n; a few queries
LEAST_MASKED = 512  # of n, where masks are compared: of fewer, whole tiles are a large part
MIDDLE = 5  # rounds, from which on the lowest and the highest are left out
NARROW = 32  # half of the head_dim that is narrowed, at least
QUADRATIC_N, QUADRATIC = 4096, 3
AWAKE_SECONDS = 0.001  # of a call in which all threads have time to wake up
ATTEMPTS = 12  # calls in which a thread may show that it works


@dataclass
class Found:
    """What the experiments on one shape gave. Ratios are of CPU time, above 1 where it takes more.

    None: not asked, for it does not apply.
    """

    shape: Shape
    n_threads: int
    seconds: float = 0.0  # one call, all threads, by the clock
    slowness: float = 1.0  # of the clock, against CPU time with one thread; 1 at least
    busy: float = 0.0  # the same, of its busiest thread: what it takes on a machine of its own
    one: float = 0.0  # CPU seconds of a call with one thread
    workers: int = 1
    imbalance: float | None = None  # of the busiest thread against the mean
    inflation: Ratio | None = None  # CPU time of all threads, against that of one thread alone
    speedup: float = 1.0  # time of one thread, against that of the busiest of all
    one_head_workers: int | None = None
    many_heads_workers: int | None = None  # asked where one head has one
    prefill_workers: int | None = None  # of one head with many queries
    causal: Ratio | None = None  # against no mask
    windowed: Ratio | None = None  # of time a pair: with a window, against none
    odd: Ratio | None = None  # head_dim + 1, against head_dim
    shrunk: Ratio | None = None  # of time a pair: this n, against the part of it that is best
    sliced: Ratio | None = None  # of time a pair: all queries, against a few
    narrowed: Ratio | None = None  # of time for its size: this head_dim, against half of it
    model: Ratio | None = None  # strides as in a model
    denormal: Ratio | None = None  # weights that are denormal
    unflushed: Ratio | None = None  # against denormals taken for 0, usual inputs
    uneven_full: float | None = None  # imbalance without a mask, asked where there is one with it
    threads_of_one: int = 1  # that work where one is asked for
    tiles: dict[tuple[int, int], Ratio] = field(default_factory=dict)
    faults: float = 0.0  # page faults of a call with all threads
    system: float = 0.0  # its CPU time in the system, as a share
    workspace_bytes: int = 0
    quadratic: bool = False  # the workspace holds something for each pair of query and key
    simd: float | None = None  # seconds that our quickest kernel takes, as `busy`
    begun: float = 0.0  # threads that a call begins and ends


def observe(
    child: Watched, shape: Shape, n_threads: int, *, square: bool = False, brief: bool = False
) -> Found:
    """All experiments that apply to the shape. square: the kernel knows n_q = n_kv alone.

    brief: without those that are for notes alone.
    """
    found = Found(shape, n_threads)
    case = replace(shape.case(n_threads), batch=1)
    _threads(child, case, found)
    if n_threads > 1:
        _heads(child, case, found, square)
    if shape.n_q > 1:
        head, rounds = affordable(case, found.one)
        _variations(child, head, rounds, found, square)
        _halves(child, head, rounds, found, brief)
    return found


def usual_seconds(child: Watched, shape: Shape, n_threads: int) -> float:
    """`Found.busy` of another kernel that leaves no thread idle: what is compared with."""
    alone = replace(shape.case(1), batch=1)
    first = child.calls(alone, 1).median("wall")
    repeat = max(1, min(50, int(0.01 / first)))
    return child.in_turn([alone], _rounds(first), repeat)[0].median("cpu") / n_threads


def _rounds(seconds: float) -> int:
    """How many rounds a call of so many seconds is worth: two at least, that can be compared."""
    return max(2, min(ROUNDS, int(ROUNDS_SECONDS / seconds)))


def _threads(child: Watched, case: Case, found: Found) -> None:
    one = replace(case, n_threads=1)
    first = child.calls(case, 1)
    rounds = _rounds(first.median("wall"))
    repeat = max(1, min(50, int(0.004 / first.median("wall"))))
    many, alone = child.in_turn([case, one], rounds, repeat if rounds < ROUNDS else max(2, repeat))
    found.seconds, found.one = many.median("wall"), alone.median("cpu")
    found.threads_of_one = alone.usual_workers
    n, long = case.n_threads, many
    found.slowness = max(1.0, found.seconds / found.one)
    if found.one < LONG_SECONDS:
        long = _longer(child, case, found.one, found.slowness)
    found.workers = min(long.workers, max(n, long.usual_workers))
    found.imbalance = long.imbalance(n)
    if many.workers == 1 and found.one > AWAKE_SECONDS:  # who works then works here, not elsewhere
        found.workers = child.calls(case, ATTEMPTS).workers
        long = many if found.workers == 1 else long
    # A short call is over before all threads are awake: how a longer one is shared out counts.
    found.busy = min(many.busy, found.one * long.usual_imbalance(n) / n)
    found.begun = many.median("begun")
    if found.imbalance and case.causal and case.n_q > 1:
        maskless = replace(case, causal=False, window=0)
        full = _longer(child, maskless, found.one, found.slowness)
        found.uneven_full = full.usual_imbalance(n)
    found.inflation, found.speedup = _ratio(many, alone), alone.busy / many.busy
    found.faults = many.median("faults")
    cpu = sum(c["cpu"] for c in many.calls)
    ticks = sum(c["system"] for c in many.calls)  # of the scheduler: few in a short call
    touched = sum(c["faults"] for c in many.calls) * child.fault_seconds
    found.system = min(1.0, max(ticks, touched) / cpu)
    found.workspace_bytes = first.workspace_bytes


def _heads(child: Watched, case: Case, found: Found, square: bool) -> None:
    """Who works where there is one head, many, or one with many queries."""
    seconds = found.one / case.n_head
    one = replace(case, n_head=1, n_kv_head=1)
    many = replace(case, n_head=2 * case.n_threads, n_kv_head=2 * case.n_threads)
    found.one_head_workers = found.workers
    if case.n_head > 1:
        found.one_head_workers = _longer(child, one, seconds, found.slowness).workers
    if found.one_head_workers > 1:
        return
    found.many_heads_workers = max(
        found.workers if case.n_head > 1 else 1,
        _longer(child, many, seconds * many.n_head, found.slowness).workers,
    )
    if case.n_q == 1 and not square:
        n = min(512, case.n_kv)
        prefill = replace(one, n_q=n, n_kv=n)
        seconds *= n * n / case.n_kv
        found.prefill_workers = _longer(child, prefill, seconds, found.slowness).workers


def _longer(child: Watched, case: Case, seconds: float, slowness: float) -> Calls:
    """Calls like the case's, with more queries and keys where that is over too soon.

    seconds: of CPU time, with one thread; a call takes `slowness` times as long by the clock.
    """
    while True:
        while seconds < LONG_SECONDS and case.n_kv < MOST_KEYS:
            n_q = case.n_q if case.n_q == 1 else 2 * case.n_q
            seconds *= 2 * n_q / case.n_q
            case = replace(case, n_q=n_q, n_kv=2 * case.n_kv)
        repeat = int(ROUNDS_SECONDS / slowness / seconds)
        calls = child.calls(case, max(2, min(ATTEMPTS, repeat)))
        seconds = calls.median("cpu")  # it may have taken less than was thought
        if 2 * seconds > LONG_SECONDS or case.n_kv >= MOST_KEYS:
            return calls


def affordable(case: Case, seconds: float) -> tuple[Case, int]:
    """One head and one thread, shorter where that takes too long; and how many rounds of it."""
    head = replace(case, n_head=1, n_kv_head=1, n_threads=1)
    seconds /= case.n_head
    while seconds > MOST_SECONDS and min(head.n_q, head.n_kv) >= 2 * max(LEAST_N, head.window):
        head, seconds = replace(head, n_q=head.n_q // 2, n_kv=head.n_kv // 2), seconds / 4
    return head, _rounds(seconds)


def _variations(child: Watched, head: Case, rounds: int, found: Found, square: bool) -> None:
    """One head and one thread, with one thing changed."""
    base = replace(head, causal=head.window > 0)
    if head.causal and head.n_q == head.n_kv and not head.window:
        n = max(head.n_q, LEAST_MASKED)
        masked = replace(head, n_q=n, n_kv=n)
        found.causal = _pair(child, masked, replace(masked, causal=False), rounds)
    if head.window:
        shape = replace(found.shape, n_head=1, n_q=head.n_q, n_kv=head.n_kv)
        seen = shape.pairs / replace(shape, window=0).pairs
        found.windowed = _scaled(_pair(child, head, replace(head, window=0), rounds), 1 / seen)
    found.quadratic = _quadratic(child, base)
    if found.quadratic:  # then all threads share the memory that scores go through
        n = found.n_threads
        base = replace(base, n_head=n, n_kv_head=n, n_threads=n)
    # With a window, a query sees as many keys of a part of n.
    least = 0 if head.window else min(base.n_q, base.n_kv)
    parts = [by for by in SHRUNK if least >= LEAST_SHRUNK * by]
    few = [n for n in FEW if base.n_q >= 4 * n and not square and not head.window]
    whole, *others = child.in_turn(
        [
            base,
            *(replace(base, n_q=base.n_q // by, n_kv=base.n_kv // by) for by in parts),
            *(replace(base, n_q=n) for n in few),
        ],
        rounds,
    )
    found.shrunk = _worst(whole, others[: len(parts)], [1 / by**2 for by in parts])
    found.sliced = _worst(whole, others[len(parts) :], [n / base.n_q for n in few])


def _halves(child: Watched, head: Case, rounds: int, found: Found, brief: bool) -> None:
    """Half of n, one head and one thread, with one thing changed."""
    d, n_q, n_kv = head.head_dim, max(1, head.n_q // 2), max(1, head.n_kv // 2)
    half = replace(head, causal=head.window > 0, n_q=n_q, n_kv=n_kv)
    tiles = [(br, bc) for br, bc in TILES if br <= 2 * head.n_q and bc <= 2 * head.n_kv]
    own, *tiled = child.in_turn(
        [half, *(replace(half, br=br, bc=bc) for br, bc in tiles)], min(rounds, 3)
    )
    found.tiles = {tile: _ratio(calls, own) for tile, calls in zip(tiles, tiled, strict=True)}
    if d >= 2 * NARROW and not head.head_dim_v:
        found.narrowed = _scaled(_pair(child, half, replace(half, head_dim=d // 2), rounds), 0.5)
    found.unflushed = _unflushed(child, half, rounds)
    if brief:
        return
    own, odd, model = child.in_turn(
        [half, replace(half, head_dim=d + 1), replace(half, layout="model")], rounds
    )
    found.odd, found.model = _scaled(_ratio(odd, own), d / (d + 1)), _ratio(model, own)
    if not head.needs:  # variants change the scores, which are chosen for this
        found.denormal = _pair(child, replace(half, inputs="denormal"), half, rounds)


def _worst(whole: Calls, others: Sequence[Calls], sizes: Sequence[float]) -> Ratio | None:
    """The highest of times a pair against calls that are less, of such sizes."""
    ratios = [_scaled(_ratio(whole, less), size) for less, size in zip(others, sizes, strict=True)]
    return max(ratios, key=lambda ratio: ratio.median, default=None)


def _quadratic(child: Watched, base: Case) -> bool:
    """Whether the workspace grows with n_q n_kv, where no tile of a sane size is full."""
    size = max(QUADRATIC_N, base.n_q, base.n_kv)
    asked = [child.workspace_bytes(replace(base, n_q=n, n_kv=n)) for n in (size, 2 * size)]
    return asked[1] > QUADRATIC * asked[0] > 0


def _unflushed(child: Watched, case: Case, rounds: int) -> Ratio:
    calls: list[dict[str, Any]] = []
    flushed: list[dict[str, Any]] = []
    for _ in range(rounds):
        calls += child.calls(case, 1).calls
        flushed += child.calls(case, 1, flush=True).calls
    return _ratio(Calls(calls), Calls(flushed))


def _pair(child: Watched, case: Case, base: Case, rounds: int) -> Ratio:
    return _ratio(*child.in_turn([case, base], rounds))


def _ratio(calls: Calls, base: Calls) -> Ratio:
    """CPU time of the calls, against that of the base, round by round; of many, of the middle."""
    rounds = sorted(zip(_cpu(base), _cpu(calls), strict=True), key=lambda pair: pair[1] / pair[0])
    kept = rounds[1:-1] if len(rounds) >= MIDDLE else rounds
    return paired_ratio([by for by, _ in kept], [of for _, of in kept])


def _cpu(calls: Calls) -> Sequence[float]:
    return [call["cpu"] for call in calls.calls]


def _scaled(ratio: Ratio, by: float) -> Ratio:
    return Ratio(ratio.median * by, ratio.low * by, ratio.high * by)


def unsure(ratio: Ratio) -> bool:
    """Whether the rounds contradict each other."""
    return ratio.high > UNSURE * ratio.low

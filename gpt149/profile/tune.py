"""Which tile, and how many threads, a kernel is fastest with on a shape.

Settings race in heats, A B C A B C, and the slower half leaves after each (successive halving:
Jamieson and Talwalkar, Non-stochastic Best Arm Identification, 2016). Who gives a wrong result on
the way in does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from ..bench.shapes import Shape
from ..bench.stats import Ratio, paired_ratio
from ..check.arena import Arena
from ..check.cases import Case
from ..check.isolation import DEFAULT_TEAM, Child
from ..check.observe import Bench, Observation
from ..errors import InputError
from ..kernels.registry import Source, compiled, locate
from ..system.threads import one_blas_thread
from .child import Watched

SIZES = (16, 32, 64, 128, 256, 512)
HEAT_SECONDS, SAMPLE_SECONDS = 0.8, 0.004
FINALISTS, FINAL_ROUNDS, MOST_ROUNDS = 5, 7, 25
MOST_SECONDS = 0.04  # of a call: a longer one has heads, then tokens, taken away
LEAST_N = 1024  # as many as let the largest tiles come twice
MOST_JUDGED = 1 << 27  # multiplications of a product of what is judged
TAIL = 13  # tokens that a second judged call has less, so that tiles have ends
SURE, LEAST_GAIN = 0.8, 1.03  # of the rounds, and by how much: a tile that is better
NOISY_GAIN = 1.1  # more, and not in so many rounds
WASTED = 1.3  # times the best: fewer threads are no longer tried


@dataclass(frozen=True)
class Setting:
    """br, bc: 0 is the kernel's own choice."""

    br: int
    bc: int
    n_threads: int

    @property
    def own(self) -> bool:
        return not self.br and not self.bc


@dataclass
class Entrant:
    """A setting, and how it did.

    out: why it did not start, if so; wrong: that is a mistake, and no refusal. samples: seconds of
    its last heat, CPU time of the busiest thread.
    """

    setting: Setting
    out: str = ""
    wrong: bool = False
    samples: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return median(self.samples)

    def against(self, base: Entrant) -> Ratio:
        """How many times as fast, round by round. Both have run in the same heat."""
        return paired_ratio(self.samples, base.samples)

    def wins(self, base: Entrant) -> int:
        """In how many rounds it was faster."""
        return sum(a < b for a, b in zip(self.samples, base.samples, strict=True))

    def beats(self, base: Entrant) -> bool:
        """Whether it is faster beyond the noise: by its median, and in nearly every round."""
        sure = self.wins(base) >= SURE * len(self.samples)
        return sure and self.against(base).median >= LEAST_GAIN


@dataclass(frozen=True)
class Tuned:
    """A race. timed: the call that was timed. finalists: the fastest first; others: likewise, of
    earlier heats; out: who did not start. own: the kernel's own tile, a finalist; where that is
    wrong, there was no race.
    """

    shape: Shape
    timed: Case
    own: Entrant
    finalists: Sequence[Entrant]
    others: Sequence[Entrant]
    out: Sequence[Entrant]

    @property
    def best(self) -> Entrant:
        """The fastest, if it beats the kernel's own tile beyond the noise; else that."""
        return next((e for e in self.finalists if e.beats(self.own)), self.own)

    @property
    def indifferent(self) -> bool:
        """Whether no tile is faster or slower than the kernel's own, beyond the noise."""
        return not any(e.beats(self.own) or self.own.beats(e) for e in self._tiles)

    @property
    def noisy(self) -> bool:
        """Whether a tile seems faster by much, and rounds contradict it."""
        doubtful = any(e.against(self.own).median > NOISY_GAIN for e in self._tiles)
        return self.best is self.own and doubtful

    @property
    def _tiles(self) -> list[Entrant]:
        n = self.own.setting.n_threads
        return [e for e in self.finalists if e is not self.own and e.setting.n_threads == n]


def tune(spec: str, shape: Shape, n_threads: int, progress: Callable[[str], None]) -> Tuned:
    """Race tiles with so many threads, and the best with fewer.

    Raises:
        InputError: the kernel is told no tile.
        Gpt149Error: as `locate`, `compiled` and `Watched`.
    """
    source = locate(spec)
    if source.path is None or source.loader == "python":
        raise InputError(
            f"'{spec}' is a function of tensors, which no tile is told: nothing to tune."
        )
    progress("compiling")
    library = compiled(source)
    with Watched(source, library, None) as child, _Jury(source, library, shape) as jury:
        race = _Race(child, jury, _timed(child, shape, n_threads), progress)
        return race.run(shape)


def _timed(child: Watched, shape: Shape, n_threads: int) -> Case:
    """The shape's call, with fewer heads and then fewer tokens where it takes too long."""
    case = replace(shape.case(n_threads), batch=1)
    while (seconds := child.calls(case, 1).busy) > MOST_SECONDS:
        if case.n_head > n_threads:
            fewer = max(n_threads, int(case.n_head * MOST_SECONDS / seconds))
            case = replace(case, n_head=fewer, n_kv_head=fewer)
        elif min(case.n_q, case.n_kv) >= 2 * max(LEAST_N, case.window):
            case = replace(case, n_q=case.n_q // 2, n_kv=case.n_kv // 2)
        else:
            break
    return case


def settings(case: Case) -> list[Setting]:
    """The kernel's own tile, and those of which a call has half of one at least."""
    brs = [br for br in SIZES if br <= 2 * case.n_q] or [0]
    bcs = [bc for bc in SIZES if bc <= 2 * case.n_kv] or [0]
    tiles = {(0, 0), *((br, bc) for br in brs for bc in bcs)}
    return [Setting(br, bc, case.n_threads) for br, bc in sorted(tiles)]


class _Jury:
    """Judges settings on calls like those that are timed: of two heads, with and without tails."""

    def __init__(self, source: Source, library: Path | None, shape: Shape) -> None:
        case = replace(shape.case(1), batch=1, layout="model", name="tune")
        heads = min(2, case.n_head)
        case = replace(case, n_head=heads, n_kv_head=heads)
        while min(case.n_q, case.n_kv) > 2 * SIZES[0] and case.work > MOST_JUDGED:
            case = replace(case, n_q=case.n_q // 2, n_kv=case.n_kv // 2)
        self.cases = [case]
        if case.n_kv > TAIL:
            self.cases.append(replace(case, n_q=max(1, case.n_q - TAIL), n_kv=case.n_kv - TAIL))
        self._arena = Arena(self.cases)
        self._child = Child(source, library, self._arena, 10.0, DEFAULT_TEAM)
        self._bench = Bench(self._child, self._arena)

    def __enter__(self) -> _Jury:
        self._child.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(None, None, None)
        self._arena.close()

    def admit(self, entrant: Entrant) -> bool:
        """Whether it is right; else why not is said in it."""
        s = entrant.setting
        with one_blas_thread():
            for case in self.cases:
                seen = self._bench.observe(replace(case, br=s.br, bc=s.bc, n_threads=s.n_threads))
                if not seen.passed:
                    entrant.out = _why(seen)
                    entrant.wrong = seen.answer.outcome != "declined"
                    return False
        return True


def _why(seen: Observation) -> str:
    """What is wrong with a call, in one sentence."""
    where = f"in a call with n_q={seen.case.n_q} n_kv={seen.case.n_kv}"
    if seen.answer.outcome != "ok":
        return f"{seen.answer.outcome} {where}: {seen.answer.detail}"
    if seen.verdict is not None and seen.wrong:
        n = int(seen.verdict.wrong.sum())
        return f"{n:,} of {seen.out.size:,} values are wrong {where}"
    return f"it writes where nothing is its own {where}"


class _Race:
    """A kernel's settings on one call."""

    def __init__(
        self, child: Watched, jury: _Jury, case: Case, progress: Callable[[str], None]
    ) -> None:
        self.child, self.jury, self.case, self.progress = child, jury, case, progress
        self.out: list[Entrant] = []

    def run(self, shape: Shape) -> Tuned:
        """Judge all settings, then heats, then fewer threads, then the final."""
        every = [Entrant(setting) for setting in settings(self.case)]
        own = every[0]
        running = list(self._admitted(every[:1])) and [own, *self._admitted(every[1:])]
        if own.out:
            return Tuned(shape, self.case, own, (), (), self.out)
        left: list[Entrant] = []
        while True:
            self._heat(running)
            running.sort(key=lambda e: e.seconds)
            keep = max(FINALISTS, len(running) // 2)
            left += running[keep:]
            running = running[:keep]
            if keep == FINALISTS:
                break
        slowest = max([*running, *left], key=lambda e: e.seconds)
        final = {e.setting: e for e in (*running, own, slowest)}
        for fewer in self._fewer_threads(running[0]):
            final[fewer.setting] = fewer
        self._heat(list(final.values()), FINAL_ROUNDS)
        finalists = sorted(final.values(), key=lambda e: e.seconds)
        others = sorted((e for e in left if e.setting not in final), key=lambda e: e.seconds)
        return Tuned(shape, self.case, own, finalists, others, self.out)

    def _admitted(self, entrants: Sequence[Entrant]) -> Iterator[Entrant]:
        for n, entrant in enumerate(entrants, 1):
            self.progress(f"judging setting {n} of {len(entrants)}")
            if self.jury.admit(entrant):
                yield entrant
            else:
                self.out.append(entrant)

    def _heat(self, entrants: Sequence[Entrant], least: int = 1) -> None:
        """Rounds for about HEAT_SECONDS, `least` at least, behind one that does not count."""
        self.progress(f"a heat of {len(entrants)}")
        for entrant in entrants:
            entrant.samples = [self._sample(entrant, 1)]
        longest = max(e.seconds for e in entrants)
        repeat = max(1, min(50, int(SAMPLE_SECONDS / longest)))
        a_round = repeat * sum(e.seconds for e in entrants)
        rounds = max(least, min(MOST_ROUNDS, int(HEAT_SECONDS / a_round)))
        for entrant in entrants:
            entrant.samples.clear()
        for _ in range(rounds):
            for entrant in entrants:
                entrant.samples.append(self._sample(entrant, repeat))

    def _fewer_threads(self, best: Entrant) -> Iterator[Entrant]:
        """The best tile with half of the threads, and half of those, while that costs little."""
        n = best.setting.n_threads // 2
        while n:
            fewer = Entrant(replace(best.setting, n_threads=n))
            if not list(self._admitted([fewer])):
                return
            fewer.samples = [self._sample(fewer, 1)]
            yield fewer
            if fewer.seconds > WASTED * best.seconds:
                return
            n //= 2

    def _sample(self, entrant: Entrant, repeat: int) -> float:
        s = entrant.setting
        case = replace(self.case, br=s.br, bc=s.bc, n_threads=s.n_threads)
        return self.child.calls(case, repeat).busy

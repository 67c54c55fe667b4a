"""Samples are long enough, and far enough apart; on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpt149.bench import attention, pace, shapes
from gpt149.bench.attention import Plan, Sample
from gpt149.bench.ceilings import Ceilings
from gpt149.bench.pace import REST_SECONDS, SAMPLE_SECONDS, Rest
from gpt149.bench.results import Row
from gpt149.bench.worker import Worker
from gpt149.check.cases import Case
from gpt149.kernels.registry import compiled, described, locate

CEILINGS = Ceilings(1, 1e11, 1e11, ((1 << 28, 1e10),))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(attention, "time", clock)
    return clock


def test_a_rest_lasts_from_the_end_of_one_to_the_start_of_the_next(clock: Clock) -> None:
    rest = Rest()
    with rest:
        assert clock.now == 100.0
        clock.now = 105.0
    clock.now += REST_SECONDS / 4
    with rest:
        assert clock.now == pytest.approx(105.0 + REST_SECONDS)
    clock.now = 200.0
    with rest:
        assert clock.now == 200.0


def sampled(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, one: Callable[[int], float]
) -> tuple[Row, list[int]]:
    """The row of a kernel whose nth call takes one(n) seconds, and how many calls were asked."""
    asked: list[int] = []

    class Scripted:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Scripted:
            return self

        def __exit__(self, *_: object) -> None: ...
        def run(self, case: Case, plan: Plan) -> Sample:
            seconds = sum(one(sum(asked) + i) for i in range(plan.repeat))
            asked.append(plan.repeat)
            clock.now += seconds
            return Sample("ok", seconds=seconds)

    monkeypatch.setattr(attention, "Timed", Scripted)
    monkeypatch.setattr("gpt149.bench.attention._Race._doubt", lambda *_: "")
    rows: list[Row] = []
    attention.measure(
        ["reference"],
        [shapes.parse("1,4,4")],
        CEILINGS,
        seconds=0.01,
        raise_ceilings=lambda: CEILINGS,
        keep=rows.append,
        progress=lambda: None,
    )
    [row] = rows
    return row, asked


@pytest.mark.parametrize("cold", [20e-6, 1e-3, 7e-3, 0.05])
def test_cold_calls_do_not_shorten_the_samples(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, cold: float
) -> None:
    row, asked = sampled(monkeypatch, clock, lambda n: cold if n < 3 else 20e-6)
    assert row.samples == pytest.approx([20e-6] * 3)
    for repeat in asked[-3:]:
        assert repeat * 20e-6 == pytest.approx(SAMPLE_SECONDS, rel=0.1)


def test_slow_kernels_are_called_once_a_sample_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    row, asked = sampled(monkeypatch, clock, lambda _: 0.3)
    assert asked == [3, 1, 1, 1, 1]
    assert row.samples == pytest.approx([0.3] * 3)
    row, asked = sampled(monkeypatch, clock, lambda _: 0.8)
    assert (asked, row.skipped) == ([3], "0.80 s a call")


def test_neighbours_do_not_make_samples_endless(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    quiet = 100  # calls; each takes a hundred times as long behind them
    _, asked = sampled(monkeypatch, clock, lambda n: 20e-6 if n < quiet else 2e-3)
    assert asked[-1] * 2e-3 <= attention.MOST_SAMPLE_SECONDS


def test_passes_of_generation_feed_other_tokens_and_end_with_those_of_the_seed(
    tiny_model_dir: Path,
) -> None:
    source = locate("torch")
    worker = Worker(described(source, compiled(source)), str(tiny_model_dir), 1)
    fed: list[tuple[int, int]] = []
    feed = worker.engine.feed

    def counted(ids: list[list[int]]) -> object:
        fed.append((worker.engine.length, ids[0][0]))
        return feed(ids)

    worker.engine.feed = counted  # type: ignore[assignment, method-assign]
    question = {"depth": 4, "n": 2, "decode": True, "seed": 149}
    found = worker.answer(question | {"passes": 3})
    passes = fed[1:]  # the first fills the cache
    assert [length for length, _ in passes] == [4, 5] * 3
    assert len({(a, b) for (_, a), (_, b) in zip(passes[::2], passes[1::2], strict=True)}) == 3
    assert 0 < found["attention_seconds"] < found["seconds"]
    again = worker.answer(question | {"passes": 1})
    assert fed[-2:] == passes[-2:]
    assert again["logits"] == found["logits"]

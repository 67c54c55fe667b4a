"""Statistics on known numbers, formats that parse again, verdicts on runs of known difference."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gpt149.bench import tables
from gpt149.bench.attention import MOST_EXTENT, SHAPES, SWEEP, Shape, parse
from gpt149.bench.ceilings import Ceilings
from gpt149.bench.html import as_html
from gpt149.bench.results import Results, Row, describe_machine, dumps, load
from gpt149.bench.stats import bootstrap_ratio, fitted_exponent, paired_ratio, summarise
from gpt149.errors import InputError

CEILINGS = Ceilings(2, 200e9, 100e9, ((1 << 14, 400e9), (1 << 20, 100e9), (1 << 28, 20e9)))


def samples(median: float, n: int = 15, seed: int = 0, noise: float = 0.02) -> list[float]:
    draws = np.random.default_rng(seed).standard_normal(n)
    return [median * (1 + noise * float(draw)) for draw in draws]


def results(scale: float = 1.0, seed: int = 0) -> Results:
    """A made-up run whose kernels take `scale` times as long as usual."""
    rows = []
    for i, kernel in enumerate(("naive", "torch", "a<b>.cpp")):
        for name in (*SWEEP, "12,1x4096,64"):
            shape = parse(name)
            time = (i + 1) * scale * shape.flops / 50e9
            row = Row("attention", kernel, name, samples(time, seed=seed), shape.flops)
            rows.append(replace(row, n_bytes=shape.n_bytes, workspace_bytes=4 * shape.n_kv * i))
        for depth in ("", " @ d512"):
            row = Row("generation", kernel, f"tg32{depth}", samples(scale * 0.05, seed=seed), 32)
            rows.append(replace(row, attention_share=0.25, peak_rss=100 << 20))
    rows.append(Row("attention", "fast.cpp", "12,1x4096,64", [1e-9], rejected="too good"))
    return Results(describe_machine(2, "tiny"), CEILINGS, rows)


def test_summaries() -> None:
    s = summarise([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (s.median, s.least, s.n) == (3.0, 1.0, 5)
    assert s.spread == pytest.approx(2 / 3)
    assert s.noisy
    assert not summarise([1.0, 1.01, 1.02]).noisy


def test_ratios_pair_by_pair_cancel_what_slows_both() -> None:
    drift = np.array([1.0, 5.0, 2.0, 9.0])
    ratio = paired_ratio((drift * 0.5).tolist(), drift.tolist())
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    ratio = paired_ratio([1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 100.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)


def test_the_bootstrap_covers_what_it_says() -> None:
    hits = 0
    for seed in range(60):
        ratio = bootstrap_ratio(samples(1.0, seed=seed), samples(2.0, seed=1000 + seed))
        assert ratio.low <= ratio.median <= ratio.high
        hits += ratio.low <= 2.0 <= ratio.high
    assert hits >= 50


def test_exponents() -> None:
    n = [64, 128, 256, 512]
    assert fitted_exponent(n, [3e-9 * x**2 for x in n]) == pytest.approx(2)


def test_ceilings_bound_by_what_is_scarcer() -> None:
    assert CEILINGS.bandwidth(1 << 10) == 400e9
    assert CEILINGS.bandwidth((1 << 14) + 1) == 100e9
    assert CEILINGS.bandwidth(1 << 40) == 20e9
    assert CEILINGS.seconds(200e9, 1 << 14, 1 << 14) == (1.0, "arithmetic")
    assert CEILINGS.seconds(1, 1 << 30, 1 << 30) == ((1 << 30) / 20e9, "bytes")
    # A small call among many comes from memory all the same.
    assert CEILINGS.seconds(1, 1 << 14, 1 << 30) == ((1 << 14) / 20e9, "bytes")


def test_shapes_count_what_the_mask_leaves() -> None:
    assert parse("12,1024,64").pairs == 12 * 1024 * 1025 // 2
    assert parse("12,1024,64:full").pairs == 12 * 1024 * 1024
    assert parse("12,1x4096,64").pairs == 12 * 4096
    assert parse("2,3x5,8") == Shape("2,3x5,8", 2, 3, 5, 8, causal=True)
    assert parse("2,3x5,8").pairs == 2 * (3 + 4 + 5)
    for name in (*SHAPES, *SWEEP):
        assert parse(name).name == name


@pytest.mark.parametrize(
    "text", ["12,1024", "12,1024,64:half", "0,5,8", "1,9x5,8", f"1,{MOST_EXTENT + 1},8", "a,b,c"]
)
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(text)):
        parse(text)


def test_saved_runs_come_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    one = results()
    file.write_text(dumps(one))
    assert load(file) == one
    for text in ("{}", "[]", "no", dumps(one).replace('"format": 2', '"format": 1')):
        file.write_text(text)
        with pytest.raises(InputError, match="was not written by this version"):
            load(file)
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "none.json")


def test_every_format_parses_and_agrees() -> None:
    one = results()
    lines = [json.loads(line) for line in tables.as_jsonl(one).splitlines()]
    assert lines == json.loads(tables.as_json(one))["rows"]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(one))))
    assert len(rows) == len(lines) == len(one.rows)
    for row, line in zip(rows, lines, strict=True):
        assert row["kernel"] == line["kernel"]
        if line["median_s"] is not None:
            assert float(row["median_s"]) == line["median_s"]
    markdown = tables.as_text(one, markdown=True)
    assert markdown.count("| --- | --- |") == 2
    text = tables.as_text(one)
    assert "REJECTED fast.cpp, 12,1x4096,64: too good." in text
    lines_of_text = [line.split() for line in text.splitlines()]
    figures = next(line for line in lines_of_text if line[:2] == ["torch", "4,1024,64"])
    assert 24 < float(figures[6]) < 26  # twice the time of 50 GFLOP/s
    assert figures[-1] == "1.00"  # against itself
    assert next(r for r in lines if r["kernel"] == "naive")["times_torch"] == pytest.approx(2)


def test_the_bound_of_a_row_is_arithmetic_or_bytes() -> None:
    lines = [json.loads(line) for line in tables.as_jsonl(results()).splitlines()]
    bound = {line["test"]: line["bound"] for line in lines if line["table"] == "attention"}
    assert bound["4,2048,64"] == "arithmetic"
    assert bound["12,1x4096,64"] == "bytes"
    share = next(r["share_of_ceiling"] for r in lines if r["test"] == "4,2048,64")
    assert share == pytest.approx(50 / 200, rel=0.02)


def test_a_planted_slow_down_is_significant_and_a_second_run_is_not() -> None:
    before = results(seed=1)
    same = tables.changes(results(seed=2), before, 0.05)
    assert len(same) == len([row for row in before.rows if row.summary])
    assert not any(change.slower for change in same)
    slow = tables.changes(results(1.2, seed=3), before, 0.05)
    assert all(change.slower for change in slow)
    assert not any(change.slower for change in tables.changes(results(1.2), before, 0.30))
    assert not any(change.slower for change in tables.changes(results(0.8), before, 0.05))
    assert "SLOWER" in tables.changes_as_text(slow)


class Page(HTMLParser):
    """Counts what a page is made of, and collects what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.fetched.append(value)


def test_the_page_stands_alone() -> None:
    text = as_html(results())
    page = Page()
    page.feed(text)
    assert (page.tags["svg"], page.tags["table"], page.fetched) == (4, 2, [])
    assert "@import" not in text
    assert "url(http" not in text
    assert "a<b>.cpp" not in text  # escaped
    for words in ("Roofline", "GFLOP/s", "ms a call", "workspace, KiB", "tok/s", "n^2.0"):
        assert words in text
    assert "#010203" not in text


def test_a_page_without_one_of_the_tables() -> None:
    one = results()
    one.rows = [row for row in one.rows if row.table == "generation"]
    page = Page()
    page.feed(as_html(one))
    assert (page.tags["svg"], page.tags["table"]) == (1, 1)

"""Statistics on known numbers, formats that parse again, verdicts on runs of known difference."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gpt149.bench import tables
from gpt149.bench.ceilings import Ceilings
from gpt149.bench.figures import pictures
from gpt149.bench.html import as_html
from gpt149.bench.results import Results, Row, describe_machine, dumps, load
from gpt149.bench.shapes import MOST_EXTENT, SHAPES, SWEEP, Shape, parse
from gpt149.bench.stats import NOISY, bootstrap_ratio, fitted_exponent, paired_ratio, summarise
from gpt149.bench.timing import renew
from gpt149.check.judge import visible
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


@pytest.mark.parametrize("text", ["2,9,8:window=1", "2,9,8:window=4", "2,3x9,8:window=7"])
def test_windows_count_what_they_leave(text: str) -> None:
    shape = parse(text)
    seen = visible(shape.case(1))
    assert shape.pairs == 2 * seen.sum()
    assert shape.flops == 4 * 8 * shape.pairs
    assert shape.n_bytes == 4 * 2 * 16 * (shape.n_q + seen.any(0).sum())


def test_narrow_values_and_bfloat16_are_less_work_and_fewer_bytes() -> None:
    shape = parse("2,9,8:head_dim_v=4:bf16:full")
    assert (shape.flops, shape.n_bytes) == (2 * 2 * 81 * 12, 2 * 2 * 12 * 18)
    assert parse("2,9,8:head_dim_v=8").head_dim_v == 0


def test_options_of_shapes_become_the_call() -> None:
    text = "4,9,8:window=3:softcap=2.5:alibi:sinks:head_dim_v=6:bf16"
    case = parse(text).case(1)
    assert (case.window, case.softcap, case.head_dim_v) == (3, 2.5, 6)
    assert case.alibi and case.sinks and case.half and case.causal  # noqa: PT018
    assert parse("4,9,8:alibi:sinks").vectors().keys() == {"alibi_slopes", "sinks"}


def test_every_query_sees_new_numbers_in_every_call() -> None:
    for text in ("2,9,8:window=4", "2,9,8:window=1", "2,3x9,8:window=7", "2,9,8"):
        shape = parse(text)
        q, k, v = (np.zeros((2, n, 8), np.float32) for n in (shape.n_q, 9, 9))
        renew(q, k, v, np.ones((3, 2), np.float32), shape.window)
        for changed in (k, v):
            assert (visible(shape.case(1)) & (changed[0, :, 0] == 1)).any(1).all(), text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4,9,8:windw=3", "'windw=3' in the shape '4,9,8:windw=3' cannot be"),
        ("4,9,8:window=0", ":window=N"),
        ("4,9,8:softcap=-1", ":softcap=X"),
        ("4,9,8:alibi=2", ":alibi"),
        ("4,9,8:window=3:window=4", "each once"),
        ("4,9,8:full:window=3", "has a window, which only causal calls have"),
        ("4,9,8:kv_begin=2", "come, each once, :full"),
    ],
)
def test_options_that_are_none_are_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        parse(text)


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
    for text in ("{}", "[]", "no", "[" * 5000, dumps(one).replace('"format": 2', '"format": 1')):
        file.write_text(text)
        with pytest.raises(InputError, match=r"was not written by this|not JSON|too deep"):
            load(file)
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": 1},
        {"samples": "abc"},
        {"samples": [0.1, "x"]},
        {"samples": [0.0]},
        {"work": None},
        {"samples": {}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_rows_of_other_types_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "run.json"
    saved = json.loads(dumps(results()))
    saved["rows"][0] |= change
    file.write_text(json.dumps(saved))
    with pytest.raises(InputError, match="was not written by this version"):
        load(file)


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
    """What a page is made of, what it would fetch, and the words inside of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.words: dict[str, list[str]] = defaultdict(list)
        self.cells: list[tuple[str, str | None, str | None]] = []  # text, data-sort, class
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._open.append(tag)
        named = dict(attrs)
        if tag == "td":
            self.cells.append(("", named.get("data-sort"), named.get("class")))
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.fetched.append(value)
            if name == "id" and value:
                self.ids.append(value)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.words[tag].append(data)
        if self._open[-1:] == ["td"]:
            text, number, kind = self.cells[-1]
            self.cells[-1] = (text + data, number, kind)

    def said(self, tag: str) -> str:
        return " ".join(self.words[tag])


def test_the_page_stands_alone() -> None:
    text = as_html(results())
    page = Page(text)
    assert (page.tags["svg"], page.tags["table"], page.fetched) == (4, 2, [])
    assert page.tags["link"] == page.tags["img"] == 0
    assert page.tags["script"] == 1
    assert "@import" not in text
    assert "url(http" not in text
    assert set(re.findall(r"https?://[^\"]*", text)) == {  # names, which nobody fetches
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }
    assert len(page.ids) == len(set(page.ids))
    assert "a<b>.cpp" not in text  # escaped
    for words in ("Roofline", "GFLOP/s", "ms a call", "workspace, KiB", "tok/s", "n^2.0"):
        assert words in text
    assert "#010203" not in text


def test_the_page_says_where_when_and_how_it_was_measured() -> None:
    one = results()
    one.machine["command"] = "gpt149 bench '<mine>.cpp'"
    facts = Page(as_html(one)).said("dl")
    for fact in ("cpu", "time", "compiler", "command"):
        assert one.machine[fact] in facts
    assert "200 GFLOP/s" in facts


def test_the_command_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/bin/gpt149", "bench", "my kernel.cpp", "-p", "8"])
    assert describe_machine(2, "tiny")["command"] == "gpt149 bench 'my kernel.cpp' -p 8"


def test_legends_lie_outside_of_the_pictures() -> None:
    page = Page(as_html(results()))
    for kernel in ("naive", "torch", "a<b>.cpp"):
        assert kernel in page.said("ul")
        assert kernel not in page.said("svg")
    assert "ceiling" in page.said("ul")
    assert "ceiling" not in page.said("svg")


def test_a_kernel_looks_the_same_in_all_pictures() -> None:
    one = results()
    for row in one.rows:
        row.workspace_bytes = 0 if row.kernel == "naive" else 4096  # one picture has no first one
    looks = defaultdict(set)
    for picture in pictures(one):
        for colour, sign, label in picture.legend:
            looks[label.partition(" (")[0]].add((colour, sign))
    kernels = ("naive", "torch", "a<b>.cpp")
    assert all(len(looks[name]) == 1 for name in kernels)
    assert len(set().union(*(looks[name] for name in kernels))) == 3


def test_figures_carry_the_number_that_they_are_sorted_by() -> None:
    one = results()
    one.rows = [row for row in one.rows if (row.kernel, row.test) == ("torch", "4,64,64")]
    one.rows[0] = replace(one.rows[0], samples=[2.0, 3.0, 4.0], workspace_bytes=4_194_304)
    cells = Page(as_html(one)).cells
    assert [(text, number) for text, number, _ in cells] == [
        ("torch", None),
        ("4,64,64", None),
        ("3000.000", "3000.000"),
        ("2000.000", "2000.000"),
        ("33%!", "33"),
        ("3", "3"),
        ("0.0", "0.0"),
        ("0.0", "0.0"),
        ("0% arithmetic", "0"),
        ("4,194,304", "4194304"),
        ("1.00", "1.00"),
    ]
    one.rows[0].skipped, one.rows[0].samples = "3.0 s a call", []
    assert Page(as_html(one)).cells[2:] == [("3.0 s a call", None, None)]


@pytest.mark.parametrize(
    ("spread", "said"), [(NOISY, "10%!"), (0.1049, "10%!"), (0.0999, "9%"), (0.0, "0%")]
)
def test_what_is_noisy_is_marked_and_counted_once(spread: float, said: str) -> None:
    one = results()
    one.rows = [
        Row("generation", "torch", "tg32", [1 - spread, 1.0, 1 + spread], 32),
        Row("generation", "naive", "tg32", [1.0, 1.0, 1.0], 32),
        Row("generation", "mine", "tg32", skipped="6.1 s a sample"),
    ]
    noisy = int(said.endswith("!"))
    count = f"{noisy} of 2 rows are noisy (!): the middle half of their samples"
    assert count in tables.as_text(one)
    page = Page(as_html(one))
    assert page.said("body").count("noisy") == page.said("body").count(count) == 1
    assert [text for text, _, kind in page.cells if kind == "noisy"] == [said] * noisy
    assert said in [text for text, _, _ in page.cells]


def test_a_page_without_one_of_the_tables() -> None:
    one = results()
    one.rows = [row for row in one.rows if row.table == "generation"]
    page = Page(as_html(one))
    assert (page.tags["svg"], page.tags["table"]) == (1, 1)

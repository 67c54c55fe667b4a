"""A benchmark's pictures, as SVG that takes the colours of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .results import Results, Row
from .shapes import SWEEP, parse
from .stats import fitted_exponent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart; markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "*", "X")
SIGNS = dict(zip(("--", ":", *MARKERS), ("- -", "···", *"○□△◇▽☆✕"), strict=True))  # in a legend
INK = "#010203"  # becomes the page's own text colour, light or dark
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
LEAST_FITTED = 256  # tokens: below, starting a call counts more than the work


@dataclass(frozen=True)
class Picture:
    """svg: the element, without a legend. legend: (colour, sign, label) of each curve."""

    title: str
    caption: str
    svg: str
    legend: tuple[tuple[str, str, str], ...]


def pictures(results: Results) -> Iterator[Picture]:
    """Those of which there is anything to see."""
    drawings: tuple[tuple[Callable[[Axes, Results], bool], str, str], ...] = (
        (
            _roofline,
            "Roofline",
            "How near each kernel comes to what the machine can do (the lines), against operations "
            "per byte that a call must move.",
        ),
        (
            _time,
            "Time against length",
            "Time of a causal call with 4 heads of 64 against its length, with the exponent fitted "
            f"from {LEAST_FITTED} tokens on.",
        ),
        (
            _memory,
            "Memory against length",
            "Extra memory that a kernel asks for in the same calls.",
        ),
        (
            _depth,
            "Decode against context",
            "Decoding speed against the tokens in the KV cache.",
        ),
    )
    for draw, title, caption in drawings:
        if drawn := _drawn(draw, results, title):
            yield Picture(title, caption, *drawn)


def _drawn(
    draw: Callable[[Axes, Results], bool], results: Results, title: str
) -> tuple[str, tuple[tuple[str, str, str], ...]] | None:
    """The SVG element and its legend; None if there is nothing to draw."""
    import matplotlib
    from matplotlib.figure import Figure

    settings = dict.fromkeys(INKED, INK) | {
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": title,  # ids are the same in every run, and others in every picture
    }
    with matplotlib.rc_context(settings):
        # So wide that 9 points are legible where a phone shrinks the picture.
        figure = Figure(figsize=(4.8, 3.4), layout="constrained")
        axes = figure.subplots()
        if not draw(axes, results):
            return None
        axes.grid(alpha=0.25)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter("")
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    legend = tuple(
        (
            str(line.get_color()).replace(INK, "currentColor"),
            SIGNS[line.get_marker() if line.get_marker() in SIGNS else line.get_linestyle()],
            str(line.get_label()),
        )
        for line in axes.lines
    )
    text = out.getvalue()
    # Groups have the same ids in every picture, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    return text.replace(INK, "currentColor"), legend


def _kernels(
    rows: Sequence[Row], results: Results
) -> Iterator[tuple[str, list[Row], dict[str, Any]]]:
    """Each kernel with those of its rows that count, and its colour and marker in all pictures."""
    names = list(dict.fromkeys(row.kernel for row in results.rows))
    for i, name in enumerate(names):
        if mine := [row for row in rows if row.kernel == name and row.summary]:
            again = i // len(COLOURS)  # more kernels than colours: other pairs of both
            marker = MARKERS[(i + again) % len(MARKERS)]
            # Hollow, since points coincide.
            hollow = {"markerfacecolor": "none", "markeredgewidth": 1.4}
            yield name, mine, {"color": COLOURS[i % len(COLOURS)], "marker": marker, **hollow}


def _seconds(row: Row) -> float:
    assert row.summary is not None
    return row.summary.median


def _roofline(axes: Axes, results: Results) -> bool:
    rows = [row for row in results.rows if row.table == "attention" and row.n_bytes]
    if not any(row.summary for row in rows):
        return False
    peak, bandwidths = results.ceilings.flops, results.ceilings.bandwidths
    intensities = [row.work / row.n_bytes for row in rows]
    low, high = min(intensities) / 2, max(intensities) * 2
    for (size, rate), dashes in zip((bandwidths[0], bandwidths[-1]), ("--", ":"), strict=True):
        ridge = peak / rate
        line = sorted({low, min(max(ridge, low), high), high})
        axes.plot(
            line, [min(peak, rate * x) / 1e9 for x in line], dashes, color=INK, alpha=0.6,
            label=f"ceiling, {_size(size)} read at {rate / 1e9:.0f} GB/s",
        )  # fmt: skip
    for name, mine, style in _kernels(rows, results):
        x = [row.work / row.n_bytes for row in mine]
        y = [row.work / _seconds(row) / 1e9 for row in mine]
        axes.plot(x, y, linestyle="", label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s")
    return True


def _swept(results: Results) -> dict[int, int]:
    """Of the rows that sweep over lengths, by their id(): the length."""
    rows = [row for row in results.rows if row.table == "attention" and row.test in SWEEP]
    return {id(row): parse(row.test).n_kv for row in rows}


def _time(axes: Axes, results: Results) -> bool:
    n_of = _swept(results)
    rows = [row for row in results.rows if id(row) in n_of]
    for name, mine, style in _kernels(rows, results):
        n, s = [n_of[id(row)] for row in mine], [_seconds(row) for row in mine]
        long = [(a, b) for a, b in zip(n, s, strict=True) if a >= LEAST_FITTED]
        label = name
        if len(long) > 1:
            label += f" (n^{fitted_exponent(*zip(*long, strict=True)):.2f})"
        axes.plot(n, [t * 1e3 for t in s], label=label, **style)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="tokens", ylabel="ms a call")
    return bool(axes.lines)


def _memory(axes: Axes, results: Results) -> bool:
    n_of = _swept(results)
    rows = [row for row in results.rows if id(row) in n_of and row.workspace_bytes]
    for name, mine, style in _kernels(rows, results):
        kib = [row.workspace_bytes / 1024 for row in mine]
        axes.plot([n_of[id(row)] for row in mine], kib, label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="tokens", ylabel="workspace, KiB")
    return bool(axes.lines)


def _depth(axes: Axes, results: Results) -> bool:
    rows = [row for row in results.rows if row.table == "generation" and row.test[:2] == "tg"]
    for name, mine, style in _kernels(rows, results):
        depths = [int(row.test.partition("@ d")[2] or 0) for row in mine]
        axes.plot(depths, [row.work / _seconds(row) for row in mine], label=name, **style)
    axes.set(xlabel="tokens in the KV cache", ylabel="tok/s")
    axes.set_ylim(bottom=0)
    return bool(axes.lines)


def _size(n_bytes: int) -> str:
    return f"{n_bytes >> 20} MiB" if n_bytes >= 1 << 20 else f"{n_bytes >> 10} KiB"

"""A benchmark as one page that needs no network: pictures, tables, and the machine."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency
from .attention import SWEEP, parse
from .results import Results, Row
from .stats import fitted_exponent
from .tables import COLUMNS, TITLES, cells, machine_text, remarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart; markers repeat the distinction.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#010203"  # becomes the page's own text colour, light or dark
LEAST_FITTED = 256  # tokens: below, starting a call counts more than the work

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
.figures { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(28rem,
  100%), 1fr)); }
figure { margin: 0; }
figure svg { width: 100%; height: auto; }
figcaption, pre { font-size: 0.9rem; }
pre, .scroll { overflow-x: auto; }
pre { white-space: pre-wrap; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.6rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr + tr > td { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
"""


def need_matplotlib(flag: str) -> None:
    """Raise MissingDependency unless pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as e:
        raise MissingDependency(f"{flag} needs matplotlib: pip install 'gpt149[plot]'.") from e


def as_html(results: Results) -> str:
    """The whole page."""
    drawings = [
        (_roofline, "How near each kernel comes to what the machine can do (the lines), against "
         "operations per byte that a call must move."),
        (_time, "Time of a causal call with 4 heads of 64 against its length, with the exponent "
         f"fitted from {LEAST_FITTED} tokens on."),
        (_memory, "Extra memory that a kernel asks for in the same calls."),
        (_depth, "Decoding speed against the tokens in the KV cache."),
    ]  # fmt: skip
    figures = []
    for draw, caption in drawings:
        if svg := _svg(draw, results):
            figures.append(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>")
    sections = []
    for table, title in TITLES.items():
        rows = [row for row in results.rows if row.table == table]
        if rows:
            body = _table(COLUMNS[table], [cells(row, results) for row in rows])
            sections.append(f"<h2>{title}</h2><div class=scroll>{body}</div>")
    notes = "\n".join([machine_text(results), *remarks(results)])
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>gpt149 bench</title><style>{STYLE}</style></head><body>"
        f"<h1>gpt149 bench</h1><pre>{html.escape(notes)}</pre>"
        f"<div class=figures>{''.join(figures)}</div>{''.join(sections)}</body></html>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, row: Sequence[str]) -> str:
        padded = [*row, *[""] * (len(header) - len(row))]
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in padded) + "</tr>"

    return f"<table>{line('th', header)}{''.join(line('td', row) for row in rows)}</table>"


def _svg(draw: Any, results: Results) -> str:
    """The drawing as an SVG element, in the page's text colour; empty if there is nothing."""
    import matplotlib
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings = dict.fromkeys(inks, INK) | {"svg.fonttype": "none", "svg.hashsalt": "gpt149"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        if not draw(axes, results):
            return ""
        axes.grid(alpha=0.25)
        axes.legend(fontsize="small", framealpha=0)
        return _inline(figure)


def _inline(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def _kernels(rows: Sequence[Row]) -> list[tuple[str, list[Row], dict[str, Any]]]:
    """Each kernel with its rows that count, and its colour and marker."""
    names = list(dict.fromkeys(row.kernel for row in rows))
    return [
        (
            name,
            [row for row in rows if row.kernel == name and row.summary],
            {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]},
        )
        for i, name in enumerate(names)
    ]


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
    for name, mine, style in _kernels(rows):
        x = [row.work / row.n_bytes for row in mine]
        y = [row.work / _seconds(row) / 1e9 for row in mine]
        axes.plot(x, y, linestyle="", label=name, **style)
    axes.set(
        title="Roofline", xscale="log", yscale="log",
        xlabel="operations per byte", ylabel="GFLOP/s",
    )  # fmt: skip
    return True


def _swept(results: Results) -> dict[int, int]:
    """Of the rows that sweep over lengths, by their id(): the length."""
    rows = [row for row in results.rows if row.table == "attention" and row.test in SWEEP]
    return {id(row): parse(row.test).n_kv for row in rows}


def _time(axes: Axes, results: Results) -> bool:
    n_of = _swept(results)
    rows = [row for row in results.rows if id(row) in n_of]
    for name, mine, style in _kernels(rows):
        n, s = [n_of[id(row)] for row in mine], [_seconds(row) for row in mine]
        long = [(a, b) for a, b in zip(n, s, strict=True) if a >= LEAST_FITTED]
        label = name
        if len(long) > 1:
            label += f" (n^{fitted_exponent(*zip(*long, strict=True)):.2f})"
        axes.plot(n, [t * 1e3 for t in s], label=label, **style)
    axes.set(
        title="Time against length", xscale="log", yscale="log", xlabel="tokens", ylabel="ms a call"
    )
    return bool(rows)


def _memory(axes: Axes, results: Results) -> bool:
    n_of = _swept(results)
    rows = [row for row in results.rows if id(row) in n_of and row.workspace_bytes]
    for name, mine, style in _kernels(rows):
        kib = [row.workspace_bytes / 1024 for row in mine]
        axes.plot([n_of[id(row)] for row in mine], kib, label=name, **style)
    axes.set(
        title="Memory against length", xscale="log", yscale="log",
        xlabel="tokens", ylabel="workspace, KiB",
    )  # fmt: skip
    return bool(rows)


def _depth(axes: Axes, results: Results) -> bool:
    rows = [row for row in results.rows if row.table == "generation" and row.test[:2] == "tg"]
    for name, mine, style in _kernels(rows):
        depths = [int(row.test.partition("@ d")[2] or 0) for row in mine]
        axes.plot(depths, [row.work / _seconds(row) for row in mine], label=name, **style)
    axes.set(title="Decode against context", xlabel="tokens in the KV cache", ylabel="tok/s")
    axes.set_ylim(bottom=0)
    return bool(rows)


def _size(n_bytes: int) -> str:
    return f"{n_bytes >> 20} MiB" if n_bytes >= 1 << 20 else f"{n_bytes >> 10} KiB"

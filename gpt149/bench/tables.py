"""Results as tables for people (plain or Markdown) and as CSV and JSON lines for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .results import Results, Row
from .stats import NOISY, Ratio, bootstrap_ratio, paired_ratio

BASE = "torch"
TITLES = {
    "generation": "Generation",
    "attention": "Attention alone",
}
COLUMNS = {
    "generation": ("kernel", "test", "tok/s", "±", "n", "TTFT ms", "attention", "peak RSS MB"),
    "attention": (
        *("kernel", "heads,tokens,dim", "ms", "min", "±", "n", "GFLOP/s", "GB/s", "of the ceiling"),
        *("workspace", "x torch"),
    ),
}


def derived(row: Row, results: Results) -> dict[str, Any]:
    """A row's figures under the names that CSV and JSON lines use; None where there are none."""
    summary = row.summary
    figures: dict[str, Any] = {
        "table": row.table,
        "kernel": row.kernel,
        "test": row.test,
        "median_s": summary.median if summary else None,
        "min_s": summary.least if summary else None,
        "spread": summary.spread if summary else None,
        "samples": summary.n if summary else 0,
        "noisy": summary.noisy if summary else None,
        "rejected": row.rejected,
        "skipped": row.skipped,
    }
    if row.table == "generation":
        return figures | {
            "tok_s": row.work / summary.median if summary else None,
            "ttft_s": row.ttft_s,
            "attention_share": row.attention_share,
            "peak_rss_bytes": row.peak_rss,
        }
    ratio = against_base(row, results)
    bound_s, bound = results.ceilings.seconds(row.work, row.n_bytes, row.working_set)
    return figures | {
        "gflop_s": row.work / summary.median / 1e9 if summary else None,
        "gb_s": row.n_bytes / summary.median / 1e9 if summary else None,
        "bound": bound,
        "share_of_ceiling": bound_s / summary.median if summary else None,
        "workspace_bytes": row.workspace_bytes,
        "times_torch": ratio.median if ratio else None,
        "times_torch_low": ratio.low if ratio else None,
        "times_torch_high": ratio.high if ratio else None,
    }


def against_base(row: Row, results: Results) -> Ratio | None:
    """How many times as fast as torch's attention, round by round."""
    base = next(
        (
            r
            for r in results.rows
            if (r.table, r.kernel, r.test) == (row.table, BASE, row.test) and r.summary
        ),
        None,
    )
    if base is None or row.summary is None:
        return None
    return paired_ratio(row.samples, base.samples)


def as_text(results: Results, *, markdown: bool = False) -> str:
    """The tables, what they were measured on, and what to distrust."""
    parts = [machine_text(results)]
    for table, title in TITLES.items():
        rows = [row for row in results.rows if row.table == table]
        if rows:
            drawn = [cells(row, results) for row in rows]
            draw = _markdown if markdown else _plain
            parts += [f"### {title}" if markdown else title, draw(COLUMNS[table], drawn)]
    parts += remarks(results)
    return "\n\n".join(parts)


def as_csv(results: Results) -> str:
    """All rows; columns that a table lacks are empty."""
    rows = [derived(row, results) for row in results.rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def as_jsonl(results: Results) -> str:
    """One object a row."""
    return "\n".join(json.dumps(derived(row, results)) for row in results.rows)


def as_json(results: Results) -> str:
    """The machine, its ceilings and the rows in one object."""
    rows = [derived(row, results) for row in results.rows]
    ceilings = vars(results.ceilings)
    return json.dumps({"machine": results.machine, "ceilings": ceilings, "rows": rows})


@dataclass(frozen=True)
class Change:
    """A row now against the same row in another run. ratio: how many times as fast."""

    row: Row
    ratio: Ratio
    slower: bool  # significantly, and by more than the threshold


def changes(now: Results, before: Results, threshold: float) -> list[Change]:
    """Rows that both runs have. threshold: a share; slower by less is never held against a row.

    A row is slower if the confidence interval of the medians says so, and the least samples too:
    those of an unlucky run are few.
    """
    earlier = {(r.table, r.kernel, r.test): r for r in before.rows if r.summary}
    found = []
    for row in now.rows:
        old, summary = earlier.get((row.table, row.kernel, row.test)), row.summary
        if old is None or old.summary is None or summary is None:
            continue
        ratio = bootstrap_ratio(row.samples, old.samples)
        limit = 1 / (1 + threshold)
        slower = ratio.high < limit and old.summary.least / summary.least < limit
        found.append(Change(row, ratio, slower))
    return found


def changes_as_text(found: Sequence[Change]) -> str:
    """One line a row."""
    cells = [
        (
            c.row.kernel,
            c.row.test,
            f"{c.ratio.median:.3f}",
            f"{c.ratio.low:.3f} to {c.ratio.high:.3f}",
            "SLOWER" if c.slower else "",
        )
        for c in found
    ]
    return _plain(("kernel", "test", "times as fast", "95 %", ""), cells)


def described(results: Results) -> dict[str, str]:
    """What it was measured on and when, and its ceilings."""
    m, c = results.machine, results.ceilings
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    small, large = c.bandwidths[0], c.bandwidths[-1]
    return {
        "Machine": f"{m['cpu']}, {m['processors']} processors, {m['threads']} threads, "
        f"load {m['load']}, {m['system']}",
        "Software": f"{m['compiler']}; Python {m['python']}, {versions}",
        "Date": m["time"],
        "Ceilings": f"{c.flops / 1e9:.0f} GFLOP/s ({c.flops_one_thread / 1e9:.0f} on 1 thread), "
        f"reading {small[1] / 1e9:.0f} GB/s of {small[0] >> 10} KiB, "
        f"{large[1] / 1e9:.0f} GB/s of {large[0] >> 20} MiB",
    }


def machine_text(results: Results) -> str:
    """What it was measured on, and its ceilings, in three lines."""
    d = described(results)
    return f"{d['Machine']}\n{d['Software']}; {d['Date']}\nCeilings: {d['Ceilings']}"


def remarks(results: Results) -> list[str]:
    """What to distrust, and what was rejected and why."""
    lines = []
    timed = [row for row in results.rows if row.summary]
    noisy = [row for row in timed if row.summary and row.summary.noisy]
    if timed:
        lines.append(
            f"{len(noisy)} of {len(timed)} rows are noisy (!): the middle half of their samples "
            f"(±, the interquartile range) spans {NOISY:.0%} of the median or more."
        )
    overheads = [(row.overhead_s, row.overhead_bytes) for row in timed if row.overhead_s]
    if overheads:
        seconds, n_bytes = min(overheads)
        lines.append(
            f"Of every call of a C++ kernel, {seconds * 1e6:.1f} us and {n_bytes:,} bytes are the "
            "harness's own."
        )
    lines += [f"REJECTED {r.kernel}, {r.test}: {r.rejected}." for r in results.rows if r.rejected]
    if results.interrupted:
        lines.append("Interrupted: what is missing was not measured.")
    return lines


def cells(row: Row, results: Results) -> tuple[str, ...]:
    """A row of its table, as text; shorter where there are no samples."""
    d, summary = derived(row, results), row.summary
    if summary is None:
        return (row.kernel, row.test, "rejected" if row.rejected else row.skipped or "-")
    # Rounded down: 10% is noisy wherever it stands.
    spread = f"{math.floor(summary.spread * 100)}%{'!' if summary.noisy else ''}"
    if row.table == "generation":
        return (
            *(row.kernel, row.test, f"{d['tok_s']:,.0f}", spread, str(summary.n)),
            "" if row.ttft_s is None else f"{row.ttft_s * 1e3:.1f}",
            "" if row.attention_share is None else f"{row.attention_share:.0%}",
            f"{row.peak_rss / 1e6:.0f}",
        )
    ms: Callable[[float], str] = lambda s: f"{s * 1e3:.3f}"  # noqa: E731
    return (
        *(row.kernel, row.test, ms(summary.median), ms(summary.least), spread, str(summary.n)),
        *(f"{d['gflop_s']:.1f}", f"{d['gb_s']:.1f}"),
        f"{d['share_of_ceiling']:.0%} {d['bound']}",
        f"{row.workspace_bytes:,}",
        "" if d["times_torch"] is None else f"{d['times_torch']:.2f}",
    )


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first two to the left, figures to the right."""
    complete = [row for row in rows if len(row) == len(header)]
    widths = [max(len(row[i]) for row in [header, *complete]) for i in range(len(header))]
    for i in range(2):
        widths[i] = max(widths[i], *(len(row[i]) for row in rows)) if rows else widths[i]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[i]) if i < 2 or len(row) != len(header) else cell.rjust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in [header, *rows]
    )


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    padded = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    ruler = ["---", "---", *["---:"] * (len(header) - 2)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ruler, *padded])

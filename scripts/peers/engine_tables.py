"""What engines measured: a Markdown table, and a plot of decode against depth."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from turns import Measured

COMPARED = 8  # first tokens that must be the same everywhere


def table(
    found: Mapping[str, Measured | str],
    threads: Mapping[str, int],
    n_prompt: int,
    n: int,
    n_batch: int,
) -> str:
    """Markdown: medians, and from where to where. threads: how many each engine had.

    The prefill of several sequences stays out: some share the one prompt, some read it for each.
    """
    lines = [
        "| engine | threads | prefill tok/s | decode tok/s | start to first token | peak RSS "
        "| same tokens |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    told = [
        tokens
        for m in found.values()
        if isinstance(m, Measured) and (tokens := m.said["tokens"][:COMPARED])
    ]
    for name, m in found.items():
        if isinstance(m, str):
            lines.append(f"| {name} | {threads[name]} | {m} | | | | |")
            continue
        tokens = m.said["tokens"][:COMPARED]
        decode = spread([n_batch * (n - 1) / s for s in m.seconds["decode"]])
        if not tokens:
            lines.append(f"| {name} | {threads[name]} | | {decode} | | | |")
            continue
        prefill = spread([n_prompt / s for s in m.seconds["prefill"]]) if n_batch == 1 else ""
        same = "yes" if tokens == told[0] else "NO"
        lines.append(
            f"| {name} | {threads[name]} | {prefill} | {decode} | {m.start:.2f} s "
            f"| {m.peak_rss / 1e6:.0f} MB | {same} |"
        )
    return "\n".join(lines)


def draw(by_depth: Mapping[int, Mapping[str, Measured | str]], n: int, to: Path) -> None:
    """Decode tok/s of each engine against the tokens that lie behind, as PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    colours = pyplot.get_cmap("tab20").colors
    for name, colour in zip(next(iter(by_depth.values())), colours, strict=False):
        points = [
            (depth + n / 2, (n - 1) / statistics.median(m.seconds["decode"]))
            for depth, found in by_depth.items()
            if isinstance(m := found[name], Measured)
        ]
        mine = name.startswith("gpt149")
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            color=colour,
            linewidth=3 if mine else 1,
            label=name,
        )
    axes.set(xlabel="tokens in the KV cache", ylabel="decode, tok/s", yscale="log")
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(to, dpi=110)


def spread(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"

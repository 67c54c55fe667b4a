"""Draw the log of scripts/train.py: loss on training batches and on the held-out slice.

python scripts/plot_curve.py runs/train/log.csv weights/shakespeare/curve.png
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot


@click.command(help=__doc__)
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("png", type=click.Path(dir_okay=False, path_type=Path))
def main(log: Path, png: Path) -> None:
    with log.open(newline="") as f:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(f)]
    tokens = [row["tokens"] / 1e6 for row in rows]
    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    axes.plot(tokens, [r["train_nats_per_char"] for r in rows], "--", label="training batches")
    axes.plot(tokens, [r["dev_nats_per_char"] for r in rows], label="held-out slice")
    axes.set(xlabel="tokens seen (millions)", ylabel="loss (nats a character)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(png, dpi=120)


if __name__ == "__main__":
    main()

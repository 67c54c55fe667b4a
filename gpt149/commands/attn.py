"""`gpt149 attn`: the attention matrix of a real prompt, through any kernel, as a heat map."""

from __future__ import annotations

import io
from pathlib import Path

import click

from ..errors import InputError, MissingDependency
from ..system.paths import write_whole

SHADES = " .:-=+*#%@"
LABEL = 10  # characters of a token's label
LARGEST_FIGURE = 24.0  # inches a side; of more tokens every second, third, ... has its label
MOST_LABELS = 100


def run(
    prompt: str,
    layer: int,
    head: int,
    attention: str,
    model: str,
    png: Path | None,
    threads: int | None,
) -> None:
    """Print the matrix of a layer's head (both from 0), or draw it into a PNG file.

    Raises:
        Gpt149Error: see `errors`.
    """
    import torch
    from torch import Tensor

    from ..engine.probe import Spy, attention_matrix
    from ..kernels.dispatch import Attention
    from .text import argument, load

    attend = Attention(attention, n_threads=threads)
    torch.set_num_threads(attend.n_threads)
    loaded = load(model)
    c = loaded.model.config
    tokenizer = loaded.need_tokenizer()
    for name, value, n in (("layer", layer, c.n_layer), ("head", head, c.n_head)):
        if not 0 <= value < n:
            raise InputError(f"--{name} is {value}, and this model has {n}, from 0 to {n - 1}.")
    ids = tokenizer.encode(argument(prompt))
    if not 1 <= len(ids) <= c.n_ctx:
        raise InputError(f"the prompt has {len(ids)} tokens, and must have 1 to {c.n_ctx}.")
    matrices: list[Tensor] = []

    def look(i: int, q: Tensor, k: Tensor, _v: Tensor, scale: float) -> None:
        if i == layer:
            one = slice(head, head + 1)
            probe = attention_matrix(attend, q[:, one], k[:, one], causal=True, scale=scale)
            matrices.append(probe)

    with torch.inference_mode():
        loaded.model(torch.tensor([ids]), Spy(attend, look))
    labels = [repr(tokenizer.decode([i]))[1:-1] for i in ids]
    if png is not None:
        _draw(matrices[0].numpy(), labels, png, f"layer {layer}, head {head}, {attend.kernel.name}")
        click.echo(f"{png}", err=True)
        return
    click.echo(f"layer {layer}, head {head}, {attend.kernel.name}: rows are queries, '@' is 1")
    for i, row in enumerate(matrices[0].tolist()):
        # A square root lifts small weights into sight.
        cells = "".join(_shade(p) for p in row[: i + 1])
        click.echo(f"{labels[i][:LABEL]:>{LABEL}} |{cells}")
    click.echo(" " * (LABEL + 2) + "".join(label.strip()[:1] or "_" for label in labels))


def _shade(p: float) -> str:
    if p != p:
        return "?"
    return SHADES[round(min(max(p, 0.0), 1.0) ** 0.5 * (len(SHADES) - 1))]


def _draw(matrix: object, labels: list[str], png: Path, title: str) -> None:
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError as e:
        raise MissingDependency("--png needs matplotlib: pip install 'gpt149[plot]'.") from e
    size = min(2 + 0.22 * len(labels), LARGEST_FIGURE)
    step = -(-len(labels) // MOST_LABELS)
    labelled = range(0, len(labels), step)
    names = [labels[i] for i in labelled]
    figure, axes = pyplot.subplots(figsize=(size, size), layout="constrained")
    image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
    axes.set(title=title, xlabel="key", ylabel="query")
    axes.set_xticks(labelled, names, rotation=90, fontsize=7)
    axes.set_yticks(labelled, names, fontsize=7)
    figure.colorbar(image, label="attention weight")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(png, drawn.getvalue())

"""A profile as one page that needs no network: causes, experiments, and time beside the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from string import Template

from ..bench.results import Results, describe_machine
from ..bench.stats import Ratio
from ..bench.tables import described
from ..system.page import listed, style
from .evidence import Cause
from .experiments import Found, unsure
from .lines import Place
from .report import headline, notes, worth
from .run import Profile

PAGE = Path(__file__).with_name("page.html")
# Experiments by the names of their figures: what took how many times the CPU time of what.
AGAINST = {
    "causal": "a causal mask, against none",
    "windowed": "a pair of query and key with the window, against one without",
    "shrunk": "a pair of query and key, against one of the best part of n",
    "sliced": "a pair of query and key, against one of a few queries",
    "narrowed": "head_dim, against half of it, for its size",
    "odd": "head_dim + 1, against head_dim, for its size",
    "model": "strides as in a model, against rows that touch",
    "denormal": "weights that are denormal, against usual ones",
    "unflushed": "numbers as they are, against denormals taken for 0",
    "inflation": "CPU time of all threads, against that of one alone",
}
LEAST_SHARE = 0.005  # of the time, for a figure beside the line


def as_html(spec: str, profiles: Sequence[Profile]) -> str:
    """The whole page: `page.html` with its parts filled in."""
    most = profiles[0].evidence.ceilings
    results = Results(describe_machine(most.n_threads, ""), most)
    facts = {"Kernel": spec, **described(results), "Command": results.machine["command"]}
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        style=style(),
        facts=listed(facts),
        shapes="\n".join(_shape(n, spec, p) for n, p in enumerate(profiles)),
    )


def _shape(n: int, spec: str, p: Profile) -> str:
    causes = "\n".join(_cause(n, cause) for cause in p.causes)
    said = [*(f"Also: {note}" for note in notes(p)), *(f"Not seen: {s}." for s in p.unseen)]
    parts = sorted((p.evidence.parts or {}).items(), key=lambda part: -part[1].share)
    return "\n".join(
        [
            f"<h2>{escape(p.found.shape.name)}</h2>",
            f"<p>{escape(headline(spec, p))}</p>",
            f"<ol>\n{causes}\n</ol>" if causes else "<p>No cause found.</p>",
            *(f"<p>{escape(sentence)}</p>" for sentence in said),
            _table(f"Experiments, {p.found.shape.name}", ("experiment", "times", "range", ""),
                   _experiments(p.found)),
            _table("What one thread's time goes into", ("what", "share"),
                   [(name, f"{part.share:.0%}") for name, part in parts]),
            *_sources(n, p),
        ]
    )  # fmt: skip


def _cause(n: int, c: Cause) -> str:
    share = f", {c.share:.0%} of the time" if c.share is not None else ""
    where = f' (<a href="#{_anchor(n, c.place)}">{escape(str(c.place))}</a>)' if c.place else ""
    return f"<li><b>{c.name}</b>{share}{where}: {escape(c.sentence)}.{worth(c)}"


def _anchor(n: int, place: Place) -> str:
    return f"s{n}-{escape(str(place))}"


def _experiments(f: Found) -> Iterator[tuple[str, ...]]:
    """Every ratio that was measured, then what else was counted."""
    for one in fields(Found):
        if isinstance(ratio := getattr(f, one.name), Ratio):
            yield AGAINST.get(one.name, one.name.replace("_", " ")), *_figures(ratio)
    for (br, bc), ratio in sorted(f.tiles.items()):
        yield f"br={br} bc={bc}, against its own tile", *_figures(ratio)
    yield f"threads that work, of {f.n_threads}", str(f.workers), "", ""
    if f.imbalance:
        yield "the busiest thread, against the mean", f"{f.imbalance:.2f}", "", ""
    yield "page faults a call", f"{f.faults:,.0f}", "", ""
    yield "bytes of workspace", f"{f.workspace_bytes:,}", "", ""


def _figures(ratio: Ratio) -> tuple[str, str, str]:
    said = "noisy" if unsure(ratio) else ""
    return f"{ratio.median:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", said


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return ""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<h3>{title}</h3>\n<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n'
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def _sources(n: int, p: Profile) -> Iterator[str]:
    """The author's files in which time was spent, the most first, a share beside each line."""
    shares: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for place, share in p.lines:
        shares[place.file][place.line] += share
    for file, by_line in sorted(shares.items(), key=lambda one: -sum(one[1].values())):
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:  # moved meanwhile
            continue
        rows = "\n".join(
            _line(_anchor(n, Place(file, number, "")), number, line, by_line.get(number, 0.0))
            for number, line in enumerate(text.splitlines(), 1)
        )
        name = escape(Path(file).name)
        yield (
            f'<h3>{name}</h3>\n<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
            f'\n<table class="source"><tbody>\n{rows}\n</tbody></table></div>'
        )


def _line(anchor: str, number: int, line: str, share: float) -> str:
    bar = f' style="--share:{share:.1%}"' if share >= LEAST_SHARE else ""
    said = f"{share:.0%}" if share >= LEAST_SHARE else ""
    return f'<tr id="{anchor}"><td>{number}<td{bar}>{said}<td>{escape(line)}'

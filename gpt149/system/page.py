"""A report as one HTML page that needs no network: facts, sentences, pictures, sortable tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

PAGE, STYLE = (Path(__file__).with_name(name) for name in ("page.html", "style.css"))


def page(
    title: str,
    facts: Mapping[str, str],
    remarks: Sequence[str],
    tables: Sequence[str],
    pictures: Sequence[str] = (),
) -> str:
    """The whole page: `page.html` with its parts filled in. tables, pictures: HTML."""
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=style(),
        facts=listed(facts),
        remarks="\n".join(f"<p>{escape(said)}" for said in remarks),
        pictures="\n".join(pictures),
        tables="\n".join(tables),
    )


def style() -> str:
    """What all pages look like."""
    return STYLE.read_text(encoding="utf-8").rstrip()


def listed(facts: Mapping[str, str]) -> str:
    """Facts as the items of a list of definitions."""
    return "\n".join(f"<dt>{name}<dd>{escape(said)}" for name, said in facts.items())


def section(title: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    """A table below its title. rows: HTML; a cell's data-sort is what it is sorted by.

    The first two columns are words, and others whose cells are of the class `word`.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "\n".join(rows)
    return (
        f'<h2>{title}</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n'
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )

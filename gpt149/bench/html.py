"""A benchmark as one page that needs no network: pictures, tables, and the machine."""

from __future__ import annotations

import re
from html import escape

from ..errors import MissingDependency
from ..system.page import page, section
from .figures import Picture, pictures
from .results import Results, Row
from .tables import COLUMNS, TITLES, cells, described, remarks

LEFT = 2  # columns of words; figures behind them
NUMBER = re.compile(r"[\d,]+(\.\d+)?")


def need_matplotlib(flag: str) -> None:
    """Raise MissingDependency unless pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as e:
        raise MissingDependency(f"{flag} needs matplotlib: pip install 'gpt149[plot]'.") from e


def as_html(results: Results) -> str:
    """The whole page."""
    facts = {**described(results), "Command": results.machine["command"]}
    tables = []
    for table, title in TITLES.items():
        if rows := [row for row in results.rows if row.table == table]:
            columns = COLUMNS[table]
            tables.append(
                section(title, columns, [_row(row, len(columns), results) for row in rows])
            )
    figures = [_figure(picture) for picture in pictures(results)]
    return page("gpt149 bench", facts, remarks(results), tables, figures)


def _figure(picture: Picture) -> str:
    """The legend is the page's, below the axes: it covers no point, and wraps on a phone."""
    svg = picture.svg.replace("<svg", f'<svg role="img" aria-label="{picture.title}"', 1)
    legend = "".join(
        f'<li><span style="color:{colour}" aria-hidden="true">{sign}</span> {escape(label)}</li>'
        for colour, sign, label in picture.legend
    )
    return (
        f"<figure><h2>{picture.title}</h2>\n{svg}\n<ul>{legend}</ul>\n"
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _row(row: Row, n_columns: int, results: Results) -> str:
    """Figures carry the number that they are sorted by; why there are none spans the columns."""
    texts = cells(row, results)
    words = "".join(f"<td>{escape(text)}</td>" for text in texts[:LEFT])
    if row.summary is None:
        return f'<tr>{words}<td colspan="{n_columns - LEFT}">{escape(texts[LEFT])}</td></tr>'
    figures = "".join(_figure_cell(text) for text in texts[LEFT:])
    return f"<tr>{words}{figures}</tr>"


def _figure_cell(text: str) -> str:
    found = NUMBER.match(text)
    number = f' data-sort="{found[0].replace(",", "")}"' if found else ""
    noisy = ' class="noisy"' if text.endswith("%!") else ""
    return f"<td{number}{noisy}>{escape(text)}</td>"

"""Builds the report's HTML page. It needs no other file: figures and styles are embedded."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .abstract import PAPER, PAPER_URL, abstract
from .findings import Findings
from .table import Table
from .table_files import as_html, without_constant


@dataclass(frozen=True)
class Section:
    """A section after the results: sentences that answer `question`, then figures and tables.

    `items` names the figures and tables that belong to the section.
    """

    name: str
    title: str
    question: str
    sentences: Sequence[str]
    items: Sequence[str]


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --rule: #d5d5d5; --soft: #4a4a4a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --rule: #3a3f47; --soft: #b9bfc6; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 73rem; margin: 2rem auto; padding: 0 1rem; }
p, dl, li, figcaption { max-width: 52rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--rule); }
nav a { margin-right: 1rem; } a { color: inherit; }
figure { margin: 1.5rem 0; } figcaption { color: var(--soft); margin-bottom: .5rem; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; padding: 4px;
  box-sizing: border-box; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .78rem; }
th, td { padding: .2rem .45rem; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; overflow-wrap: anywhere; } th { vertical-align: bottom; }
td:first-child { min-width: 7rem; } .n { text-align: right; white-space: nowrap; }
th.n { white-space: normal; overflow-wrap: normal; } small { font-size: .9em; }
.note { font-size: .8rem; margin: .2rem 0; color: var(--soft); }
dt { font-weight: 600; margin-top: .8rem; } dd { margin: 0; overflow-wrap: anywhere; }
li { margin: .4rem 0; } details { margin: 1rem 0; } summary { cursor: pointer; }
@page { size: A4; margin: 14mm 12mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --rule: #bbb; --soft: #333; }
  body { max-width: none; margin: 0; padding: 0; font-size: 9.5pt; }
  p, dl, li, figcaption { max-width: none; } nav { display: none; }
  table { font-size: 6.4pt; width: 100%; } th, td { padding: 1pt 2pt; }
  td:first-child { min-width: 0; } .wide { overflow: visible; } .note { font-size: 7pt; }
  figure img { max-height: 200mm; } figure:has(img), tr { break-inside: avoid; }
  thead { display: table-header-group; } h2, h3, figcaption { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; }
}
"""

APPENDIX = ("points", "seeds", "sensitivity", "held_out", "precision")
"""The tables of the appendix."""

FIRST = ("curves", "scaling")
"""The figures that stand first; the others follow in the order of `__main__`."""


def page(
    found: Findings,
    methods: Sequence[tuple[str, list[str]]],
    caveats: Sequence[str],
    figures: Sequence[tuple[str, Path]],
    tables: Sequence[Table],
    sections: Sequence[Section] = (),
    folded: Iterable[str] = APPENDIX,
) -> str:
    """Return the page as HTML: abstract, results, further sections, limitations, methods, appendix.

    `figures` are pairs (caption, SVG file). Tables named in `folded` are in the appendix, collapsed
    at first. Figures and tables that belong to no section are under Results, the main table first.
    They are numbered in the order of the page.
    """
    collapsed = set(folded)
    place_of = {name: section.name for section in sections for name in section.items}
    title = f"Elasticity of {found.sweep}"
    summary = " ".join(abstract(found, [f"{s.question} {s.sentences[0]}" for s in sections]))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        '<nav><a href="#abstract">Abstract</a><a href="#answers">Answers</a>'
        '<a href="#results">Results</a>'
        + "".join(f'<a href="#{each.name}">{html.escape(each.title)}</a>' for each in sections)
        + '<a href="#caveats">Caveats</a><a href="#methods">Methods</a>'
        '<a href="#appendix">Appendix</a></nav>',
        '<h2 id="abstract">Abstract</h2>',
        f"<p>{_linked(summary)}</p>",
        '<h2 id="answers">Answers</h2>',
        *_answers(found),
        '<h2 id="results">Results</h2>',
    ]
    if not found.measurements:
        parts.append("<p>The answers of this sweep are not scored, so it has no curves.</p>")
    numbers = {"Figure": 0, "Table": 0}

    def number(what: str, caption: str) -> str:
        numbers[what] += 1
        return f"{what} {numbers[what]}. {caption}"

    def drawn(section: str) -> Iterator[str]:
        own = [each for each in figures if place_of.get(each[1].stem, "") == section]
        own.sort(key=lambda each: each[1].stem not in FIRST)  # stable
        own_tables = [
            t for t in tables if place_of.get(t.name, "") == section and t.name not in collapsed
        ]
        for table in own_tables[:1]:
            yield as_html(table, number("Table", without_constant(table).caption))
        for caption, svg in own:
            yield _figure(svg, caption, number("Figure", caption))
        for table in own_tables[1:]:
            yield as_html(table, number("Table", without_constant(table).caption))

    parts += drawn("")
    for section in sections:
        title, question = html.escape(section.title), html.escape(section.question)
        parts.append(f'<h2 id="{section.name}">{title}</h2><h3>{question}</h3>')
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
        parts += drawn(section.name)
    parts.append('<h2 id="caveats">Caveats</h2><ul>')
    parts += [f"<li>{html.escape(caveat)}</li>" for caveat in caveats]
    parts.append('</ul><h2 id="methods">Methods</h2><dl>')
    for subject, sentences in methods:
        parts.append(f"<dt>{html.escape(subject)}</dt>")
        parts += [f"<dd>{html.escape(sentence)}</dd>" for sentence in sentences]
    parts.append('</dl><h2 id="appendix">Appendix</h2>')
    for table in tables:
        if table.name in collapsed:
            caption = number("Table", without_constant(table).caption)
            folded_as = html.escape(caption.split(". ")[0] + ". " + caption.split(". ")[1])
            parts.append(
                f"<details><summary>{folded_as}</summary>{as_html(table, caption)}</details>"
            )
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _figure(svg: Path, alt: str, caption: str) -> str:
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    return (
        f'<figure id="{html.escape(svg.stem)}"><img alt="{html.escape(alt)}" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption>{html.escape(caption)}</figcaption>'
        "</figure>"
    )


def _linked(text: str) -> str:
    """Return the text as HTML, with the paper's title as a link."""
    return html.escape(text).replace(
        html.escape(PAPER), f'<a href="{PAPER_URL}"><cite>{html.escape(PAPER)}</cite></a>', 1
    )


def _answers(found: Findings) -> list[str]:
    """Return the sweep's answers as a list of definitions: question, answer, strength."""
    if not found.conclusions:
        return ["<p>No curve is measured, so there is no answer.</p>"]
    parts = ["<dl>"]
    for each in found.conclusions:
        question = f"{each.question} ({each.about})" if each.about else each.question
        parts.append(f"<dt>{html.escape(question)}</dt><dd><b>{html.escape(each.answer)}</b></dd>")
        if each.strength:
            parts.append(f"<dd>{html.escape(each.strength)}</dd>")
    return [*parts, "</dl>"]

"""Builds the report's HTML page. It needs no other file: figures and styles are embedded."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .findings import Findings
from .table import Table
from .table_files import as_html


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
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --rule: #d5d5d5; --soft: #666; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --rule: #3a3f47; --soft: #a0a6ad; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--rule); }
nav a { margin-right: 1rem; } a { color: inherit; }
figure { margin: 1.5rem 0; } figcaption { color: var(--soft); margin-bottom: .5rem; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; padding: 4px;
  box-sizing: border-box; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; } td { white-space: nowrap; } td:last-child { white-space: normal;
  min-width: 8rem; } th { vertical-align: bottom; } .n { text-align: right; }
dt { font-weight: 600; margin-top: .8rem; } dd { margin: 0; overflow-wrap: anywhere; }
li { margin: .4rem 0; } details { margin: 1rem 0; } summary { cursor: pointer; }
@media print { body { max-width: none; margin: 0; } details > * { display: block; } }
"""


def page(
    found: Findings,
    methods: Sequence[tuple[str, list[str]]],
    caveats: Sequence[str],
    figures: Sequence[tuple[str, Path]],
    tables: Sequence[Table],
    sections: Sequence[Section] = (),
    folded: Iterable[str] = ("points", "seeds", "sensitivity"),
) -> str:
    """Return the page as HTML.

    `figures` are pairs (caption, SVG file). Tables named in `folded` are collapsed at first.
    Figures and tables that belong to no section are shown under Results.
    """
    collapsed = set(folded)
    place_of = {name: section.name for section in sections for name in section.items}
    title = f"Elasticity of {found.sweep}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        '<nav><a href="#answers">Answers</a><a href="#methods">Methods</a>'
        '<a href="#results">Results</a>'
        + "".join(f'<a href="#{each.name}">{html.escape(each.title)}</a>' for each in sections)
        + '<a href="#caveats">Caveats</a></nav>',
        '<h2 id="answers">Answers</h2>',
        *_answers(found),
        '<h2 id="methods">Methods</h2><dl>',
    ]
    for subject, sentences in methods:
        parts.append(f"<dt>{html.escape(subject)}</dt>")
        parts += [f"<dd>{html.escape(sentence)}</dd>" for sentence in sentences]
    parts.append('</dl><h2 id="results">Results</h2>')
    shown: dict[str, list[str]] = {"": [], **{section.name: [] for section in sections}}
    for number, (caption, svg) in enumerate(figures, start=1):
        data = base64.b64encode(svg.read_bytes()).decode("ascii")
        caption_text = html.escape(f"Figure {number}. {caption}")
        shown[place_of.get(svg.stem, "")].append(
            f'<figure id="{html.escape(svg.stem)}"><img alt="{html.escape(caption)}" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{caption_text}</figcaption></figure>'
        )
    for table in tables:
        text = as_html(table, captioned=table.name not in collapsed)
        if table.name in collapsed:
            text = f"<details><summary>{html.escape(table.caption)}</summary>{text}</details>"
        shown[place_of.get(table.name, "")].append(text)
    if not found.measurements:
        parts.append("<p>The answers of this sweep are not scored, so it has no curves.</p>")
    parts += shown[""]
    for section in sections:
        title, question = html.escape(section.title), html.escape(section.question)
        parts.append(f'<h2 id="{section.name}">{title}</h2><h3>{question}</h3>')
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
        parts += shown[section.name]
    parts.append('<h2 id="caveats">Caveats</h2><ul>')
    parts += [f"<li>{html.escape(caveat)}</li>" for caveat in caveats]
    parts.append("</ul></body></html>")
    return "\n".join(parts) + "\n"


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

"""The report as one HTML page that needs no other file: figures and styles are inside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from elastic_ray.theory.answer import QUESTION

from .findings import Findings
from .tables import Table, as_html

COMPRESSED = ("code_lengths", "faster", "compression")
"""What belongs to the section on code lengths, by name."""

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
    compression: Sequence[str] = (),
    folded: Iterable[str] = ("points",),
) -> str:
    """The page; `figures` are (caption, SVG file), tables named in `folded` are shut at first.

    `compression` are the sentences of the section on code lengths, which is left out without them;
    the figures and tables named in `COMPRESSED` stand there.
    """
    shut = set(folded)
    title = f"Elasticity of {found.sweep}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        '<nav><a href="#methods">Methods</a><a href="#results">Results</a>'
        + ('<a href="#compression">Compression</a>' if compression else "")
        + '<a href="#caveats">Caveats</a></nav>',
        '<h2 id="methods">Methods</h2><dl>',
    ]
    for subject, sentences in methods:
        parts.append(f"<dt>{html.escape(subject)}</dt>")
        parts += [f"<dd>{html.escape(sentence)}</dd>" for sentence in sentences]
    parts.append('</dl><h2 id="results">Results</h2>')
    compressed = []
    for number, (caption, svg) in enumerate(figures, start=1):
        data = base64.b64encode(svg.read_bytes()).decode("ascii")
        words = html.escape(f"Figure {number}. {caption}")
        place = compressed if svg.stem in COMPRESSED else parts
        place.append(
            f'<figure id="{html.escape(svg.stem)}"><img alt="{html.escape(caption)}" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{words}</figcaption></figure>'
        )
    for table in tables:
        text = as_html(table, captioned=table.name not in shut)
        if table.name in shut:
            text = f"<details><summary>{html.escape(table.caption)}</summary>{text}</details>"
        (compressed if table.name in COMPRESSED else parts).append(text)
    if compression:
        parts.append(f'<h2 id="compression">Compression</h2><h3>{html.escape(QUESTION)}</h3>')
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in compression]
        parts += compressed
    parts.append('<h2 id="caveats">Caveats</h2><ul>')
    parts += [f"<li>{html.escape(caveat)}</li>" for caveat in caveats]
    parts.append("</ul></body></html>")
    return "\n".join(parts) + "\n"

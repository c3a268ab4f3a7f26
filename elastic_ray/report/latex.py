"""Writes the report as a LaTeX document, for a paper's appendix: `--format tex`.

It includes the figures as PDF and the tables of the results; those of the page's appendix stay in
files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .abstract import PAPER, PAPER_URL, abstract
from .findings import Findings
from .page import APPENDIX, Section
from .table import Table
from .table_files import latex_text

_HEAD = r"""\documentclass{article}
\usepackage[a4paper,margin=22mm]{geometry}
\usepackage{booktabs,graphicx,hyperref}
"""


def latex_report(
    found: Findings,
    methods: Sequence[tuple[str, list[str]]],
    caveats: Sequence[str],
    figures: Sequence[tuple[str, Path]],
    tables: Sequence[Table],
    sections: Sequence[Section] = (),
) -> str:
    """Return the document; `figures` are pairs (caption, file), without the folder `figures/`."""
    place_of = {name: section.name for section in sections for name in section.items}
    words = latex_text(
        " ".join(abstract(found, [f"{s.question} {s.sentences[0]}" for s in sections]))
    )
    words = words.replace(latex_text(PAPER), f"\\href{{{PAPER_URL}}}{{{latex_text(PAPER)}}}", 1)
    lines = [
        _HEAD,
        f"\\title{{Elasticity of {latex_text(found.sweep)}}}",
        "\\date{}\n\\begin{document}\n\\maketitle",
        f"\\begin{{abstract}}\n{words}\n\\end{{abstract}}",
        "\\section{Results}",
    ]

    def shown(section: str) -> list[str]:
        own = [t for t in tables if place_of.get(t.name, "") == section and t.name not in APPENDIX]
        inputs = [f"\\input{{tables/{table.name}.tex}}" for table in own]
        pictures = [
            "\\begin{figure}\n\\centering\n\\includegraphics[width=\\linewidth,"
            f"height=.8\\textheight,keepaspectratio]{{figures/{path.stem}.pdf}}\n"
            f"\\caption{{{latex_text(caption)}}}\n\\label{{fig:{path.stem.replace('_', '-')}}}\n"
            "\\end{figure}"
            for caption, path in figures
            if place_of.get(path.stem, "") == section
        ]
        return [*inputs, *pictures, "\\clearpage"]

    lines += shown("")
    for section in sections:
        lines.append(f"\\section{{{latex_text(section.title)}}}")
        lines += [f"{latex_text(sentence)}\n" for sentence in section.sentences]
        lines += shown(section.name)
    lines.append("\\section{Caveats}\n\\begin{itemize}")
    lines += [f"\\item {latex_text(caveat)}" for caveat in caveats]
    lines.append("\\end{itemize}\n\\section{Methods}")
    for subject, sentences in methods:
        lines.append(f"\\paragraph{{{latex_text(subject)}.}} {latex_text(' '.join(sentences))}")
    if left := [table.name for table in tables if table.name in APPENDIX]:
        names = ", ".join(f"tables/{latex_text(name)}.csv" for name in left)
        lines.append(f"\\paragraph{{Further tables.}} {names}.")
    lines.append("\\end{document}")
    return "\n".join(lines) + "\n"

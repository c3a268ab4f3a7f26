"""Writes the report's tables as CSV, LaTeX and HTML.

CSV holds every number in full precision, with the ends of intervals in columns of their own and
empty cells for undefined values. LaTeX and HTML hold formatted text.
"""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elastic_ray.analysis.formatting import (
    UNBOUNDED,
    UNDEFINED,
    column_decimals,
    format_count,
    format_fixed,
    format_interval,
    format_number,
    interval_decimals,
)
from elastic_ray.elasticity import Estimate

from .table import Table


def as_text(value: Any) -> str:
    """Return the value of a table's cell as formatted text."""
    if isinstance(value, Estimate):
        return format_interval(value.value, value.low, value.high)
    if isinstance(value, float):
        return format_number(value)
    return "" if value is None else format_count(value) if isinstance(value, int) else str(value)


def column_texts(table: Table) -> list[list[str]]:
    """Return the formatted cells by row; numbers of one column have the same decimals."""
    columns = []
    for i in range(len(table.heads)):
        values = [row[i] for row in table.rows]
        measured = [v.value if isinstance(v, Estimate) else v for v in values]
        real = [v for v in measured if isinstance(v, float)]
        estimates = [v for v in values if isinstance(v, Estimate)]
        if not real and not estimates:
            columns.append([as_text(v) for v in values])
            continue
        bounds = [(e.value, e.low, e.high) for e in estimates]
        decimals = column_decimals(real) if real else interval_decimals(bounds)
        columns.append([_fixed(v, decimals) for v in values])
    return [list(row) for row in zip(*columns, strict=True)]


def _fixed(value: Any, decimals: int) -> str:
    if isinstance(value, Estimate):
        return format_interval(value.value, value.low, value.high, decimals)
    return format_fixed(value, decimals) if isinstance(value, float) else as_text(value)


def without_constant(table: Table, names: Sequence[str] = ("seeds", "prompts")) -> Table:
    """Return the table with columns of one value, if in `names`, told in its caption instead."""
    constant = {
        i: f"{as_text(table.rows[0][i])} {head}"
        for i, head in enumerate(table.heads)
        if head in names and len({row[i] for row in table.rows}) == 1
    }
    if not constant:
        return table
    keep = [i for i in range(len(table.heads)) if i not in constant]
    return Table(
        table.name,
        f"{table.caption} All rows: {', '.join(constant.values())}.",
        tuple(table.heads[i] for i in keep),
        tuple(tuple(row[i] for i in keep) for row in table.rows),
    )


def write_csv(table: Table, path: Path) -> None:
    """Write the table as CSV; an estimate takes three columns: its value, `low` and `high`."""
    wide = [
        any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.heads))
    ]
    heads: list[str] = []
    for head, is_wide in zip(table.heads, wide, strict=True):
        heads += [head, f"{head} low", f"{head} high"] if is_wide else [head]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for row in table.rows:
            cells: list[Any] = []
            for value, is_wide in zip(row, wide, strict=True):
                cells += [value.value, value.low, value.high] if is_wide else [value]
            writer.writerow("" if cell is None else cell for cell in cells)


def write_latex(table: Table, path: Path) -> None:
    """Write the table as a LaTeX `table` environment with the rules of booktabs."""
    columns = "".join("l" if _is_text(table, i) else "r" for i in range(len(table.heads)))
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}",
        f"\\caption{{{latex_text(table.caption)}}}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(latex_text, table.heads)) + " \\\\",
        "\\midrule",
        *(" & ".join(map(latex_text, row)) + " \\\\" for row in column_texts(table)),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", UNBOUNDED: r"\ldots{}",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Return plain text with LaTeX's special characters escaped."""
    if text == UNDEFINED:
        return "--"
    found = "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    # LaTeX reads a bracket at the start of a row as the argument of the \\ before it.
    return f"{{{found}}}" if found.startswith("[") else found


def _is_text(table: Table, column: int) -> bool:
    return any(isinstance(row[column], str) and row[column] for row in table.rows)


def as_html(table: Table, caption: str | None = None) -> str:
    """Return an HTML `figure` with the table under its caption, by default the table's own.

    Intervals stand below their values, and notes below the table, so that a page holds its width.
    """
    table = without_constant(table)
    caption = table.caption if caption is None else caption
    texts = [_is_text(table, i) for i in range(len(table.heads))]
    note = table.heads.index("note") if "note" in table.heads else None
    notes: dict[str, str] = {}

    def cell(tag: str, value: str, text: bool) -> str:
        stacked = html.escape(value)
        if not text and "[" in value:
            middle, _, interval = value.partition(" [")
            stacked = f"{html.escape(middle)}<br><small>[{html.escape(interval)}</small>"
        return f"<{tag}{'' if text else ' class=n'}>{stacked}</{tag}>"

    lines = []
    for row in column_texts(table):
        marks = ""
        if note is not None and row[note]:
            mark = notes.setdefault(row[note], chr(ord("a") + len(notes) % 26))
            marks = f"<sup>{mark}</sup>"
        cells = [cell("td", v, t) for i, (v, t) in enumerate(zip(row, texts, strict=True))
                 if i != note]  # fmt: skip
        cells[0] = cells[0].replace("</td>", f"{marks}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(
        cell("th", head, text)
        for i, (head, text) in enumerate(zip(table.heads, texts, strict=True))
        if i != note
    )
    below = "".join(
        f"<p class=note><sup>{mark}</sup> {html.escape(text)}</p>" for text, mark in notes.items()
    )
    body = "\n".join(lines)
    return (
        f'<figure id="table-{table.name}"><figcaption>{html.escape(caption)}</figcaption>'
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>{below}</figure>"
    )

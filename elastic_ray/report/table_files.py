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
    format_count,
    format_interval,
    format_number,
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
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_latex(table.caption)}}}",
        f"\\label{{tab:{table.name.replace('_', '-')}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_latex, table.heads)) + " \\\\",
        "\\midrule",
        *(" & ".join(_latex(as_text(value)) for value in row) + " \\\\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", UNBOUNDED: r"\ldots{}",
}  # fmt: skip


def _latex(text: str) -> str:
    if text == UNDEFINED:
        return "--"
    found = "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    # LaTeX reads a bracket at the start of a row as the argument of the \\ before it.
    return f"{{{found}}}" if found.startswith("[") else found


def _is_text(table: Table, column: int) -> bool:
    return any(isinstance(row[column], str) and row[column] for row in table.rows)


def as_html(table: Table, *, captioned: bool = True) -> str:
    """Return an HTML `figure` with the table and, if `captioned`, its caption."""
    texts = [_is_text(table, i) for i in range(len(table.heads))]

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{'' if text else ' class=n'}>{html.escape(value)}</{tag}>"
            for value, text in zip(values, texts, strict=True)
        )

    body = "\n".join(f"<tr>{cells('td', [as_text(v) for v in row])}</tr>" for row in table.rows)
    caption = f"<figcaption>{html.escape(table.caption)}</figcaption>" if captioned else ""
    return (
        f'<figure id="table-{table.name}">{caption}'
        f'<div class="wide"><table><thead><tr>{cells("th", table.heads)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></figure>"
    )

"""`python -m elastic_ray.report --results URI --out DIR [--sweep NAME] [--against NAME]`.

Writes `report.html`, `figures/*.png` and `.svg`, and `tables/*.csv` and `.tex` into DIR, also while
the sweep is still running; with `--format tex` also `report.tex` and `figures/*.pdf`. The exit code
is 2, with one line on stderr, if there is nothing to report or DIR cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results
from elastic_ray.theory.figure_style import FigureError

from . import compression, curve_figures, paths, surface_figures
from .caveats import caveats
from .findings import Findings, ReportError, choose_sweep, find
from .latex import latex_report
from .methods import methods
from .page import page
from .scaling_figures import scaling
from .style import report_style, save
from .table_files import write_csv, write_latex
from .tables import tables


def main(arguments: Sequence[str] | None = None, prog: str = "python -m elastic_ray.report") -> int:
    """Run the command with `arguments` (default: `sys.argv`) and return its exit code.

    `prog` is the command's name in its usage message.
    """
    args = _parser(prog).parse_args(arguments)
    try:
        results = Results(args.results, read_only=True)
        sweep = choose_sweep(results, args.sweep)
        against = choose_sweep(results, args.against) if args.against else None
        _make_folders(args.out)
        written = write(find(results, sweep, against), args.out, tex=args.format == "tex")
    except (FigureError, ReportError, ResultsError) as e:
        return _fail(str(e))
    except OSError as e:
        return _fail(f"cannot write {e.filename or args.out}: {e.strerror or e}")
    print(f"{written}: the report of {sweep}; figures/ and tables/ are next to it")
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Write the figures, tables and HTML report of a sweep."
    )
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="created if it does not exist"
    )
    parser.add_argument("--sweep", metavar="NAME", help="required if several sweeps are recorded")
    parser.add_argument("--against", metavar="NAME", help="a second sweep to compare it with")
    parser.add_argument(
        "--format",
        choices=("html", "tex"),
        default="html",
        help="tex also writes report.tex, with figures as PDF, for a paper's appendix",
    )
    return parser


def _make_folders(out: Path) -> None:
    """Create the output folders, and raise `OSError` now if they are not writable."""
    for folder in (out, out / "figures", out / "tables"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()


def _fail(message: str) -> int:
    print(f"error: {message.splitlines()[0]}", file=sys.stderr)
    return 2


def write(found: Findings, out: Path, *, tex: bool = False) -> Path:
    """Write the report into the folder `out` and return the path of its page, or of its document.

    The folders `out/figures` and `out/tables` must exist.
    """
    drawn = []
    with report_style():
        for name, figure in _figures(found):
            if figure is not None:
                drawn.append((CAPTIONS[name], save(figure, out / "figures", name, pdf=tex)[1]))
    more = (paths.table(found), compression.table(found))
    made = [*tables(found), *(table for table in more if table.rows)]
    for table in made:
        write_csv(table, out / "tables" / f"{table.name}.csv")
        write_latex(table, out / "tables" / f"{table.name}.tex")
    path = out / "report.html"
    sections = [each for each in (paths.section(found), compression.section(found)) if each]
    text = page(found, methods(found), caveats(found), drawn, made, sections)
    path.write_text(text, encoding="utf-8")
    if tex:
        path = out / "report.tex"
        text = latex_report(found, methods(found), caveats(found), drawn, made, sections)
        path.write_text(text, encoding="utf-8")
    return path


def _figures(found: Findings) -> Iterator[tuple[str, Any]]:
    """Yield (name, figure or None) one at a time, so that each can be saved and released."""
    yield "curves", curve_figures.curves(found)
    yield "by_parameters", curve_figures.by_parameters(found)
    yield "by_pretrain", curve_figures.by_pretrain(found)
    yield "surface", surface_figures.heatmap(found, "score")
    yield "retention", surface_figures.heatmap(found, "retention")
    yield "surface_3d", surface_figures.surfaces(found)
    yield "fit", surface_figures.fits(found)
    yield "scaling", scaling(found)
    yield "paths", paths.distances(found, "cross_entropy")
    yield "paths_kl", paths.distances(found, "kl")
    yield "code_lengths", compression.code_lengths(found)
    yield "faster", compression.faster(found)


if __name__ == "__main__":
    sys.exit(main())

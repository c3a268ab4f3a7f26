"""`python -m elastic_ray.report --results URI --out DIR [--sweep NAME] [--against NAME]`.

Writes into DIR: `report.html`, `figures/*.png` and `.svg`, `tables/*.csv` and `.tex`. Works while
the sweep still runs. Exit code 2 and a line on stderr where there is nothing to report or DIR
cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.store import Results
from elastic_ray.theory.figure_style import FigureError

from . import compression, figures, paths
from .caveats import caveats
from .findings import Findings, ReportError, choose_sweep, find
from .methods import methods
from .page import page
from .scaling_figures import scaling
from .style import report_style, save
from .tables import tables, write_csv, write_latex


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m elastic_ray.report",
        description="Figures, tables and one page of a sweep, from its results.",
    )
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if missing")
    parser.add_argument("--sweep", metavar="NAME", help="needed where several are recorded")
    parser.add_argument("--against", metavar="NAME", help="a second sweep to compare it with")
    asked = parser.parse_args(arguments)
    try:
        results = Results(asked.results, read_only=True)
        sweep = choose_sweep(results, asked.sweep)
        against = choose_sweep(results, asked.against) if asked.against else None
        folders = [asked.out, asked.out / "figures", asked.out / "tables"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()  # found out now, not after all is measured
            (folder / ".writable").unlink()
        written = write(find(results, sweep, against), asked.out)
    except (FigureError, ReportError, ResultsError) as e:
        return _fail(str(e))
    except OSError as e:
        return _fail(f"cannot write {e.filename or asked.out}: {e.strerror or e}")
    print(f"{written}: the report of {sweep}; figures/ and tables/ beside it")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message.splitlines()[0]}", file=sys.stderr)
    return 2


def write(found: Findings, out: Path) -> Path:
    """Write everything into the folder `out`, which has `figures` and `tables`; gives the page."""
    drawn = []
    with report_style():
        for name, figure in (
            ("curves", figures.curves(found)),
            ("by_parameters", figures.by_parameters(found)),
            ("by_pretrain", figures.by_pretrain(found)),
            ("surface", figures.heatmap(found, "score")),
            ("retention", figures.heatmap(found, "retention")),
            ("surface_3d", figures.surfaces(found)),
            ("fit", figures.fits(found)),
            ("scaling", scaling(found)),
            ("paths", paths.distances(found, "cross_entropy")),
            ("paths_kl", paths.distances(found, "kl")),
            ("code_lengths", compression.code_lengths(found)),
            ("faster", compression.faster(found)),
        ):
            if figure is not None:
                drawn.append((CAPTIONS[name], save(figure, out / "figures", name)[1]))
    more = (paths.table(found), compression.table(found))
    made = [*tables(found), *(table for table in more if table.rows)]
    for table in made:
        write_csv(table, out / "tables" / f"{table.name}.csv")
        write_latex(table, out / "tables" / f"{table.name}.tex")
    path = out / "report.html"
    sections = [each for each in (paths.section(found), compression.section(found)) if each]
    text = page(found, methods(found), caveats(found), drawn, made, sections)
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())

"""`python -m elastic_ray.theory COMMAND`: the paper's compression theory, in numbers.

    verdict [--out DIR] [--figures DIR | --no-figures]    Theorem 3.13 on the grid; docs/theory.md
    rates --alpha A --k K --l L [--absent P]              one point of it, by all methods
    tree [FILE] [--depth D] [--responses N]               code lengths of a response tree
    compress FILE -o OUT --state ID [--results URI]       a text in UTF-8, by a state of a sweep
    decompress FILE -o OUT --state ID [--results URI]     the text again

Exit code 2 and one line on stderr where what is asked cannot be done.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .arithmetic import CodingError
from .code_length import code_lengths
from .compressor import TokenPredictor, compress, decompress
from .figure_style import FigureError
from .figures import draw
from .pareto import LawError, Pareto
from .rates import Rates
from .responses import MarkovSource, ResponseError, read_responses
from .summary import summary_lines
from .tree import ResponseTree, TreeError
from .verdict import ABSENT, ABSENT_ALPHAS, METHODS, columns, comparisons, grid, limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except (CodingError, FigureError, LawError, OSError, ResponseError, TreeError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m elastic_ray.theory",
        description="The compression theory of elasticity, in numbers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    verdict = commands.add_parser("verdict", help="Theorem 3.13 on a grid: signs, ratios, limits")
    verdict.add_argument("--out", type=Path, metavar="DIR", help="save CSV files and figures here")
    verdict.add_argument("--figures", type=Path, metavar="DIR", help="save figures here instead")
    verdict.add_argument("--no-figures", action="store_true", help="save no figures")
    verdict.set_defaults(run=_verdict)

    rates = commands.add_parser("rates", help="gamma and its slopes at one point, by all methods")
    rates.add_argument("--alpha", type=float, default=3.0, help="shape of the masses (default 3)")
    rates.add_argument("--k", type=float, default=1000.0, help="|D1| / |D2| (default 1000)")
    rates.add_argument("--absent", type=float, default=0.0, help="share of leaves without mass")
    rates.add_argument("--l", type=float, default=0.01, help="|D3| / |D2| (default 0.01)")
    rates.set_defaults(run=_rates)

    tree = commands.add_parser("tree", help="ideal, Huffman and arithmetic code lengths")
    tree.add_argument("file", nargs="?", type=Path, help="responses, a line of 0 and 1 each")
    tree.add_argument("--depth", type=int, default=20, help="layers kept (default 20)")
    tree.add_argument(
        "--responses", type=int, default=1_000_000, help="generated without FILE (default 10^6)"
    )
    tree.add_argument("--seed", type=int, default=0)
    tree.set_defaults(run=_tree)

    for name, run, told in (
        ("compress", _compress, "a text in UTF-8, by the probabilities of a state of a sweep"),
        ("decompress", _decompress, "what compress made with the same state"),
    ):
        command = commands.add_parser(name, help=told)
        command.add_argument("file", type=Path)
        command.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
        command.add_argument("--state", required=True, metavar="ID", help="state_id of a sweep")
        command.add_argument("--results", default="results", metavar="URI", help="default: results")
        command.set_defaults(run=run)
    return parser


def _verdict(asked: argparse.Namespace) -> None:
    points, compared, limiting = grid(), comparisons(), limits()
    absent = grid(ABSENT_ALPHAS, absents=ABSENT)
    for line in summary_lines(points, compared, limiting, absent):
        print(line)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        for name, rows in (
            ("grid", points),
            ("absent", absent),
            ("agreement", compared),
            ("limits", limiting),
        ):
            _write(asked.out / f"{name}.csv", rows)
            print(f"wrote {asked.out / name}.csv")
    folder = asked.figures or asked.out
    if folder is not None and not asked.no_figures:
        for path in draw(folder, points, compared, absent):
            print(f"wrote {path}")


def _write(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(type(rows[0])))
        for row in rows:
            writer.writerow("" if v is None else v for v in dataclasses.astuple(row))


def _rates(asked: argparse.Namespace) -> None:
    laws = [Pareto(asked.alpha, asked.absent)] * 3
    sizes = np.array([[asked.k, 1.0, asked.l]])
    found = {name: method(laws, sizes) for name, method in METHODS.items()}
    print(f"{'':14}{'':8}" + "".join(f"{name.replace('_', ' '):>36}" for name in found))
    for quantity in Rates.QUANTITIES:
        for j in range(len(laws)):
            cells = []
            for rates in found.values():
                value = getattr(rates, quantity)[0, j]
                error = getattr(rates, f"{quantity}_error")[0, j]
                cells.append(f"{f'{value:.12e} +- {error:.1e}':>36}")
            print(f"{quantity.replace('_', ' '):14}D{j + 1:<7}" + "".join(cells))


def _tree(asked: argparse.Namespace) -> None:
    if asked.file is not None:
        with asked.file.open("rb") as file:
            tree = ResponseTree.from_responses(read_responses(file), asked.depth)
    else:
        chunks = MarkovSource().chunks(asked.responses, asked.seed)
        tree = ResponseTree.from_responses(chunks, asked.depth)
    lengths = code_lengths(tree, seed=asked.seed)
    print(f"responses            {tree.total:.0f}")
    print(f"layers               {tree.depth}")
    print(f"letters              {np.count_nonzero(tree.eos)}")
    print(f"ideal                {lengths.ideal:.6f} bits a response")
    print(f"Huffman, expected    {lengths.huffman:.6f} bits a response")
    print(
        f"arithmetic, measured {lengths.arithmetic:.6f} bits a response; ideal for the same "
        f"{lengths.sampled} responses {lengths.arithmetic_ideal:.6f}"
    )


def _compress(asked: argparse.Namespace) -> None:
    data = asked.file.read_bytes()
    made = compress(data, _predictor(asked))
    asked.out.write_bytes(made.code)
    print(
        f"{len(data)} bytes of text, code length by the state {made.bits / 8:.1f} bytes, "
        f"written {len(made.code)} bytes"
    )


def _decompress(asked: argparse.Namespace) -> None:
    asked.out.write_bytes(decompress(asked.file.read_bytes(), _predictor(asked)))


def _predictor(asked: argparse.Namespace) -> TokenPredictor:
    # Imported here: the rest of the theory needs neither a model nor results.
    from elastic_ray.checkpoints.files import CheckpointError
    from elastic_ray.results.errors import ResultsError
    from elastic_ray.results.store import Results
    from elastic_ray.serving.engines.next_token import Predictor

    try:
        return Predictor(Results(asked.results, read_only=True), asked.state)
    except (CheckpointError, ResultsError) as e:
        raise CodingError(str(e)) from None


if __name__ == "__main__":
    sys.exit(main())

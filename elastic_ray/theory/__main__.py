"""The command `python -m elastic_ray.theory COMMAND`: the paper's compression theory in numbers.

    verdict [--out DIR] [--figures DIR | --no-figures]    Theorem 3.13 on the grid; docs/theory.md
    rates --alpha A --k K --l L [--absent P]              one point of the grid, by all methods
    tree [FILE] [--depth D] [--responses N]               code lengths of a response tree
    compress FILE -o OUT --state ID [--results URI]       compress a text with a state of a sweep
    decompress FILE -o OUT --state ID [--results URI]     restore a compressed text

If a command fails, it prints one line to stderr and exits with code 2.
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


def main(arguments: Sequence[str] | None = None, prog: str = "python -m elastic_ray.theory") -> int:
    """Run a command and return its exit code; `prog` is the command's name in its usage message."""
    args = _parser(prog).parse_args(arguments)
    try:
        args.run(args)
    except (CodingError, FigureError, LawError, OSError, ResponseError, TreeError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Compute the compression theory of elasticity in numbers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    verdict = commands.add_parser("verdict", help="Theorem 3.13 on a grid: signs, ratios, limits")
    verdict.add_argument("--out", type=Path, metavar="DIR", help="save CSV files and figures here")
    verdict.add_argument(
        "--figures", type=Path, metavar="DIR", help="save figures here instead of in --out"
    )
    verdict.add_argument("--no-figures", action="store_true", help="save no figures")
    verdict.set_defaults(run=_verdict)

    rates = commands.add_parser("rates", help="gamma and its slopes at one point, by all methods")
    rates.add_argument("--alpha", type=float, default=3.0, help="shape of the masses (default 3)")
    rates.add_argument("--k", type=float, default=1000.0, help="|D1| / |D2| (default 1000)")
    rates.add_argument(
        "--absent", type=float, default=0.0, help="share of leaves without mass (default 0)"
    )
    rates.add_argument("--l", type=float, default=0.01, help="|D3| / |D2| (default 0.01)")
    rates.set_defaults(run=_rates)

    tree = commands.add_parser("tree", help="ideal, Huffman and arithmetic code lengths of a tree")
    tree.add_argument(
        "file", nargs="?", type=Path, help="responses, one per line, written in 0 and 1"
    )
    tree.add_argument("--depth", type=int, default=20, help="number of layers kept (default 20)")
    tree.add_argument(
        "--responses",
        type=int,
        default=1_000_000,
        help="number of responses to generate if no FILE is given (default 10^6)",
    )
    tree.add_argument("--seed", type=int, default=0, help="seed of generated data (default 0)")
    tree.set_defaults(run=_tree)

    for name, run, summary in (
        ("compress", _compress, "compress a UTF-8 text with the probabilities of a sweep's state"),
        ("decompress", _decompress, "restore a text that compress wrote with the same state"),
    ):
        command = commands.add_parser(name, help=summary)
        command.add_argument("file", type=Path, help="the file to read")
        command.add_argument(
            "-o", "--out", type=Path, required=True, metavar="OUT", help="the file to write"
        )
        command.add_argument("--state", required=True, metavar="ID", help="state_id of a sweep")
        command.add_argument("--results", default="results", metavar="URI", help="default: results")
        command.set_defaults(run=run)
    return parser


def _verdict(args: argparse.Namespace) -> None:
    points, compared, limiting = grid(), comparisons(), limits()
    absent = grid(ABSENT_ALPHAS, absents=ABSENT)
    for line in summary_lines(points, compared, limiting, absent):
        print(line)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name, rows in (
            ("grid", points),
            ("absent", absent),
            ("agreement", compared),
            ("limits", limiting),
        ):
            _write_csv(args.out / f"{name}.csv", rows)
            print(f"wrote {args.out / name}.csv")
    folder = args.figures or args.out
    if folder is not None and not args.no_figures:
        for path in draw(folder, points, compared, absent):
            print(f"wrote {path}")


def _write_csv(path: Path, rows: Sequence[Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(type(rows[0])))
        for row in rows:
            writer.writerow("" if v is None else v for v in dataclasses.astuple(row))


def _rates(args: argparse.Namespace) -> None:
    laws = [Pareto(args.alpha, args.absent)] * 3
    sizes = np.array([[args.k, 1.0, args.l]])
    by_method = {name: method(laws, sizes) for name, method in METHODS.items()}
    print(f"{'':14}{'':8}" + "".join(f"{name.replace('_', ' '):>36}" for name in by_method))
    for quantity in Rates.QUANTITIES:
        for j in range(len(laws)):
            cells = []
            for rates in by_method.values():
                value = getattr(rates, quantity)[0, j]
                error = getattr(rates, f"{quantity}_error")[0, j]
                cells.append(f"{f'{value:.12e} +- {error:.1e}':>36}")
            print(f"{quantity.replace('_', ' '):14}D{j + 1:<7}" + "".join(cells))


def _tree(args: argparse.Namespace) -> None:
    if args.file is not None:
        with args.file.open("rb") as file:
            tree = ResponseTree.from_responses(read_responses(file), args.depth)
    else:
        chunks = MarkovSource().chunks(args.responses, args.seed)
        tree = ResponseTree.from_responses(chunks, args.depth)
    lengths = code_lengths(tree, seed=args.seed)
    print(f"responses            {tree.total:.0f}")
    print(f"layers               {tree.depth}")
    print(f"letters              {np.count_nonzero(tree.eos)}")
    print(f"ideal                {lengths.ideal:.6f} bits per response")
    print(f"Huffman, expected    {lengths.huffman:.6f} bits per response")
    print(
        f"arithmetic, measured {lengths.arithmetic:.6f} bits per response; the ideal for these "
        f"{lengths.sampled} sampled responses is {lengths.arithmetic_ideal:.6f}"
    )


def _compress(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    compressed = compress(data, _predictor(args), f"compress: {args.file}")
    args.out.write_bytes(compressed.code)
    print(
        f"text {len(data)} bytes, code length under the state {compressed.bits / 8:.1f} bytes, "
        f"written {len(compressed.code)} bytes"
    )


def _decompress(args: argparse.Namespace) -> None:
    code = args.file.read_bytes()
    args.out.write_bytes(decompress(code, _predictor(args), f"decompress: {args.file}"))


def _predictor(args: argparse.Namespace) -> TokenPredictor:
    # Imported here because no other command needs a model or results.
    from elastic_ray.checkpoints.files import CheckpointError
    from elastic_ray.results.errors import ResultsError
    from elastic_ray.results.store import Results
    from elastic_ray.serving.engines.next_token import Predictor

    try:
        return Predictor(Results(args.results, read_only=True), args.state)
    except (CheckpointError, ResultsError) as e:
        raise CodingError(str(e)) from None


if __name__ == "__main__":
    sys.exit(main())

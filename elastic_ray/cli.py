"""The command `elastic-ray`: one entry point for all commands of the package.

`elastic-ray sweep ...` is the same as `python -m elastic_ray.sweep ...`, and likewise for `query`,
`report` and `theory`. `app` starts the Streamlit app, `schema` prints the JSON Schema of sweep
files. A command is imported when it is called, so that `elastic-ray query` needs no Ray.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = "elastic-ray"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 2 if the command is unknown."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Measure how strongly language models return to their pre-training behaviour.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, (summary, _) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Only the command's name is parsed here: what follows belongs to the command.
    name = parser.parse_args(given[:1]).command
    _, run = COMMANDS[name]
    return run(given[1:])


def _sweep(arguments: Sequence[str]) -> int:
    from .sweep.__main__ import main as run

    return run(arguments, prog=f"{PROGRAM} sweep")


def _query(arguments: Sequence[str]) -> int:
    from .query import main as run

    return run(arguments, prog=f"{PROGRAM} query")


def _report(arguments: Sequence[str]) -> int:
    from .report.__main__ import main as run

    return run(arguments, prog=f"{PROGRAM} report")


def _theory(arguments: Sequence[str]) -> int:
    from .theory.__main__ import main as run

    return run(arguments, prog=f"{PROGRAM} theory")


def _app(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} app", description="Start the Streamlit app, on this machine only."
    )
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    parser.add_argument("--port", type=int, default=8501, help="default: 8501")
    parser.add_argument(
        "--address", default="127.0.0.1", help="the network address to serve on; default: 127.0.0.1"
    )
    args = parser.parse_args(arguments)
    script = Path(__file__).parent / "app" / "__main__.py"
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += ["--server.address", args.address, "--server.port", str(args.port)]
    try:
        return subprocess.run([*command, "--", "--results", args.results], check=False).returncode
    except KeyboardInterrupt:
        return 130


def _schema(arguments: Sequence[str]) -> int:
    from .spec import json_schema

    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} schema", description="Print the JSON Schema of sweep files."
    )
    parser.parse_args(arguments)
    print(json.dumps(json_schema(), indent=2, sort_keys=True))
    return 0


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "sweep": ("run a sweep, or plan and price it", _sweep),
    "query": ("run one SQL query on results", _query),
    "report": ("write figures, tables and a report", _report),
    "app": ("start the Streamlit app on results", _app),
    "theory": ("compute the paper's compression theory", _theory),
    "schema": ("print the JSON Schema of sweep files", _schema),
}

if __name__ == "__main__":
    sys.exit(main())

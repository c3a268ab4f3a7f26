"""The command `python -m elastic_ray.sweep SPEC`: runs a sweep; `--dry-run` plans and prices it.

`--status` prints who runs the sweep and what is recorded, with `--follow` its progress until it
ends. `--stop` stops it from another terminal.

Exit codes: 0 all measured; 1 some cells failed, the results cannot be written, or another driver
runs the sweep on them; 2 the sweep file or a task is not usable; 3 the budget is used up
(`resources.max_gpu_hours`, `max_cpu_hours`); 130 stopped by the user. Recorded results stay.
`--stop`: 0 once the sweep has stopped; 1 if it is not running, or does not stop. `--follow`: 0 if
everything is measured when the sweep ends, else 1; 130 on Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..cluster.address import address_problem
from ..placement import allocate, estimate, parse_cluster
from ..plan import check_local_models, load_inputs, plan_sweep
from ..results.errors import ResultsError
from ..spec import Spec, SpecError, add_line_numbers, load_spec
from ..tasks.task import TaskError
from .dry_run import print_price
from .first_examples import example_lines
from .layout_table import print_available_layout, print_layout
from .lengths import check_lengths
from .run import run
from .status import follow, print_recorded, print_status, stop_driver
from .terminal import CONTINUE, fail, interrupt_on_sigterm, open_console


def main(arguments: Sequence[str] | None = None, prog: str = "python -m elastic_ray.sweep") -> int:
    """Run the command with these arguments (None: of the process) and return its exit code."""
    args = _parser(prog).parse_args(arguments)
    if args.cluster is not None and not args.dry_run:
        return fail("--cluster: is for --dry-run; a sweep runs on the available cluster", 2)
    if args.follow and not args.status:
        return fail("--follow: is for --status; a sweep shows its own progress while it runs", 2)
    joins = not (args.status or args.stop) and args.cluster is None
    if joins and (problem := address_problem(os.environ.get("RAY_ADDRESS", ""))):
        return fail(problem, 2)
    try:
        interrupt_on_sigterm()
        if args.cluster is not None:
            parse_cluster(args.cluster)  # an invalid description is an error before data is read
        spec = load_spec(args.spec, args.overrides)
    except SpecError as e:
        return fail(str(e), 2)
    try:
        return _execute(args, spec)
    except SpecError as e:
        return fail(str(add_line_numbers(e, args.spec, args.overrides)), 2)
    except TaskError as e:
        return fail(str(e), 2)
    except (ResultsError, OSError) as e:
        return fail(str(e), 1)
    except KeyboardInterrupt:  # before or after the driver, which handles it while it runs
        return fail(f"stopped; {CONTINUE}", 130)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Run a sweep, or plan and price it.")
    parser.add_argument("spec", help="the sweep file, e.g. sweeps/tiny.yaml")
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="plan and price, run nothing")
    parser.add_argument(
        "--cluster",
        metavar="NODES",
        help="with --dry-run: the cluster, e.g. 4x8xA100 or 2x4xL40S:48cpu+1x64cpu",
    )
    mode.add_argument("--status", action="store_true", help="who runs it, and what is recorded")
    mode.add_argument("--stop", action="store_true", help="stop the running sweep, as Ctrl-C does")
    parser.add_argument(
        "--follow", action="store_true", help="with --status: show the progress until it ends"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="overrides",
        help="override a field, e.g. task.data.path=imdb or seeds=[0,1]",
    )
    return parser


def _execute(args: argparse.Namespace, spec: Spec) -> int:
    """Do what the arguments request of the loaded spec; return the exit code."""
    if args.stop:
        print(stop_driver(args.results, spec.sweep))
        return 0
    inputs = load_inputs(spec, to_run=not (args.dry_run or args.status))
    task_info = inputs.task_info()
    plan = plan_sweep(spec, task_info, inputs.folders)
    console = open_console()
    readable = {k: task for k, task in inputs.tasks.items() if k not in inputs.unreachable}
    if args.dry_run:
        lengths = check_lengths(plan, readable, to_run=False)
        if notice := check_local_models(spec):
            console.print(notice, markup=False)
        price = estimate(plan, task_info=task_info)
        print_price(console, plan, price, task_info, inputs.unreachable)
        for line in (*lengths, *example_lines(readable)):
            console.print(line, markup=False, soft_wrap=True)
        if args.cluster is not None:
            allocation = allocate(plan, task_info, parse_cluster(args.cluster))
            print_layout(console, plan, allocation, args.cluster)
        else:
            print_available_layout(console, plan, task_info)
        print_recorded(console, plan, args.results)
        return 0
    if args.follow:
        return follow(console, plan, args.results)
    if args.status:
        print_status(console, plan, args.results)
        return 0
    for task in inputs.tasks.values():
        task.check_leakage()
    return run(plan, inputs.tasks, args.results)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m elastic_ray.sweep SPEC`: runs a sweep; with `--dry-run`, plans and prices it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..placement import parse_cluster
from ..plan import find, plan_sweep
from ..results.errors import ResultsError
from ..spec import SpecError, add_line_numbers, load_spec
from ..tasks.task import TaskError
from .dry_run import print_price
from .follow import follow
from .layout_table import print_layout, print_layout_at_hand
from .run import _console, _fail, _run
from .status import print_recorded, print_status, stop_driver


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m elastic_ray.sweep", description="Run a sweep, or plan and price it."
    )
    parser.add_argument("spec", help="the sweep file, e.g. sweeps/tiny.yaml")
    parser.add_argument("--results", default="results", metavar="URI", help="default: results")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="plan and price, run nothing")
    parser.add_argument(
        "--cluster",
        metavar="NODES",
        help="with --dry-run: lay the sweep out on these, e.g. 4x8xA100 or 2x4xL40S:48cpu+1x64cpu",
    )
    instead.add_argument("--status", action="store_true", help="who runs it, what is on record")
    instead.add_argument("--stop", action="store_true", help="stop whoever runs it, as Ctrl-C does")
    parser.add_argument(
        "--follow", action="store_true", help="with --status: how far it is, until it ends"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="overrides",
        help="override a field, e.g. task.data.path=imdb or seeds=[0,1]",
    )
    asked = parser.parse_args(arguments)
    if asked.cluster is not None and not asked.dry_run:
        return _fail("--cluster: is for --dry-run; a sweep runs on the cluster at hand", 2)
    if asked.follow and not asked.status:
        return _fail("--follow: is for --status; a sweep that is started here shows itself", 2)
    try:
        cluster = parse_cluster(asked.cluster) if asked.cluster is not None else None
        spec = load_spec(asked.spec, asked.overrides)
    except SpecError as e:
        return _fail(str(e), 2)
    try:
        if asked.stop:
            print(stop_driver(asked.results, spec.sweep))
            return 0
        found = find(spec, to_run=not (asked.dry_run or asked.status))
        facts = found.facts()
        plan = plan_sweep(spec, facts, found.folders)
        if asked.dry_run:
            console = _console()
            print_price(console, plan, facts, found.unreached)
            if cluster is not None:
                print_layout(console, plan, facts, cluster, asked.cluster)
            else:
                print_layout_at_hand(console, plan, facts)
            print_recorded(console, plan, asked.results)
            return 0
        if asked.status:
            if asked.follow:
                return follow(_console(), plan, asked.results)
            print_status(_console(), plan, asked.results)
            return 0
        for task in found.tasks.values():
            task.check_apart()
        return _run(plan, found.tasks, asked.results)
    except SpecError as e:
        return _fail(str(add_line_numbers(e, asked.spec, asked.overrides)), 2)
    except TaskError as e:
        return _fail(str(e), 2)
    except (ResultsError, OSError) as e:
        return _fail(str(e), 1)
    except KeyboardInterrupt:  # before or after anything runs; `driver` takes it in between
        return _fail("stopped; the same command goes on from here", 130)


if __name__ == "__main__":
    sys.exit(main())

"""Compares the estimate of a sweep with the time that it took, part by part.

    python benchmarks/estimate.py RESULTS [SWEEP] [--cluster 1x2cpu] [--printed FILE]

RESULTS is a folder in which the sweep was run from its beginning in one run. The measured seconds
are those of the last line "time: ..." in its newest log (or in FILE, what the command printed).
Both columns sum over trainers and replicas, so parts that run at the same time count side by side;
the last row is the wall clock. A part that waited for cores counts the waiting, so run the sweep on
an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

from elastic_ray.placement import estimate
from elastic_ray.plan import load_inputs, plan_sweep
from elastic_ray.results.store import Results
from elastic_ray.spec import Spec

LADDER = ("load models", "train", "save snapshots", "save points")
"""Parts that versions before these parts were counted printed as one, "train"."""
PART, WHOLE = 0.40, 0.25
"""How far an estimate may be off, as a share of the measured time."""
SMALL = 0.02
"""Share of the working time below which a part's error is not judged."""


def seconds(text: str) -> float:
    """Return a duration written as "1:02:03" or "2:03" in seconds."""
    total = 0.0
    for each in text.split(":"):
        total = 60 * total + float(each)
    return total


def measured(text: str) -> tuple[float, dict[str, float]]:
    """Return the wall-clock seconds of the last run in a text, and its seconds by part."""
    lines = [line for line in text.splitlines() if line.startswith("time: ")]
    if not lines:
        raise SystemExit("no line 'time: ...' found; give what the command printed as --printed")
    found = re.match(r"time: ([\d:]+)(?: \(working: (.*)\))?", lines[-1])
    assert found is not None
    parts = [part.rpartition(" ") for part in (found[2] or "").split(", ") if part]
    return seconds(found[1]), {name: seconds(took) for name, _, took in parts}


def newest_log(results: Path, sweep: str) -> str:
    """Return the text of the sweep's newest log."""
    logs = sorted((results / "logs").glob(f"{sweep}-*.log"))
    return logs[-1].read_text(errors="replace") if logs else ""


def compare(estimated: dict[str, float], took: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return (estimate, measured) by part, the largest first."""
    if not set(took) & {"load models", "save snapshots"}:
        estimated["train"] = sum(estimated.pop(part, 0.0) for part in LADDER)
    pairs = {
        part: (estimated.get(part, 0.0), took.get(part, 0.0)) for part in {**estimated, **took}
    }
    return dict(sorted(pairs.items(), key=lambda pair: -max(pair[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("sweep", nargs="?", help="default: the only one of the results")
    parser.add_argument("--cluster", default=f"1x{os.cpu_count()}cpu")
    parser.add_argument("--printed", type=Path, help="what the command printed")
    args = parser.parse_args()
    rows = Results(args.results, read_only=True).query("SELECT sweep, spec FROM sweeps").to_pylist()
    specs = {row["sweep"]: row["spec"] for row in rows}
    if args.sweep not in specs and len(specs) != 1:
        raise SystemExit(f"give one of the sweeps: {', '.join(specs)}")
    name = args.sweep or next(iter(specs))
    spec = Spec.model_validate(json.loads(specs[name]))
    inputs = load_inputs(spec, to_run=False)
    plan = plan_sweep(spec, inputs.task_info(), inputs.folders)
    found = estimate(plan, args.cluster, task_info=inputs.task_info())
    assert found.allocation is not None
    wall = found.allocation.wall_clock
    text = args.printed.read_text() if args.printed else newest_log(args.results, name)
    clock, took = measured(text)
    judged = SMALL * sum(took.values())
    print(f"{name} on {args.cluster}, seconds")
    print(f"{'part':<16}{'estimate':>10}{'clock':>8}{'error':>9}")
    for part, (expected, real) in compare(dict(wall.parts), took).items():
        error = f"{expected / real - 1:+.0%}" if real else "-"
        mark = " !" if real >= judged and abs(expected / max(real, 1.0) - 1) > PART else ""
        print(f"{part:<16}{expected:>10.1f}{real:>8.0f}{error:>9}{mark}")
    error = wall.total / clock - 1
    mark = " !" if abs(error) > WHOLE else ""
    print(f"{'wall clock':<16}{wall.total:>10.1f}{clock:>8.0f}{error:>+9.0%}{mark}")


if __name__ == "__main__":
    main()

"""Times and peak memory of the theory's two heavy computations: `python benchmarks/theory.py`.

Each runs in a process of its own, so that its peak memory is its own. The verdict is the whole of
`python -m elastic_ray.theory verdict` but for the figures; the tree is ten million generated
responses, pruned to 20 layers, with all three code lengths.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time

LIMITS = {"verdict": (120.0, None), "tree": (30.0, 2.0)}
"""What is asked for: seconds, and GiB."""


def verdict() -> str:
    """The verdict grid, the comparison of methods and the limits."""
    from elastic_ray.theory.verdict import ABSENT, ABSENT_ALPHAS, comparisons, grid, limits

    points, compared = grid() + grid(ABSENT_ALPHAS, absents=ABSENT), comparisons()
    return f"{len(points)} points, {len(compared)} comparisons, {len(limits())} limits"


def tree() -> str:
    """A tree of ten million responses, and the code lengths of its letters."""
    from elastic_ray.theory import MarkovSource, ResponseTree, code_lengths

    grown = ResponseTree.from_responses(MarkovSource().chunks(10_000_000, seed=0), 20)
    lengths = code_lengths(grown)
    return f"{grown.total:.0f} responses, {lengths.ideal:.4f} <= {lengths.huffman:.4f} bits"


def measure(name: str) -> None:
    """Run one case here and print its row."""
    start, used = time.perf_counter(), time.process_time()
    what = {"verdict": verdict, "tree": tree}[name]()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    most_seconds, most_gib = LIMITS[name]
    asked = f"{most_seconds:g} s" + (f", {most_gib:g} GiB" if most_gib else "")
    print(
        f"| {name} | {what} | {seconds:.1f} s | {used:.1f} s | {gib:.2f} GiB | {asked} |",
        flush=True,
    )


def main() -> None:
    """Run all cases, or with `--case` one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=LIMITS)
    asked = parser.parse_args()
    if asked.case:
        measure(asked.case)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(
        "| case | what | time | of a core | peak memory | asked for |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in LIMITS:
        subprocess.run([sys.executable, __file__, "--case", name], check=True)


if __name__ == "__main__":
    main()

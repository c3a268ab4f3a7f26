"""Measures time and peak memory of the two heavy computations of the theory.

    python benchmarks/theory.py [--case verdict]

Each case runs in a separate process, so that the peak memory is that of the case. "verdict" is all
of `python -m elastic_ray.theory verdict` except the figures. "tree" builds a tree from ten million
generated responses, prunes it to 20 layers, and computes all three code lengths.
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
"""Case -> required limits: seconds, and GiB."""


def verdict() -> str:
    """Compute the verdict grid, the comparison of methods and the limits; return a summary."""
    from elastic_ray.theory.verdict import ABSENT, ABSENT_ALPHAS, comparisons, grid, limits

    points, compared = grid() + grid(ABSENT_ALPHAS, absents=ABSENT), comparisons()
    return f"{len(points)} points, {len(compared)} comparisons, {len(limits())} limits"


def tree() -> str:
    """Build a tree of ten million responses and its code lengths; return a summary."""
    from elastic_ray.theory import MarkovSource, ResponseTree, code_lengths

    grown = ResponseTree.from_responses(MarkovSource().chunks(10_000_000, seed=0), 20)
    lengths = code_lengths(grown)
    return f"{grown.total:.0f} responses, {lengths.ideal:.4f} <= {lengths.huffman:.4f} bits"


def measure(name: str) -> None:
    """Run one case in this process and print its table row."""
    start, used = time.perf_counter(), time.process_time()
    what = {"verdict": verdict, "tree": tree}[name]()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    most_seconds, most_gib = LIMITS[name]
    limits = f"{most_seconds:g} s" + (f", {most_gib:g} GiB" if most_gib else "")
    print(
        f"| {name} | {what} | {seconds:.1f} s | {used:.1f} s | {gib:.2f} GiB | {limits} |",
        flush=True,
    )


def main() -> None:
    """Run all cases, each in its own process, or one case here with `--case`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=LIMITS)
    args = parser.parse_args()
    if args.case:
        measure(args.case)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(
        "| case | result | time | CPU time | peak memory | limit |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in LIMITS:
        subprocess.run([sys.executable, __file__, "--case", name], check=True)


if __name__ == "__main__":
    main()

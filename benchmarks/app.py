"""Measures how fast the app's pages open in a real browser, with a million cells.

    python benchmarks/app.py [--folder FOLDER] [--cells 1000000] [--answers 10] [--sweeps 25]

By default the results hold a million cells and ten million responses. If FOLDER has no results,
the script creates synthetic ones (`large_results.py`). It starts a new app process for each page.
It first runs a constant query on the SQL page, so that the import of Python modules, which a server
does once, is not measured. Then it opens the page as a link; none of the page's queries ran before.

The columns, per page:

- "first paint": seconds until the browser's first contentful paint;
- "content": seconds until the first figure, table or number of the results is visible;
- "settled": seconds until the page's script has finished and the page is complete;
- "its CPU": CPU seconds of the app's process for this visit, the more reliable measure on a busy
  machine;
- "again": seconds until a second visit is settled;
- "peak memory": peak resident size of the app's process.

The script does not clear the operating system's file cache. It times the surfaces page twice, as 3D
figures and as a heatmap, because a browser without a GPU renders 3D in software.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from large_results import make
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
FIGURE, TABLE = ".js-plotly-plot .main-svg", "[data-testid=stDataFrame]"
PAGES = {  # page -> selector of its content
    "overview": "[data-testid=stMetric]",
    "curves": FIGURE,
    "surfaces": FIGURE,
    "surfaces?view=heatmap": FIGURE,
    "scaling": FIGURE,
    "responses": ".stMarkdownBadge",
    "sql?q=FROM sweep_list": TABLE,
}
PAINT = "performance.getEntriesByName('first-contentful-paint').map(paint => paint.startTime)[0]"
FLAGS = ("--headless", "--no-sandbox", "--disable-quic", "--enable-unsafe-swiftshader")
SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the app and return its process once it answers (within a minute)."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)),
            *("--", "--results", str(folder)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
            return process
        except OSError:
            time.sleep(0.1)
    sys.exit("the app did not start within a minute")


def peak_mb(pid: int) -> float:
    """Return the peak resident size of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def processor(pid: int) -> float:
    """Return the CPU seconds of the app's process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Visit:
    """Seconds from the request of a page to its first paint, its content and its settled state."""

    painted: float
    content: float
    settled: float


def visit(page: Page, url: str, content: str) -> Visit:
    """Open a page and time it; exit if the page shows an error or a warning."""
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector(content, timeout=60_000)
    shown = time.monotonic() - began
    page.wait_for_selector(SETTLED, timeout=60_000)
    settled = time.monotonic() - began
    if page.get_by_test_id("stException").count() or page.get_by_test_id("stAlert").count():
        sys.exit(f"{url} shows an error: {page.inner_text('[data-testid=stMain]')}")
    return Visit(page.evaluate(PAINT) / 1000, shown, settled)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the app's pages on large results.")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--sweeps", type=int, default=25)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.gettempdir(), "elastic_ray-large")
    if not (folder / "states").is_dir():
        began = time.monotonic()
        make(folder, args.cells, args.answers, args.sweeps)
        print(f"results created in {time.monotonic() - began:.0f} s")
    print(f"{args.cells:,} cells, {args.cells * args.answers:,} responses, {os.cpu_count()} cores")
    print(f"load average {os.getloadavg()[0]:.1f}")
    heads = ("first paint", "content", "settled", "its CPU", "again", "peak memory")
    print(f"{'page':22}" + "".join(f"{head:>12}" for head in heads))
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for name, content in PAGES.items():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            process = start(folder, port)
            try:
                page = browser.new_page()
                page.goto(f"http://127.0.0.1:{port}/sql?q=SELECT%201")  # loads the modules
                page.wait_for_selector(SETTLED, timeout=60_000)
                path = "" if name == "overview" else name
                before = processor(process.pid)
                url = f"http://127.0.0.1:{port}/{path}"
                first = visit(page, url, content)
                spent = processor(process.pid) - before
                again = visit(page, url, content)
                clocks = (first.painted, first.content, first.settled, spent, again.settled)
                print(
                    f"{name:22}"
                    + "".join(f"{seconds:10.2f} s" for seconds in clocks)
                    + f"{peak_mb(process.pid):9.0f} MB",
                    flush=True,
                )
                page.close()
            finally:
                process.terminate()
                process.wait()
        browser.close()


if __name__ == "__main__":
    main()

"""Each page's first paint on ten million responses and a million cells, in a real browser.

    python benchmarks/app.py [--folder FOLDER] [--cells 1000000] [--answers 10] [--sweeps 25]

Makes the synthetic results if FOLDER has none (`large_results.py`), then starts the app once per
page. A constant query on the SQL page comes first: it loads Python's modules, which a server does
once. Then the page is opened as a link; none of its queries was asked before. Three clocks:
"first paint" is the browser's first contentful paint; "content" the first figure, table or number
of the results; "settled" when the script has run and nothing is to come. "its CPU" is the processor
time of the app for that, which says more than the clocks on a busy machine; "again" is until a
second visit is settled. The operating system's file cache is as it is. Memory is the peak resident
size of the app's process. Surfaces is timed twice: without a GPU the browser draws 3D in software.
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
PAGES = {  # and what each is opened for
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
    sys.exit("the app does not start")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def processor(pid: int) -> float:
    """Seconds of processor time of the app and its ended children, which tell on a busy machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Visit:
    """Seconds from asking for a page: to its first paint, its content, and until it is settled."""

    painted: float
    content: float
    settled: float


def visit(page: Page, url: str, content: str) -> Visit:
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
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.gettempdir(), "elastic_ray-large")
    if not (folder / "states").is_dir():
        began = time.monotonic()
        make(folder, asked.cells, asked.answers, asked.sweeps)
        print(f"results made in {time.monotonic() - began:.0f} s")
    print(
        f"{asked.cells:,} cells, {asked.cells * asked.answers:,} responses, {os.cpu_count()} cores"
    )
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
                page.goto(f"http://127.0.0.1:{port}/sql?q=SELECT%201")  # imports, not this page's
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

"""The Overview page: all sweeps, and the progress of the selected one. Refreshes by itself."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import streamlit as st

from elastic_ray.analysis.formatting import format_compact
from elastic_ray.app.figures.progress import progress_bars
from elastic_ray.app.outcome import draw_outcome
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    STATE_LINK,
    choose_sweep,
    labelled,
    nothing_yet,
    page,
    readable,
    reader,
    table,
)
from elastic_ray.results.errors import ResultsError

# Comments, not strings: Streamlit may show a bare string of a page.
# Seconds between refreshes.
EVERY = 2.0
# A sweep counts as running for this many seconds after it last wrote its cells; a running sweep
# writes them every half minute.
ALIVE = 90.0


def body(results: Reader) -> None:
    if not results.sweeps():
        nothing_yet()
        return
    _live()


@st.fragment(run_every=EVERY)
def _live() -> None:
    results = reader()
    try:
        sweep = choose_sweep(results, follow=False)
        if sweep is not None:
            _one(results, sweep)
            _all(results)
    except ResultsError as e:  # such as during compaction: the next refresh may succeed
        st.warning(f"The results cannot be read at the moment. {e}", icon=":material/error:")


def status_of(row: dict[str, Any], now: dt.datetime) -> str:
    """Return a sweep's status: running, stopped (not all is measured), done, done, some failed.

    Cells and lessons count alike.
    """
    if row["pending"] + row["lessons_pending"] == 0:
        return "done" if row["failed"] + row["lessons_failed"] == 0 else "done, some failed"
    age = (now - row["last_written"]).total_seconds() if row["last_written"] else ALIVE + 1
    return "running" if age < ALIVE else "stopped"


def _one(results: Reader, sweep: dict[str, Any]) -> None:
    name, now = sweep["sweep"], dt.datetime.now(dt.UTC)
    status = status_of(sweep, now)
    bars = labelled(results.progress(name))
    done, failed, left, cells = (int(bars[c].sum()) for c in ("done", "failed", "pending", "cells"))
    pace = results.pace(name)
    if left + sweep["lessons_pending"] == 0 and status in ("running", "stopped"):
        status = "done"
    colour = {"running": "blue", "stopped": "orange", "done": "green"}.get(status, "red")
    st.markdown(f"### {_plain(name)} &nbsp; :{colour}-badge[{status}]")
    draw_outcome(results, sweep)
    st.markdown("##### Progress")
    lessons, taught = sweep["lessons"], sweep["lessons_done"]
    failed_lessons = sweep["lessons_failed"]
    ended = done + failed + taught + failed_lessons
    st.progress(ended / max(cells + lessons, 1))
    with st.container(horizontal=True):
        st.metric(
            "Cells scored" if sweep["scored"] else "Cells done", f"{done:,} of {cells:,}", width=150
        )
        if lessons:
            st.metric("Lessons done", f"{taught:,} of {lessons:,}", width=150)
        st.metric("Failed", f"{failed + failed_lessons:,}", width=100)
        st.metric("States trained", f"{pace['states']:,}", width=130)
        active = pace["active_seconds"]
        speed = pace["examples"] / active if active and pace["examples"] else None
        st.metric(
            "Examples / s",
            "-" if speed is None else format_compact(round(speed, 1)),
            width=120,
            help="Examples trained per second, excluding pauses.",
        )
        st.metric("Answers", format_compact(int(bars["answers"].fillna(0).sum())), width=100)
        st.metric(
            *_time(status, sweep, pace, done + taught, left + sweep["lessons_pending"], now),
            width=150,
        )
    if status == "stopped":
        st.caption(
            f":material/info: Last update {_ago(now, sweep['last_written'])}. Run the same command "
            "again to resume the sweep."
        )
    st.plotly_chart(
        readable(progress_bars(bars)),
        key="progress",
        config={"displayModeBar": False},
        alt="cells done, failed and pending, by model",
    )
    _failures(results, name, failed + failed_lessons)
    _latest(results, name)


def _plain(name: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!$:~<>" else c for c in name)


def _time(
    status: str, sweep: dict[str, Any], pace: dict[str, Any], done: int, left: int, now: dt.datetime
) -> tuple[str, str]:
    """Return the label and value of the time metric: time left, time taken, or last update."""
    if status == "running":
        active = pace["active_seconds"]
        return "Time left (approx.)", _duration(active * left / done) if done and active else "-"
    if status.startswith("done"):
        return "Training time", _duration(pace["active_seconds"])
    return "Last update", _ago(now, sweep["last_written"])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _ago(now: dt.datetime, then: dt.datetime | None) -> str:
    return "-" if then is None else f"{_duration((now - then).total_seconds())} ago"


def _failures(results: Reader, name: str, failed: int) -> None:
    rows = results.failures(name) if failed else []
    if not rows:
        return
    with st.expander(
        f":red[:material/error:] Failed cells and lessons ({failed:,})", expanded=True
    ):
        shown = [
            {
                **row,
                "models": ", ".join(row["models"]),
                "positive": _range(row["positive_from"], row["positive_to"]),
                "negative": _range(row["negative_from"], row["negative_to"]),
                "seeds": ", ".join(map(str, row["seeds"])),
            }
            for row in rows[:50]
        ]
        names = ("cells", "error", "models", "positive", "negative", "seeds")
        table(shown, "failures", {n: st.column_config.Column(n) for n in names})
        st.caption(
            "What failed is missing from every figure. Run the same command again to retry them."
        )


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _latest(results: Reader, name: str) -> None:
    latest = results.latest(name)
    if latest.empty:
        st.caption("No state of this sweep has been trained yet.")
        return
    st.markdown("##### Latest states")
    column = st.column_config
    table(
        latest.assign(state_link="state?id=" + latest["state_id"]),
        "latest",
        {
            "finished_at": column.DatetimeColumn("finished (UTC)", format="YYYY-MM-DD HH:mm:ss"),
            "kind": "kind",
            "status": "status",
            "examples": column.NumberColumn("examples", format="localized"),
            "seconds": column.NumberColumn("seconds", format="%.1f"),
            "final_loss": column.NumberColumn("loss", format="%.3f"),
            "state_link": STATE_LINK,
        },
    )


def _all(results: Reader) -> None:
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            **row,
            "status": status_of(row, now),
            "progress": (row["done"] + row["failed"] + row["lessons_done"] + row["lessons_failed"])
            / max(row["cells"] + row["lessons"], 1),
            "failed": row["failed"] + row["lessons_failed"],
            "models": ", ".join(row["models"]),
        }
        for row in results.sweeps()
    ]
    st.markdown("##### All sweeps")
    column = st.column_config
    table(
        pd.DataFrame(rows),
        "sweeps",
        {
            "sweep": "sweep",
            "status": "status",
            "progress": column.ProgressColumn(
                "progress", format="percent", min_value=0, max_value=1
            ),
            "cells": column.NumberColumn("cells", format="localized"),
            "done": column.NumberColumn("done", format="localized"),
            "lessons": column.NumberColumn("lessons", format="localized"),
            "failed": column.NumberColumn("failed", format="localized"),
            "models": "models",
            "last_written": column.DatetimeColumn("last update (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )


page("Overview", "What each sweep shows, its progress and failures. Refreshes by itself.", body)

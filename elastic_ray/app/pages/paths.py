"""The page on inverse and forward fine-tuning: the paper's Table 1, measured and as printed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.analysis.labels import METRIC_LABELS
from elastic_ray.analysis.table_rows import (
    PATH_COLUMNS,
    PATHS_QUESTION,
    answer_paths_question,
    format_path_row,
)
from elastic_ray.app.figures.paths import paths, reach
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_models,
    choose_sweep,
    exports,
    in_columns,
    known_in_address,
    labelled,
    nothing_here,
    page,
    records,
    show,
    table,
)
from elastic_ray.elasticity import told_apart


def body(results: Reader) -> None:
    left, right = st.columns([1, 2])
    with left:
        sweep = choose_sweep(results)
    if sweep is None:
        return
    lessons = results.lessons(sweep["sweep"])
    if not lessons:
        nothing_here(
            "This sweep has no lessons, in which a state learns the answers of another one. A "
            "sweep compares inverse and forward paths between its positive sizes with "
            "`lessons: {pairs: [[1, 2], [2, 3], [1, 3]], queries: 256}` in its sweep file."
        )
        return
    found = results.paths(sweep["sweep"])
    if found["inverse"].isna().all():
        nothing_here(_not_yet(lessons))
        return
    found = labelled(found)
    with right:
        models = choose_models(found, most=3)
    metrics = [name for name in METRIC_LABELS if name in set(found["metric"])]
    known_in_address("metric", [METRIC_LABELS[name] for name in metrics])
    metric = str(
        st.segmented_control(
            "Distance",
            metrics,
            format_func=METRIC_LABELS.__getitem__,
            default=metrics[0],
            key="metric",
            required=True,
            bind="query-params",
            help="The paper uses cross-entropy, which includes the teacher's own entropy. "
            "KL excludes it.",
        )
    )
    chosen = found[found["label"].isin(models) & (found["metric"] == metric)]
    if chosen.empty:
        st.info("Select at least one model above.", icon=":material/filter_alt:")
        return
    st.markdown(f"**{answer_paths_question(metric, told_apart(records(chosen)))}**")
    bounds = reach(chosen)
    for label in in_columns(models, 3):
        st.markdown(f"**{label}**")
        figure = paths(chosen[chosen["label"] == label], metric, bounds)
        name = f"paths-{sweep['sweep']}-{label}"
        show(figure, name, key=f"paths-{label}", alt=f"inverse and forward paths, {label}")
    st.caption(CAPTIONS["paths"])
    _numbers(sweep["sweep"], chosen, found)


def _numbers(sweep: str, chosen: pd.DataFrame, found: pd.DataFrame) -> None:
    st.markdown("##### Table 1, measured")
    rows = [format_path_row(row, row["label"]) for row in records(chosen)]
    empty = [name for name in ("printed", "note") if not any(row[name] for row in rows)]
    shown = {name: head for name, head in PATH_COLUMNS.items() if name not in empty}
    table(rows, "inverse-forward", shown)
    st.caption(CAPTIONS["inverse_forward"])
    exports(f"inverse-forward-{sweep}", found)


def _not_yet(lessons: list[dict[str, Any]]) -> str:
    done, failed = (sum(row["status"] == s for row in lessons) for s in ("done", "failed"))
    message = f"Nothing to compare yet: {done:,} of {len(lessons):,} lessons are measured"
    errors = [row["error"] for row in lessons if row["status"] == "failed" and row["error"]]
    if failed:
        message += f", {failed:,} failed" + (f" ({errors[0].splitlines()[0]})" if errors else "")
    return f"{message}. Paths are compared when the sweep ends."


page("Inverse and forward", PATHS_QUESTION, body)

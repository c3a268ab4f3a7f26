"""The SQL page: read-only queries over the views, in a sandbox with limits."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import streamlit as st

from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import page
from elastic_ray.results.errors import ResultsError
from elastic_ray.results.sandbox import Limits, QueryResult, examples, run_query
from elastic_ray.results.statements import one_line

LIMITS = Limits()


def body(results: Reader) -> None:
    sweeps = results.sweeps()
    offered = examples(sweeps[0]["sweep"] if sweeps else "tiny")
    main, side = st.columns([3, 1.2], gap="large")
    with main:
        st.pills(
            "Examples",
            list(offered),
            key="example",
            label_visibility="collapsed",
            on_change=_take_example,
            args=(offered,),
        )
        sql = st.text_area(
            "Query",
            next(iter(offered.values())),
            key="q",
            bind="query-params",
            height=140,
            label_visibility="collapsed",
        )
        st.button("Run", type="primary", icon=":material/play_arrow:", key="run")
        if sql and sql.strip():
            _answer(results.uri, sql)
    with side:
        _schema(results)


def _take_example(offered: dict[str, str]) -> None:
    chosen = st.session_state.get("example")
    if chosen:
        st.session_state["q"] = offered[chosen]


def _answer(uri: str, sql: str) -> None:
    """Run the query on a click on Run and for a new text; otherwise draw the previous answer."""
    answer = st.session_state.get("answer")
    if st.session_state.get("run") or answer is None or answer[0] != sql:
        with st.spinner("Running …"):
            try:
                found: Any = run_query(uri, sql, LIMITS)
            except ResultsError as e:
                found = one_line(str(e))
        answer = st.session_state["answer"] = (sql, found)
    found = answer[1]
    if not isinstance(found, QueryResult):
        st.error(found, icon=":material/block:")
        return
    rows = found.rows
    st.caption(
        f"{rows.num_rows:,} row{'s' * (rows.num_rows != 1)} in {found.seconds:.2f} s"
        + (
            "; the result was truncated: aggregate, filter, or query `elastic.duckdb` directly"
            if found.cut
            else ""
        )
    )
    st.dataframe(_shown(rows.slice(0, 5_000)), hide_index=True, key="rows")
    if rows.num_rows > 5_000:
        st.caption("The first 5,000 rows are shown; the downloads contain all of them.")
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: rows.to_pandas().to_csv(index=False).encode(),
            "query.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="csv",
        )
        st.download_button(
            "Parquet",
            lambda: _parquet(rows),
            "query.parquet",
            "application/octet-stream",
            icon=":material/download:",
            on_click="ignore",
            key="parquet",
        )


def _shown(rows: Any) -> pd.DataFrame:
    names = [
        f"{n}_{i}" if n in rows.column_names[:i] else n for i, n in enumerate(rows.column_names)
    ]
    return rows.rename_columns(names).to_pandas()


def _parquet(rows: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, compression="zstd")
    return out.getvalue()


def _schema(results: Reader) -> None:
    st.markdown("##### Views")
    columns = results.columns()
    order = ("curves", "surfaces", "elasticity", "cell_scores", "baselines", "answers", "failures")
    names = [n for n in order if n in set(columns["view"])]
    names += [n for n in dict.fromkeys(columns["view"]) if n not in names]
    with st.container(height=420, border=False):
        for name in names:
            part = columns[columns["view"] == name]
            with st.expander(f"`{name}`"):
                st.markdown(
                    "  \n".join(
                        f"`{row.column}` :small[:gray[{row.type.lower()}]]"
                        for row in part.itertuples()
                    )
                )
    st.caption(
        f"Limits: one SELECT statement, {LIMITS.seconds:g} s, {LIMITS.memory_mb} MB, "
        f"{LIMITS.rows:,} rows. On large results, `curves_in('sweep')` is faster than `curves`."
    )


page("SQL", "Query the recorded results; queries are read-only.", body)

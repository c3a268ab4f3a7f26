"""The Compression page: is alignment undone k times faster? Measured code lengths and theory."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from elastic_ray.analysis.captions import CAPTIONS
from elastic_ray.analysis.labels import model_label, positive_label
from elastic_ray.analysis.table_rows import COMPRESSION_COLUMNS, format_compression_rows
from elastic_ray.app.figures.compression import changes, faster
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    choose_sweep,
    exports,
    known_in_address,
    nothing_here,
    page,
    show,
    table,
)
from elastic_ray.theory import QUESTION, CodeLengthCurve, answer_question, curve_rows


def body(results: Reader) -> None:
    left, right = st.columns(2)
    with left:
        sweep = choose_sweep(results)
    if sweep is None:
        return
    curves = results.compression(sweep["sweep"])
    if not curves:
        nothing_here(
            "No code lengths to compare. A sweep measures them for models that it pre-trains, with "
            "`probes: {code_length: {texts: 64}}` in its sweep file. A curve appears once its "
            "states at two negative sizes are measured."
        )
        return
    several_tasks = len({lengths.task for lengths, _ in curves}) > 1
    labels = [
        model_label(lengths.model, lengths.pretrain, lengths.task if several_tasks else None)
        for lengths, _ in curves
    ]
    sentences = answer_question(curves)
    st.markdown(f"**{sentences[0]}**")
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences[1:]))
    curve_by_name = {
        f"{label}, {positive_label(curve[0].positive)}": curve
        for label, curve in zip(labels, curves, strict=True)
    }
    with right:
        known_in_address("curve", list(curve_by_name))
        chosen = st.selectbox("Curve", list(curve_by_name), key="curve", bind="query-params")
    _figures(sweep["sweep"], curves, labels, curve_by_name[chosen or next(iter(curve_by_name))])
    _numbers(sweep["sweep"], curves, labels)


def _figures(
    sweep: str, curves: list[CodeLengthCurve], labels: list[str], chosen: CodeLengthCurve
) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**Change in bits per byte, by kind of text**")
        show(changes(chosen), f"changes-{sweep}", key="changes", alt="change of code lengths")
        st.caption(CAPTIONS["code_lengths"])
    with right:
        st.markdown("**How many times faster alignment is undone**")
        show(faster(curves, labels), f"faster-{sweep}", key="faster", alt="times faster against k")
        st.caption(CAPTIONS["faster"])


def _numbers(sweep: str, curves: list[CodeLengthCurve], labels: list[str]) -> None:
    st.markdown("##### Every curve and size, with 95% intervals")
    rows = curve_rows(curves, labels)
    table(format_compression_rows(rows), "compression", COMPRESSION_COLUMNS)
    st.caption(CAPTIONS["compression"])
    exports(f"compression-{sweep}", pd.DataFrame(rows))


page("Compression", QUESTION, body)

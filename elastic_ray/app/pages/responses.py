"""The Responses page: the answers of two states to the same prompts, side by side."""

from __future__ import annotations

from typing import Any

import streamlit as st

from elastic_ray.analysis.formatting import format_fixed, format_number
from elastic_ray.analysis.labels import model_label
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import choose_sweep, nothing_here, open_with, page

ROWS = 10
ORDERS = {
    "prompt": "prompt",
    "low": "lowest score (left)",
    "high": "highest score (left)",
    "difference": "largest difference",
}


def body(results: Reader) -> None:
    sweep = choose_sweep(results)
    if sweep is None:
        return
    points = results.points(sweep["sweep"])
    answer = st.container()
    left, right = st.columns(2)
    with left:
        one, label_one = _choose(results, sweep["sweep"], points, "a", last=False)
    with right:
        other, label_other = _choose(results, sweep["sweep"], points, "b", last=True)
    filters = st.columns([3, 1, 1, 2], vertical_alignment="bottom")
    wanted = filters[0].text_input(
        "Contains",
        key="contains",
        bind="query-params",
        placeholder="text in the prompt or an answer",
    )
    lowest, highest = (
        filters[place].number_input(
            label,
            value=None,
            step=0.1,
            key=key,
            bind="query-params",
            placeholder="any",
            help="Limits the score of either answer.",
        )
        for place, label, key in ((1, "Score from", "from"), (2, "Score to", "to"))
    )
    order = filters[3].selectbox(
        "Order", list(ORDERS), format_func=ORDERS.__getitem__, key="order", bind="query-params"
    )
    if one is None or other is None:
        nothing_here("This grid point is not part of the sweep.")
        return
    with answer:
        open_with(*_means(results, (one, label_one), (other, label_other)))
    number_of_page = st.session_state.get("page", 1)
    rows = results.answers(
        one,
        other,
        wanted=wanted or "",
        lowest=lowest,
        highest=highest,
        ordering=str(order),
        page=number_of_page - 1,
        rows=ROWS,
    )
    if not rows:
        _nothing(one, bool(wanted) or lowest is not None or highest is not None, number_of_page)
        return
    found = rows[0]["found"]
    for row in rows:
        _answer_pair(row, label_one, label_other)
    pages = -(-found // ROWS)
    foot = st.columns([1, 3], vertical_alignment="center")
    foot[0].number_input("Page", 1, pages, key="page", bind="query-params")
    first = (number_of_page - 1) * ROWS
    foot[1].caption(f"{first + 1:,} to {first + len(rows):,} of {found:,} answers")


def _choose(
    results: Reader, sweep: str, points: list[dict[str, Any]], side: str, *, last: bool
) -> tuple[dict[str, Any] | None, str]:
    """Return the selected cell of the sweep, or None, and its description."""
    labels = {_name(p, points): p for p in points}
    most = max(range(len(points)), key=lambda i: (points[i]["done"], i))
    label = st.selectbox(
        "Left: model" if side == "a" else "Right: model",
        list(labels),
        key=f"{side}_model",
        index=most,
        bind="query-params",
    )
    point = labels[label or next(iter(labels))]
    reached = point["reached"] or {"positive": point["positives"][-1], "negative": 0}
    positive, negative, seed = st.columns(3)
    sizes = {
        "positive": (positive, point["positives"], reached["positive"]),
        "negative": (negative, point["negatives"], reached["negative"] if last else 0),
        "seed": (seed, point["seeds"], point["seeds"][0]),
    }
    chosen = {
        name: column.selectbox(
            name,
            values,
            index=values.index(first) if first in values else 0,
            key=f"{side}_{name}",
            bind="query-params",
            format_func=lambda v: f"{v:,}",
        )
        for name, (column, values, first) in sizes.items()
    }
    at = {name: point[name] for name in ("task", "model", "pretrain")}
    cell = results.cell(sweep, at | chosen)
    return cell, f"{chosen['positive']:,} positive, {chosen['negative']:,} negative"


def _means(results: Reader, *sides: tuple[dict[str, Any], str]) -> tuple[str, str]:
    """Return the mean scores of both states in a sentence, and their standard errors."""
    means, errors = [], []
    for cell, label in sides:
        row = next(
            (r for r in results.score_of(cell["state_id"]) if r["scorer"] == cell["scorer"]), None
        )
        if row is None or row["score"] is None:
            return "", ""
        means.append(f"{format_fixed(row['score'], 2)} ({label})")
        errors.append(format_fixed(row["standard_error"], 3))
        prompts = row["prompts"]
    return (
        f"Mean score {' against '.join(means)}.",
        f"{prompts:,} prompts each; standard errors {' and '.join(errors)}.",
    )


def _name(point: dict[str, Any], points: list[dict[str, Any]]) -> str:
    several = len({p["task"] for p in points}) > 1
    return model_label(point["model"], point["pretrain"], point["task"] if several else None)


def _answer_pair(row: dict[str, Any], label_one: str, label_other: str) -> None:
    with st.container(border=True):
        st.markdown(
            f":small[:gray[prompt {row['prompt_index']}]] &nbsp; **{_plain(row['prompt'] or '')}**"
        )
        left, right = st.columns(2)
        with left:
            _draw_answer(label_one, row["score"], row["response"])
        with right:
            _draw_answer(label_other, row["other_score"], row["other_response"])


def _draw_answer(who: str, score: float | None, text: str | None) -> None:
    if text is None:
        st.caption(f"{who}: no answer yet")
        return
    colour = "gray" if score is None else "green" if score >= 0.5 else "red"
    st.markdown(
        f":{colour}-badge[{'no score' if score is None else format_number(score)}] :small[{who}]"
    )
    st.markdown(_plain(text) or "_(empty answer)_")


def _plain(text: str) -> str:
    """Return `text` with its markup escaped, so that it is shown literally."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!$:~<>|&" else c for c in text)
    return escaped.replace("\n", "  \n")


def _nothing(one: dict[str, Any], filtered: bool, number_of_page: int) -> None:
    if number_of_page > 1:
        st.session_state.pop("page", None)
        st.rerun()
    if filtered:
        nothing_here("No answer matches these filters.")
    elif one["status"] == "failed":
        nothing_here(f"The left state failed: {one['error'] or 'no error message'}")
    else:
        nothing_here(
            "The left state has not answered yet. Overview shows the progress of the sweep."
        )


page("Responses", "Answers of two states to the same prompts, side by side.", body)

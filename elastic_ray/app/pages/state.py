"""The State page: one model state, its lineage, losses, scores, answers and recipe."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from elastic_ray.analysis.formatting import format_compact, format_fixed, format_number
from elastic_ray.analysis.palette import CATEGORIES
from elastic_ray.app.reader import Reader
from elastic_ray.app.widgets import (
    STATE_LINK,
    escaped,
    nothing_here,
    open_with,
    page,
    show,
    table,
)

ANSWERS = 5


def body(results: Reader) -> None:
    state_id = st.text_input("State", key="id", bind="query-params", placeholder="id of a state")
    if not state_id:
        nothing_here("Enter a state's id, or click a point on Curves or a state on Overview.")
        return
    state = results.state(state_id)
    if state is None:
        nothing_here(f"No state {state_id} is recorded here: it is not trained yet, or unknown.")
        return
    scores = results.score_of(state_id)
    open_with(_answer(state, scores), _origin(state))
    if state["error"]:
        st.error(state["error"], icon=":material/error:")
    lineage = json.loads(state["lineage"]) if state["lineage"] else {}
    left, right = st.columns(2)
    with left:
        st.markdown("##### Lineage")
        _lineage(lineage, state, results.children(state_id))
    with right:
        st.markdown("##### Loss by step")
        _losses(state)
    _scores(scores)
    _answers(results, state_id)
    _recipe(lineage, state)


def _answer(state: Mapping[str, Any], scores: list[dict[str, Any]]) -> str:
    what = f"{state['kind'].capitalize()} state after {state['examples'] or 0:,} examples"
    scored = next((row for row in scores if row["score"] is not None), None)
    if state["status"] == "failed":
        return f"{what}: failed."
    if scored is None:
        return f"{what}: no score."
    error = format_fixed(scored["standard_error"], 3)
    return (
        f"{what}: mean score {format_fixed(scored['score'], 3)} (standard error {error}, "
        f"{scored['prompts']:,} prompts)."
    )


def _origin(state: Mapping[str, Any]) -> str:
    parts = [f"Trained by sweep {state['sweep']}"]
    if state["finished_at"]:
        parts.append(f"finished {state['finished_at']:%Y-%m-%d %H:%M} UTC")
    if state["seconds"] is not None:
        parts.append(f"in {format_number(state['seconds'])} s on {state['workers'] or 1} worker(s)")
    machine = json.loads(state["hardware"]) if state["hardware"] else {}
    if machine:
        gpus = machine.get("gpus") or []
        parts.append(f"{len(gpus)} x {gpus[0]}" if gpus else f"{machine.get('cpu', '?')}, no GPU")
    if state["git_revision"]:
        parts.append(f"git revision {state['git_revision'][:12]}")
    return "; ".join(parts) + "."


def _lineage(
    lineage: Mapping[str, Any], state: Mapping[str, Any], children: list[dict[str, Any]]
) -> None:
    """Draw the states on the way here as a graph, and link them and the children in a table."""
    start = lineage.get("start") or {}
    chain = [(start.get("state_id"), f"start: {start.get('kind', '?')}")]
    chain += [
        (stage.get("state_id"), f"{stage['kind']} {stage['examples']:,}, seed {stage['seed']}")
        for stage in lineage.get("stages", ())
    ]
    chain = [each for each in chain if each[0]] or [(state["state_id"], state["kind"])]
    shown = children[:8]
    lines = ["digraph {rankdir=TB; bgcolor=transparent; node [shape=box style=filled"
             ' fillcolor="#ffffff" color="#6f7f88" fontcolor="#1d2a30" fontname="sans-serif"];'
             ' edge [color="#6f7f88"];']  # fmt: skip
    for id_, text in chain:
        lines.append(f'"{id_}" [label={json.dumps(text)}];')
    for (one, _), (other, _) in itertools.pairwise(chain):
        lines.append(f'"{one}" -> "{other}";')
    lines.append(f'"{state["state_id"]}" [penwidth=3 color="{CATEGORIES[0]}"];')
    for child in shown:
        text = json.dumps(f"{child['kind']} {child['examples'] or 0:,}")
        lines.append(f'"{child["state_id"]}" [label={text} style="filled,dashed"];')
        lines.append(f'"{state["state_id"]}" -> "{child["state_id"]}";')
    st.graphviz_chart("\n".join([*lines, "}"]))
    rows = [{"which": text, "state_link": f"state?id={id_}"} for id_, text in chain]
    rows += [
        {
            "which": f"child: {child['kind']} {child['examples'] or 0:,}",
            "state_link": f"state?id={child['state_id']}",
        }
        for child in children
    ]
    table(rows, "lineage", {"which": "stage", "state_link": STATE_LINK})
    if len(children) > len(shown):
        st.caption(f"The graph shows {len(shown)} of {len(children)} children; the table has all.")


def _losses(state: Mapping[str, Any]) -> None:
    losses = state["losses"] or []
    if not losses:
        st.caption("No losses are recorded: this state is not trained here.")
        return
    steps = list(range(1, len(losses) + 1))
    figure = go.Figure(
        go.Scatter(
            x=steps,
            y=losses,
            mode="lines+markers",
            line={"color": CATEGORIES[0], "width": 2},
            marker={"size": 5},
            hovertemplate="step %{x}: loss %{y:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="recorded step of this stage", zeroline=False)
    figure.update_yaxes(title_text="loss", zeroline=False)
    figure.update_layout(height=320, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    show(figure, f"loss-{state['state_id']}", key="loss", alt="loss by step")
    st.caption(f"Final loss {format_fixed(state['final_loss'], 4)}.")


def _scores(scores: list[dict[str, Any]]) -> None:
    if not scores:
        st.caption("No cell of a sweep is this state: it is a step on the way to others.")
        return
    st.markdown("##### Scores, by cell")
    column = st.column_config
    table(
        scores,
        "scores",
        {
            "sweep": "sweep", "model": "model", "task": "task",
            "positive": column.NumberColumn("positive", format="localized"),
            "negative": column.NumberColumn("negative", format="localized"),
            "seed": "seed", "status": "status",
            "score": column.NumberColumn("score", format="%.3f"),
            "standard_error": column.NumberColumn("standard error", format="%.3f"),
            "prompts": "prompts",
        },
    )  # fmt: skip


def _answers(results: Reader, state_id: str) -> None:
    rows = results.answers_by(state_id, ANSWERS)
    if not rows:
        return
    st.markdown(f"##### The first {len(rows)} answers")
    table(
        rows,
        "answers",
        {
            "prompt": "prompt",
            "response": st.column_config.TextColumn("answer", width="large"),
            "score": st.column_config.NumberColumn("score", format="%.2f"),
        },
    )


def _recipe(lineage: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    st.markdown("##### Recipe")
    for stage in lineage.get("stages", ()):
        recipe = stage.get("recipe") or {}
        text = ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in recipe.items()
            if value is not None
        )
        st.markdown(
            f"**{stage['kind'].capitalize()}**: {stage['examples']:,} examples, seed "
            f"{stage['seed']}; {escaped(text)}"
        )
    size = state["checkpoint_bytes"]
    kept = f"`{state['checkpoint']}`" if state["checkpoint"] else "not kept"
    st.markdown(
        f"**Checkpoint**: {kept}"
        + (f", {format_compact(size)}B" if size else "")
        + (f", SHA-256 `{state['checksum']}`" if state["checksum"] else "")
    )


page("State", "One model state: where it comes from, how it was trained, what it answers.", body)

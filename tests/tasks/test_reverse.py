"""A task in the other direction: what changes places, and what both directions share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import stand_in_data

from elastic_ray.plan import Plan, load_inputs, plan_sweep
from elastic_ray.spec import Spec, SpecError, load_spec
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.task import TaskError

FILE = """
sweep: turned
task: {name: reviews, data: {reverse: %s}}
models: [{name: small, init: {hidden_size: 16, layers: 1, heads: 1}, pretrain: [16]}]
positive: [8]
negative: [8]
"""


def planned(folder: Path, reverse: str) -> Plan:
    file = folder / f"{reverse}.yaml"
    file.write_text(FILE % reverse)
    spec = load_spec(file)
    return plan_sweep(spec, load_inputs(spec, to_run=True).task_info(), {})


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Plan]:
    folder = tmp_path_factory.mktemp("turned")
    return planned(folder, "false"), planned(folder, "true")


def test_pools_labels_and_texts_change_places() -> None:
    ahead, back = load_task("reviews"), load_task("reviews", {"reverse": True})
    for pool, other in (("positive", "negative"), ("negative", "positive")):
        turned = [replace(each, label=1 - each.label) for each in ahead.pool(other)[:50]]
        assert list(back.pool(pool)[:50]) == turned
        texts = [each.response for each in ahead.texts(other, 20)]
        assert [each.response for each in back.texts(pool, 20)] == texts
    assert {each.label for each in back.pool("positive")} == {1}
    pairs = zip(ahead.pool("scorer")[:50], back.pool("scorer")[:50], strict=True)
    assert all(one.label + two.label == 1 and one.response == two.response for one, two in pairs)
    assert back.pool("pretrain")[:50] == ahead.pool("pretrain")[:50]
    assert back.prompts(50) == ahead.prompts(50)
    back.check_leakage()
    with pytest.raises(TaskError, match="no pool 'other'"):
        back.pool("other")


def test_identity_differs_but_prompts_and_base_are_shared(plans: tuple[Plan, Plan]) -> None:
    ahead, back = plans
    assert load_task("reviews", {"reverse": True}).identity != load_task("reviews").identity
    base = {cell.state_id for plan in plans for cell in plan.cells if cell.positive == 0}
    assert len(base) == 1, "pre-training does not depend on the direction"
    taught = [{c.state_id for c in plan.cells if c.positive} for plan in plans]
    assert not taught[0] & taught[1]
    assert ahead.probes["reviews"].probe_id == back.probes["reviews"].probe_id
    assert ahead.probes["reviews"].scorer != back.probes["reviews"].scorer


def test_a_setting_that_is_no_truth_value_is_refused() -> None:
    with pytest.raises(TaskError, match=r"data\.reverse: found 'yes'; allowed: true and false"):
        load_task("reviews", {"reverse": "yes"})


def spec_with(folder: Path, **scorer: object) -> Spec:
    data = stand_in_data.write(folder / "data", stand_in_data.imdb(80, 80))
    file = folder / "sweep.yaml"
    fields = "".join(f", {name}: {value}" for name, value in scorer.items())
    file.write_text(
        f"sweep: s\ntask: {{name: imdb, data: {{path: {data}, reverse: true}}, scorer: "
        f"{{name: s, hub: a/b, revision: {'0' * 40}{fields}}}}}\n"
        f"models: [{{name: m, hub: a/b, revision: {'0' * 40}}}]\npositive: [8]\nnegative: [8]\n"
    )
    return load_spec(file)


def test_a_given_scorer_must_be_turned_round_too(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"task\.0\.scorer\.label: missing; task imdb is reversed"):
        load_inputs(spec_with(tmp_path), to_run=True)
    load_inputs(spec_with(tmp_path, label="NEGATIVE"), to_run=True)
    load_inputs(spec_with(tmp_path, mode="mean"), to_run=True)

"""Planning: every state once, shared by all cells that need it, trained in the fewest runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from small_sweeps import COMMIT, Facts, plain, plan_of, spec_of, specs

from elastic_ray.plan import Ladder, Lesson, Plan, parameters_in_name, plan_sweep
from elastic_ray.plan.graph import Cell, ExampleCounts
from elastic_ray.plan.identity import Stage, state_id
from elastic_ray.plan.model_size import init_parameters
from elastic_ray.spec import Init, Spec, SpecError, load_spec

ROOT = Path(__file__).parents[2]
HUB = {"name": "a-1b", "hub": "some/a-1b", "revision": COMMIT}
PAPER = {
    "models": [HUB],
    "positive": [1000, 2000, 5000, 10000],
    "negative": [0, 100, 200, 500, 1000, 2000],
}


def bases(spec: Spec) -> int:
    """Baselines: each model's pre-training sizes, or the model itself, per task."""
    return len(spec.task) * sum(max(1, len(model.pretrain)) for model in spec.models)


def written_out(plan: Plan, cell: Cell | Lesson) -> list[tuple[Stage, int]]:
    """The stages of a point's state, from its start, as the plan's graph has them."""
    found: list[tuple[Stage, int]] = []
    node = plan.states[cell.state_id]
    while node.parent_id is not None:
        assert node.stage is not None
        found.insert(0, (node.stage, node.examples))
        node = plan.states[node.parent_id]
    assert node.state_id in plan.starts
    return found


# Cells


@given(specs())
@settings(max_examples=60, deadline=None)
def test_every_point_of_the_grid_is_one_cell(spec: Spec) -> None:
    plan = plan_of(spec)
    points = [(c.model, c.task, c.pretrain, c.positive, c.negative, c.seed) for c in plan.cells]
    expected = [
        (model.name, task.name, pretrain, positive, negative, seed)
        for task in spec.task
        for model in spec.models
        for pretrain in model.pretrain or (None,)
        for seed in spec.seeds
        # The baseline and the start of each curve are always there, asked for or not.
        for positive, negative in [
            (0, 0),
            *((p, n) for p in spec.positive_sizes(task) for n in sorted({0, *spec.negative})),
        ]
    ]
    assert sorted(points, key=repr) == sorted(expected, key=repr)


@given(specs())
@settings(max_examples=60, deadline=None)
def test_a_cells_state_is_what_the_cell_says(spec: Spec) -> None:
    plan = plan_of(spec)
    models = {model.name: model for model in spec.models}
    firsts = {task.name: task.instruct for task in spec.task}
    for cell in plan.cells:
        stages, first = written_out(plan, cell), firsts[cell.task]
        expected = [
            ("pretrain", cell.pretrain),
            ("instruct", first and first.examples),
            ("positive", cell.positive),
            ("negative", cell.negative),
        ]
        kinds = [(kind, n) for kind, n in expected if n]
        # What is taught first may be another task's positive state.
        pools = [("positive" if kind == "instruct" else kind, n) for kind, n in kinds]
        assert [(s.pool, n) for s, n in stages] == pools
        init = models[cell.model].init
        seeds = {"pretrain": init.seed if init else 0, "instruct": 0}
        for (stage, _), (kind, _) in zip(stages, kinds, strict=True):
            assert stage.recipe == spec.training.recipe(kind)
            assert stage.seed == seeds.get(kind, cell.seed)
        lineage = plan.lineage(cell.state_id)
        assert [(s["kind"], s["examples"]) for s in lineage["stages"]] == [
            (s.kind, n) for s, n in stages
        ]
        if stages:
            assert lineage["stages"][-1]["state_id"] == cell.state_id
        assert lineage["start"]["state_id"] in plan.starts


# States


@given(specs())
@settings(max_examples=60, deadline=None)
def test_parents_come_before_children_and_ids_follow_from_them(spec: Spec) -> None:
    plan = plan_of(spec)
    seen: set[str] = set()
    for state, node in plan.states.items():
        assert node.state_id == state
        assert node.engine in plan.groups
        if node.parent_id is None:
            assert node.stage is None and plan.starts[state].state_id == state
        else:
            assert node.parent_id in seen and node.stage is not None
            assert state_id(node.parent_id, node.stage, node.examples) == state
        seen.add(state)


@given(specs())
@settings(max_examples=60, deadline=None)
def test_every_state_is_needed(spec: Spec) -> None:
    """Each state belongs to a cell or lesson, or is an ancestor of such a state."""
    plan = plan_of(spec)
    needed: set[str | None] = {None}
    for point in plan.points:
        state: str | None = point.state_id
        while state not in needed:
            needed.add(state)
            assert state is not None
            state = plan.states[state].parent_id
    assert set(plan.states) == needed - {None}


def test_one_positive_state_is_shared_by_its_negative_sizes_and_one_base_by_all() -> None:
    plan = plan_of(spec_of(positive=[8, 16], negative=[8, 16, 24], seeds=[0, 1]))
    kinds = Counter(node.stage.kind if node.stage else "start" for node in plan.states.values())
    assert kinds == {"start": 1, "pretrain": 1, "positive": 2 * 2, "negative": 2 * 2 * 3}
    assert len(plan.cells) == 2 * (1 + 2 * 4)
    assert len(plan.requests()) == len(plan.states) - 1, "a random init is not questioned"


def test_identical_models_are_trained_once() -> None:
    init = {"hidden_size": 64, "layers": 1}
    one = {"name": "one", "init": init, "pretrain": [32]}
    other = {"name": "one-more", "init": init, "pretrain": [32, 64]}
    plan = plan_of(spec_of(models=[one, other]))
    alone = plan_of(spec_of(models=[other]))
    assert set(plan.states) == set(alone.states)
    assert len(plan.ladders) == len(alone.ladders)
    assert len(plan.cells) == 3 * (1 + 3)
    assert len(plan.requests()) == 2 * (1 + 3)


def test_a_hub_model_has_one_state_whatever_its_name() -> None:
    plan = plan_of(spec_of(models=[HUB, {**HUB, "name": "b", "pretrain": [64]}]))
    assert len(plan.starts) == 1
    assert len(plan.groups) == 1, "one engine serves them all"


def test_tasks_share_a_hub_model_but_no_training() -> None:
    plan = plan_of(spec_of(task=["reviews", "imdb"], models=[HUB]))
    assert len(plan.starts) == 1
    (base,) = plan.starts
    assert {q.task for q in plan.requests() if q.state_id == base} == {"reviews", "imdb"}
    tuned = {q.state_id: q.task for q in plan.requests() if q.state_id != base}
    assert len(tuned) == len(plan.requests()) - 2
    assert {lad.task for lad in plan.ladders} == {"reviews", "imdb"}
    assert all(tuned[rung.state_id] == lad.task for lad in plan.ladders for rung in lad.rungs)


def test_the_tasks_tokenizer_changes_a_model_from_scratch() -> None:
    plan = plan_of(spec_of(task=["reviews", "imdb"]))
    assert len(plan.starts) == 2
    assert set(plan.start_task.values()) == {"reviews", "imdb"}
    assert len(plan.groups) == 2


def test_models_that_differ_only_in_weights_share_engines() -> None:
    def init(name: str, **changes: Any) -> dict[str, Any]:
        shape = {"hidden_size": 64, "layers": 1, **changes}
        return {"name": name, "init": shape, "pretrain": [8]}

    plan = plan_of(spec_of(models=[init("a"), init("b", seed=1), init("c", layers=2)]))
    assert len(plan.starts) == 3
    assert len(plan.groups) == 2
    assert Counter(node.engine for node in plan.states.values() if node.parent_id is None) == (
        Counter({name: 2 if i == 0 else 1 for i, name in enumerate(plan.groups)})
    )


def test_full_ancestor_of_adapters() -> None:
    def full(positive: Any, negative: Any) -> list[str]:
        training = {"positive": {"lora": positive}, "negative": {"lora": negative}}
        plan = plan_of(spec_of(models=[HUB], positive=[8], negative=[8], training=training))
        states = list(plan.states)  # the baseline, positive, negative
        return ["bpn"[states.index(plan.full_ancestor(state))] for state in states]

    lora = {"rank": 4}
    assert full(None, None) == ["b", "p", "n"]
    assert full(lora, None) == ["b", "b", "n"]
    assert full(None, lora) == ["b", "p", "p"]
    assert full(lora, lora) == ["b", "b", "b"]


# Ladders


@given(specs())
@settings(max_examples=100, deadline=None)
def test_ladders_pass_every_trained_state_exactly_once(spec: Spec) -> None:
    plan = plan_of(spec)
    rungs = [rung.state_id for ladder in plan.ladders for rung in ladder.rungs]
    assert Counter(rungs) == Counter(s for s, n in plan.states.items() if n.stage is not None)
    ends = [ladder.id for ladder in plan.ladders]
    assert len(set(ends)) == len(ends)


@given(specs())
@settings(max_examples=100, deadline=None)
def test_a_ladder_is_one_run_from_its_parent(spec: Spec) -> None:
    plan = plan_of(spec)
    made: set[str] = set(plan.starts)
    for ladder in plan.ladders:
        assert ladder.parent_id in made, "ladders come after those they start from"
        for rung in ladder.rungs:
            node = plan.states[rung.state_id]
            assert (node.parent_id, node.stage) == (ladder.parent_id, ladder.stage)
            assert node.examples == rung.examples
            assert node.engine == ladder.engine
        made |= {rung.state_id for rung in ladder.rungs}
        sizes = [rung.examples for rung in ladder.rungs]
        assert sizes == sorted(set(sizes)) and ladder.examples == sizes[-1]


@given(specs())
@settings(max_examples=100, deadline=None)
def test_fusing_is_exact_and_complete(spec: Spec) -> None:
    """A rung before the last is a prefix of the run, as it would have been trained alone; and a
    size is apart only where that cannot be."""
    plan = plan_of(spec)
    runs: dict[tuple[str, str], list[Ladder]] = {}
    for ladder in plan.ladders:
        recipe = ladder.stage.recipe
        if len(ladder.rungs) > 1:
            assert recipe.schedule == "constant" and recipe.epochs == 1
        for rung in ladder.rungs[:-1]:
            assert rung.examples % recipe.global_batch == 0
        runs.setdefault((ladder.parent_id, ladder.stage.digest), []).append(ladder)
    for same in runs.values():
        recipe = same[0].stage.recipe
        longest = max(same, key=lambda ladder: ladder.examples)
        for ladder in same:
            if ladder is not longest and recipe.schedule == "constant" and recipe.epochs == 1:
                assert len(ladder.rungs) == 1
                assert ladder.examples % recipe.global_batch != 0


def ladders_of(**changes: Any) -> list[tuple[int, ...]]:
    """The sizes on each positive run."""
    plan = plan_of(spec_of(models=[HUB], **changes))
    return [
        tuple(rung.examples for rung in ladder.rungs)
        for ladder in plan.ladders
        if ladder.stage.kind == "positive"
    ]


def test_whole_batches_share_one_run() -> None:
    assert ladders_of(positive=[8, 16, 40]) == [(8, 16, 40)]


def test_the_last_size_of_a_run_may_have_a_partial_batch() -> None:
    assert ladders_of(positive=[8, 16, 41]) == [(8, 16, 41)]
    assert ladders_of(positive=[3]) == [(3,)], "also where it is smaller than a batch"


def test_other_partial_batches_have_their_own_runs() -> None:
    assert ladders_of(positive=[3, 8, 12, 16]) == [(8, 16), (3,), (12,)]


@pytest.mark.parametrize("change", [{"schedule": "cosine"}, {"epochs": 2}])
def test_cosine_and_several_epochs_are_not_fused(change: dict[str, Any]) -> None:
    apart = [(8,), (16,), (40,)]
    assert ladders_of(positive=[8, 16, 40], training=change) == apart
    # Of that stage alone.
    whole = ladders_of(positive=[8, 16, 40], training={"negative": change})
    assert whole == [(8, 16, 40)]


def test_each_seed_has_its_own_run() -> None:
    assert ladders_of(positive=[8, 16], seeds=[0, 1]) == [(8, 16), (8, 16)]


def test_pre_training_sizes_fuse_too() -> None:
    plan = plan_of(spec_of(models=[{**HUB, "pretrain": [64, 128, 256]}]))
    first = plan.ladders[0]
    assert first.stage.kind == "pretrain" and first.parent_id in plan.starts
    assert [rung.examples for rung in first.rungs] == [64, 128, 256]


# Examples


@given(specs())
@settings(max_examples=100, deadline=None)
def test_sharing_and_fusing_never_add_examples(spec: Spec) -> None:
    plan = plan_of(spec)
    for asked in plan.example_counts.values():
        assert 0 <= asked.fused <= asked.shared <= asked.cell_by_cell
    assert sum(a.fused for a in plan.example_counts.values()) == sum(
        la.examples for la in plan.ladders
    )
    assert sum(a.shared for a in plan.example_counts.values()) == sum(
        node.examples for node in plan.states.values()
    )
    trained = [n for point in plan.points for _, n in written_out(plan, point)]
    trained += [lesson.teacher for lesson in plan.lessons]
    assert sum(a.cell_by_cell for a in plan.example_counts.values()) == sum(trained)


@given(specs())
@settings(max_examples=60, deadline=None)
def test_shared_counts_follow_from_the_grid(spec: Spec) -> None:
    """Without identical models, each baseline has its own states."""
    spec = plain(spec)
    models = [m.model_copy(update={"hub": f"some/{m.name}"} if m.hub else {}) for m in spec.models]
    models = [m.model_copy(update={"path": m.name} if m.path else {}) for m in models]
    models = [
        m.model_copy(update={"init": m.init.model_copy(update={"seed": i})} if m.init else {})
        for i, m in enumerate(models)
    ]
    plan = plan_of(spec.model_copy(update={"models": tuple(models)}))
    up, down = spec.positive, [n for n in spec.negative if n]
    per_base = len(spec.seeds) * (sum(up) + len(up) * sum(down))
    assert plan.example_counts["fine-tuning"].shared == bases(spec) * per_base
    # Hub models and folders are one start for all tasks; a model from scratch is one per task.
    starts = sum(len(spec.task) if m.init else 1 for m in models)
    trained = bases(spec) * len(spec.seeds) * len(up) * (1 + len(down))
    pretrained = len(spec.task) * sum(len(m.pretrain) for m in models)
    assert len(plan.states) == starts + pretrained + trained


@pytest.mark.parametrize("batch", [1, 4, 10, 20, 100])
def test_the_papers_grid(batch: int) -> None:
    plan = plan_of(spec_of(**PAPER, training={"global_batch": batch}))
    assert plan.example_counts["fine-tuning"] == ExampleCounts(123_200, 33_200, 18_000)
    assert plan.example_counts["pre-training"] == ExampleCounts(0, 0, 0)
    assert len(plan.ladders) == 1 + 4


def test_the_papers_grid_costs_that_per_model_and_seed() -> None:
    models = [{**HUB, "name": f"m{i}", "hub": f"some/m{i}"} for i in range(3)]
    spec = spec_of(**{**PAPER, "models": models}, seeds=[0, 1], training={"global_batch": 20})
    assert plan_of(spec).example_counts["fine-tuning"] == ExampleCounts(
        6 * 123_200, 6 * 33_200, 6 * 18_000
    )


def test_sizes_with_partial_batches_cost_their_own_runs() -> None:
    plan = plan_of(spec_of(**PAPER, training={"global_batch": 8}))
    # 100 and 500 are no multiples of 8: once more for each of the four positive sizes.
    assert plan.example_counts["fine-tuning"].fused == 18_000 + 4 * (100 + 500)


# What the data holds


def test_more_examples_than_the_data_holds_are_refused() -> None:
    spec = spec_of(
        task=["imdb", "reviews"],
        models=[HUB, {**HUB, "name": "b", "pretrain": [64, 200]}],
        positive=[100, 101],
        negative=[8, 100],
        generation={"prompts": 101},
    )
    with pytest.raises(SpecError) as error:
        plan_of(spec, most=100)
    expected = [
        line
        for task in ("imdb", "reviews")
        for line in (
            f"positive: found 101 examples; task {task} holds 100 positive examples",
            f"models.1.pretrain: found 200 examples; task {task} holds 100 pretrain examples",
            f"generation.prompts: found 101; task {task} holds 100 held-out prompts",
        )
    ]
    assert str(error.value).splitlines() == expected
    fits = {"positive": (100,), "models": spec.models[:1]}
    generation = spec.generation.model_copy(update={"prompts": 100})
    plan_of(spec.model_copy(update={**fits, "generation": generation}), most=100)


def test_a_missing_pool_has_size_zero() -> None:
    facts = Facts()
    del facts.sizes["pretrain"]
    with pytest.raises(SpecError, match=r"models\.0\.pretrain: found 64 examples; .* holds 0"):
        plan_sweep(spec_of(), {"reviews": facts}, {})
    plan_sweep(spec_of(models=[HUB]), {"reviews": facts}, {})


# Scorers and probes


def test_tasks_have_probes_and_scorers_of_their_own() -> None:
    plan = plan_of(spec_of(task=["reviews", "imdb"]))
    assert len({probe.probe_id for probe in plan.probes.values()}) == 2
    assert len({probe.scorer for probe in plan.probes.values()}) == 2, "trained on their own texts"
    scorer = {"name": "s", "hub": "a/b", "revision": COMMIT}
    plan = plan_of(spec_of(task=["reviews", "imdb"], scorer=scorer))
    assert len({probe.scorer for probe in plan.probes.values()}) == 1


def test_a_scorer_folder_is_identified_by_content() -> None:
    def scorer(path: str, content: str) -> str:
        spec = spec_of(scorer={"path": path})
        return plan_sweep(spec, {"reviews": Facts()}, {path: content}).probes["reviews"].scorer

    assert scorer("a", "x") == scorer("b", "x") != scorer("a", "y")


# Large sweeps


def test_a_hundred_thousand_cells_fit_into_a_gigabyte() -> None:
    """Plan in a separate process and check its peak memory; the benchmark measures the time."""
    done = subprocess.run(
        [sys.executable, "benchmarks/plan.py", "--here", "--cells", "100000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # 10 models and 10 seeds with 1 + 20 x 50 cells, of which the 10 seeds share each baseline.
    assert found["cells"] == 10 * 10 * (1 + 20 * 50) >= 100_000
    assert found["states"] == 10 * (1 + 10 * 20 * 50)
    assert found["ladders"] == 10 * 10 * (1 + 20)
    assert found["peak_mb"] < 1000


# Parameters


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen1.5-0.5B", 500_000_000),
        ("meta-llama/Llama-2-7b-hf", 7_000_000_000),
        ("EleutherAI/pythia-70m-deduped", 70_000_000),
        ("mistralai/Mixtral-8x7B-v0.1", 56_000_000_000),
        # The length of a context is no size.
        ("microsoft/Phi-3-mini-4k-instruct", None),
        ("gradientai/Llama-3-8B-Instruct-262k", 8_000_000_000),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7_000_000_000),
        ("TinyLlama/TinyLlama-1.1B-step-50K-105b", 1_100_000_000),
        ("TinyLlama/TinyLlama-1.1B-intermediate-step-240k-503b", 1_100_000_000),
        ("some/Step-3-8B", 8_000_000_000),
        ("openai-community/gpt2", None),
        ("some/model-b2-4bit", None),
    ],
)
def test_sizes_are_read_from_names(name: str, size: int | None) -> None:
    assert parameters_in_name(name) == size


def test_a_folders_size_is_read_from_its_own_name_only() -> None:
    plan = plan_of(spec_of(models=[{"name": "m", "path": "/store/70b/model-1.5B/"}]))
    assert [group.parameters for group in plan.groups.values()] == [1_500_000_000]
    plan = plan_of(spec_of(models=[{"name": "m", "path": "/store/70b/model"}]))
    assert [group.parameters for group in plan.groups.values()] == [None]


def test_parameters_of_an_init() -> None:
    """By hand, from transformers' architectures: 10 words, hidden size 8, one layer."""
    llama = Init(hidden_size=8, layers=1, heads=2, kv_heads=1, intermediate_size=12)
    attention = 8 * 8 + 2 * 8 * 4 + 8 * 8  # q; k and v of one head; o
    mlp, norms = 3 * 8 * 12, 3 * 8
    assert init_parameters(llama, 10) == 10 * 8 + attention + mlp + norms
    assert init_parameters(replace_init(llama, tied=False), 10) == init_parameters(llama, 10) + 80
    # Qwen3 norms each head's queries and keys.
    qwen = replace_init(llama, architecture="qwen3")
    assert init_parameters(qwen, 10) == init_parameters(llama, 10) + 2 * 4
    gpt2 = Init(architecture="gpt2", hidden_size=8, layers=1, heads=2, positions=16)
    attention = 8 * 24 + 24 + 8 * 8 + 8
    mlp = 8 * 32 + 32 + 32 * 8 + 8
    assert init_parameters(gpt2, 10) == (10 + 16) * 8 + attention + mlp + 2 * 2 * 8 + 2 * 8


def replace_init(init: Init, **changes: Any) -> Init:
    return Init(**{**init.model_dump(), **changes})


def test_plans_are_values() -> None:
    spec = spec_of()
    assert plan_of(spec) == plan_of(spec)
    assert replace(plan_of(spec), spec=spec_of(sweep="other")) != plan_of(spec)


def test_replicates_pretrain_every_seed_anew_and_seed_0_as_before(tmp_path: Path) -> None:
    def planned(replicates: bool) -> Plan:
        text = (Path(__file__).parents[2] / "sweeps" / "tiny.yaml").read_text(encoding="utf-8")
        one = "pretrain: [16000]}"
        file = tmp_path / "tiny.yaml"
        file.write_text(
            text.replace(one, "pretrain: [16000], replicates: true}" if replicates else one)
        )
        return plan_sweep(load_spec(file))

    once, anew = planned(False), planned(True)
    bases = {(c.model, c.pretrain, c.seed): c.state_id for c in anew.cells if not c.positive}
    before = {(c.model, c.pretrain, c.seed): c.state_id for c in once.cells if not c.positive}
    assert bases["reviews-840k", 16000, 0] == before["reviews-840k", 16000, 0]
    assert bases["reviews-840k", 16000, 1] != bases["reviews-840k", 16000, 0]
    assert before["reviews-840k", 16000, 1] == before["reviews-840k", 16000, 0]
    small = [at for at in bases if at[0] == "reviews-150k"]
    assert all(bases[at] == before[at] for at in small), "other models stay as they are"
    assert len(anew.groups) == len(once.groups), "one engine group serves all runs of a model"
    assert len(anew.starts) == len(once.starts) + 1

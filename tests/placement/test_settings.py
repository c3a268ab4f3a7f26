"""Settings that fit in GPU memory: what `auto` chooses, what is refused, and what is advised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import COMMIT, Facts, plan_of, spec_of

from elastic_ray.placement import allocate, parse_cluster
from elastic_ray.placement.settings import FILLED, LadderKind, ladder_kinds, settle_runtimes
from elastic_ray.placement.training_memory import training_memory
from elastic_ray.plan import ModelShape
from elastic_ray.plan.model_shape import KNOWN, interpolated, of_config, shape_of
from elastic_ray.spec import Model, Recipe, Runtime, SpecError

INFO = {"reviews": Facts()}
SEVEN: dict[str, Any] = {"name": "seven", "hub": "Qwen/Qwen1.5-7B", "revision": COMMIT}
HALF: dict[str, Any] = {"name": "half", "hub": "Qwen/Qwen1.5-0.5B", "revision": COMMIT}
SHAPES = st.sampled_from([KNOWN[r"qwen1\.5-0\.5b"], KNOWN["tinyllama"], KNOWN[r"qwen1\.5-7b"]])
RECIPES = st.builds(
    Recipe,
    precision=st.sampled_from(["fp32", "bf16"]),
    max_length=st.sampled_from([128, 512, 2048]),
    global_batch=st.sampled_from([8, 20]),
)


def plan_with(models: list[dict[str, Any]], **training: Any) -> Any:
    recipe = {"global_batch": 20, "precision": "bf16", "max_length": 512, **training}
    return plan_of(spec_of(models=models, positive=[20], negative=[20], training=recipe))


def chosen(models: list[dict[str, Any]], cluster: str, **training: Any) -> dict[str, Runtime]:
    """The settings of each model's ladders, by the model's name."""
    plan = plan_with(models, **training)
    allocation = allocate(plan, INFO, parse_cluster(cluster))
    names = {ladder: kind.model for kind, ids in ladder_kinds(plan).items() for ladder in ids}
    assert set(allocation.runtimes) == {ladder.id for ladder in plan.ladders}
    return {names[ladder]: runtime for ladder, runtime in allocation.runtimes.items()}


AUTO = {"workers": 4, "zero_stage": "auto", "micro_batch": "auto"}


def test_auto_takes_what_each_model_needs() -> None:
    on = chosen([HALF, SEVEN], "1x8xA100", **AUTO)
    assert (on["half"].zero_stage, on["half"].micro_batch) == (0, 5), "20 rows over 4 workers"
    assert on["seven"].zero_stage in (2, 3) and on["seven"].micro_batch == 5
    small = chosen([HALF, SEVEN], "2x8xL40S", **AUTO, checkpointing=True)
    assert small["seven"].zero_stage == 3
    assert all(runtime.workers == 4 for runtime in small.values())


def test_a_model_may_have_settings_of_its_own() -> None:
    own = {**HALF, "runtime": {"zero_stage": 0, "micro_batch": 2}}
    on = chosen([own, SEVEN], "1x8xA100", workers=4, zero_stage=3, micro_batch=5)
    assert (on["half"].zero_stage, on["half"].micro_batch, on["half"].offload) == (0, 2, "none")
    assert (on["seven"].zero_stage, on["seven"].micro_batch) == (3, 5)
    twice = [own, {**HALF, "name": "again"}]
    with pytest.raises(SpecError, match=r"models\.1\.runtime: differs from that of models\.0"):
        chosen(twice, "1x8xA100", workers=4)
    with pytest.raises(ValueError, match=r"models\.0\.runtime\.zero_stage: found 0 with offload"):
        spec_of(models=[{**HALF, "runtime": {"offload": "optimizer"}}])


@pytest.mark.parametrize(
    ("cluster", "training", "advice"),
    [
        ("1x8xA100", {"workers": 4, "micro_batch": 5}, "checkpointing: true"),
        ("1x8xA100", {"workers": 2, "checkpointing": True, "micro_batch": 1}, "workers: 4, zero"),
        ("1x8xA100", {"workers": 1, "micro_batch": 5}, "workers: 4, zero_stage: 3"),
        ("1x1xA100", {"workers": 1, "micro_batch": 5}, "offload: optimizer, zero_stage: 2"),
        ("1x1xL40S", {"workers": 1, "micro_batch": 5}, "offload: optimizer, zero_stage: 3"),
        ("1x8xA100", {"workers": 1, "global_batch": 1}, "offload: optimizer, zero_stage: 2"),
        ("1x8xL40S", {"workers": 4, "zero_stage": 3, "micro_batch": 5}, "checkpointing: true"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_setting_that_does(
    cluster: str, training: dict[str, Any], advice: str
) -> None:
    """A fixed number of workers is checked, too, and the advised settings are then accepted."""
    [node] = parse_cluster(cluster)
    assert node.gpu is not None
    gib, gpus = node.gpu.memory, node.gpus
    [kind, *_] = kinds = ladder_kinds(plan_with([SEVEN], **training))
    with pytest.raises(SpecError) as error:
        settle_runtimes(kinds, training["workers"], gib, gpus)
    [line] = str(error.value).splitlines()
    assert re.match(r"training: seven needs about \d+ GiB of GPU memory on each of \d", line)
    assert re.search(rf"; {advice}.* would fit in \d+ GiB$", line), line
    changes = dict(part.split(": ") for part in line.split("; ")[1].split(" would")[0].split(", "))
    values = {
        name: {"true": True}.get(v, int(v) if v.isdigit() else v) for name, v in changes.items()
    }
    advised = ladder_kinds(plan_with([SEVEN], **{**training, **values}))
    workers = int({**training, **values}["workers"])
    assert settle_runtimes(advised, workers, gib, gpus)
    assert kind.model == "seven"


def test_lora_is_advised_where_nothing_else_fits() -> None:
    kinds = ladder_kinds(plan_with([SEVEN], workers=1, global_batch=1))
    for gib, advice in (
        (8.0, "no setting of training fits; take GPUs with more memory"),
        (23.0, r"lora: \{rank: 8\}.* would fit in"),
        (48.0, "offload: optimizer, zero_stage: 3.* would fit in"),
    ):
        with pytest.raises(SpecError, match=f"; {advice}"):
            settle_runtimes(kinds, 1, gib, 1)


def test_nothing_is_refused_where_the_memory_or_the_size_is_unknown() -> None:
    kinds = ladder_kinds(plan_with([SEVEN], **{**AUTO, "workers": 1}))
    [runtime] = set(settle_runtimes(kinds, 1, None, 0).values())
    assert (runtime.zero_stage, runtime.micro_batch) == (0, 8)
    unknown = {"name": "m", "hub": "some/model", "revision": COMMIT}
    kinds = ladder_kinds(plan_with([unknown], **{**AUTO, "offload": "optimizer"}))
    assert {r.zero_stage for r in settle_runtimes(kinds, 4, 1.0, 8).values()} == {1}


@given(SHAPES, RECIPES, st.integers(1, 8), st.floats(4, 200))
def test_what_auto_chooses_fits_and_is_refused_only_where_nothing_does(
    shape: ModelShape, recipe: Recipe, workers: int, gib: float
) -> None:
    kind = LadderKind("m", shape, recipe, Runtime(zero_stage="auto", micro_batch="auto"))
    least = kind.least_gib(workers)
    assert least is not None
    try:
        runtime = settle_runtimes({kind: ["ladder"]}, workers, gib, 8)["ladder"]
    except SpecError:
        assert least > FILLED * gib
        return
    assert training_memory(shape, recipe, runtime, workers).gib <= FILLED * gib
    for larger in kind.choices(workers):  # the preferred first
        if larger == runtime:
            break
        assert training_memory(shape, recipe, larger, workers).gib > FILLED * gib


@given(SHAPES, RECIPES, st.integers(1, 8), st.integers(1, 20))
def test_frugal_settings_take_less_memory(
    shape: ModelShape, recipe: Recipe, workers: int, micro_batch: int
) -> None:
    def gib(workers: int = workers, **changes: Any) -> float:
        runtime = Runtime(**{"micro_batch": micro_batch, "zero_stage": 2, **changes})
        return training_memory(shape, recipe, runtime, workers).gib

    assert gib(checkpointing=True) <= gib()
    assert gib(offload="optimizer") <= gib()
    assert gib(workers=workers + 1) <= gib()
    assert gib(micro_batch=micro_batch + 1) >= gib()
    tight = {"checkpointing": True, "micro_batch": 1}
    many = [gib(workers=16, zero_stage=stage, **tight) for stage in (1, 2, 3)]
    if shape.parameters > 3e9:
        assert many == sorted(many, reverse=True)


def test_shapes_of_known_and_unknown_models() -> None:
    counts = {r"qwen1\.5-7b": 7.72e9, "tinyllama": 1.10e9, "gemma-2b": 2.51e9}
    for pattern, count in counts.items():
        assert KNOWN[pattern].parameters == pytest.approx(count, rel=0.002)
    for pattern, shape in KNOWN.items():
        guess = interpolated(shape.parameters, pattern.replace("\\", ""))
        assert 0.6 < guess.hidden / shape.hidden < 1.5, pattern
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11_008}
    config |= {"num_attention_heads": 32, "vocab_size": 151_936}
    assert of_config(config) == KNOWN[r"qwen1\.5-7b"]
    assert of_config({"n_embd": 768}) is None


def test_a_folders_configuration_is_its_shape(tmp_path: Path) -> None:
    config = {"hidden_size": 512, "num_hidden_layers": 3, "intermediate_size": 1024}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000}
    folder = tmp_path / "llama-2-7b"  # its name says something else
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shape = shape_of(Model(name="m", path=str(folder)), None)
    assert shape is not None
    assert (shape.hidden, shape.layers, shape.key_values, shape.vocabulary) == (512, 3, 128, 1000)
    (folder / "config.json").write_text("{")
    assert (
        shape_of(Model(name="m", path=str(folder)), None)
        == KNOWN[r"llama-?2-7b|alpaca-7b|beaver-7b|vicuna-7b"]
    )

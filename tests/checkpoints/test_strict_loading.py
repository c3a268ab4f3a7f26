"""A model is the one that its files hold: nothing is filled up, nothing is dropped.

Each kind of damage is refused with the first tensors and a remedy, from the headers as from the
files themselves; what the architecture declares as tied or ignorable is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")
from architectures import ARCHITECTURES, write_model
from safetensors.torch import load_file, save_file

from elastic_ray.checkpoints.adapter import load_adapter
from elastic_ray.checkpoints.architecture import check_files, check_finite, load_model
from elastic_ray.checkpoints.files import CheckpointError
from elastic_ray.checkpoints.model_check import LocalModel, check_all, problem
from elastic_ray.checkpoints.model_files import stored_parameters
from elastic_ray.tasks.registry import load_task

Tensors = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tokenizer = load_task("reviews").tokenizer(None)
    for name in ARCHITECTURES:
        write_model(root / name, name, tokenizer, seed=0)
    return root


def copy_of(source: Path, into: Path, change: Callable[[Tensors], Tensors] | None = None) -> Path:
    """Copy a model's folder, with its tensors changed."""
    shutil.copytree(source, into)
    if change is not None:
        file = into / "model.safetensors"
        save_file(change(load_file(file)), file, {"format": "pt"})
    return into


def renamed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: t for n, t in tensors.items() if part not in n}


def plus(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: torch.zeros(shape)}


AS_MODEL: tuple[Literal["language"], str] = ("language", "float32")
REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "compiled": (renamed("_orig_mod."), r"_orig_mod\.lm_head.*torch.compile.*rename"),
    "wrapped": (renamed("module."), r"module\.lm_head.*DDP.*rename"),
    "peft": (renamed("base_model.model."), "peft"),
    "no output layer": (without("lm_head"), "missing: lm_head.weight; the output layer"),
    "no query matrix": (without("1.self_attn.q_proj"), "missing: model.layers.1.self_attn.q_proj"),
    "no embedding": (without("embed_tokens"), "missing: model.embed_tokens.weight"),
    "one layer more": (plus("model.layers.2.mlp.up_proj.weight", 3, 3), "unexpected: model.lay"),
    "a second head": (plus("score.weight", 2, 64), "unexpected: score.weight.*another head"),
    "another shape": (plus("model.norm.weight", 3), r"model.norm.weight \[3\] \(asked: \[64\]\)"),
    "not merged": (plus("model.layers.0.self_attn.q_proj.lora_A.weight", 2, 2), "merge_and_unload"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_tensors_that_do_not_fit_are_refused_by_name(
    models: Path, tmp_path: Path, what: str
) -> None:
    change, expected = REFUSED[what]
    folder = copy_of(models / "llama", tmp_path / "changed", change)
    with pytest.raises(CheckpointError, match=expected) as by_header:
        check_files(folder, "language")
    with pytest.raises(CheckpointError) as by_loading:
        load_model(folder, "language", "float32")
    assert str(by_header.value) == str(by_loading.value)
    assert "\n" not in str(by_header.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_without_their_scale_are_refused(
    models: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """As numbers they would be read, but they are not the model's."""
    narrow = copy_of(
        models / "llama",
        tmp_path / "narrow",
        lambda tensors: {**tensors, "lm_head.weight": tensors["lm_head.weight"].to(dtype)},
    )
    for load in (lambda: check_files(narrow, "language"), lambda: load_model(narrow, *AS_MODEL)):
        with pytest.raises(CheckpointError, match=r"lm_head.weight is stored as [IF]8.* scale"):
            load()


def test_weights_that_are_not_finite_are_refused(models: Path, tmp_path: Path) -> None:
    """A greedy answer of such a model is always the same token, without any error."""
    for name, value in (("nan", float("nan")), ("infinite", float("inf"))):
        head = load_file(models / "llama" / "model.safetensors")["lm_head.weight"]
        head[3, 5] = value
        broken = copy_of(
            models / "llama", tmp_path / name, lambda t, h=head: {**t, "lm_head.weight": h}
        )
        with pytest.raises(CheckpointError, match=r"lm_head.weight holds values that are NaN"):
            load_model(broken, *AS_MODEL)
        with pytest.raises(CheckpointError, match=r"lm_head.weight holds values that are NaN"):
            check_finite(broken)
    check_finite(models / "gpt2")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_sound_model_is_read_as_transformers_reads_it(models: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = models / name
    own = load_model(folder, "language", "float32")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    for (one, held), (other, expected) in zip(
        own.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert one == other and torch.equal(held, expected), one
    assert own.config.to_dict() == plain.config.to_dict()
    assert own.generation_config.to_dict() == plain.generation_config.to_dict()
    parameters = sum(p.numel() for p in plain.parameters())
    assert check_files(folder, "language").parameters == parameters
    assert stored_parameters(folder) == parameters


def test_gemma_2_caps_its_attention(models: Path) -> None:
    """transformers' default kernel computes another function than the model's, and vLLM's."""
    from transformers import AutoModelForCausalLM

    folder, ids = models / "gemma2", torch.arange(5, 60)[None]
    own = load_model(folder, "language", "float32")
    right, fused = (
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation=kind).eval()
        for kind in ("eager", "sdpa")
    )
    with torch.inference_mode():
        assert torch.equal(own(ids).logits, right(ids).logits)
        assert not torch.allclose(own(ids).logits, fused(ids).logits, rtol=0, atol=1e-4)


def test_stored_copies_of_tied_tensors_are_read_if_they_are_equal(
    models: Path, tmp_path: Path
) -> None:
    def copied(tensors: Tensors) -> Tensors:
        return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}

    def changed(tensors: Tensors) -> Tensors:
        return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}

    own = check_files(models / "qwen2.5", "language").parameters
    folder = copy_of(models / "qwen2.5", tmp_path / "equal", copied)
    assert check_files(folder, "language").parameters == own == stored_parameters(folder)
    loaded = load_model(folder, "language", "float32")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    folder = copy_of(models / "qwen2.5", tmp_path / "different", changed)
    for read in (check_files, lambda *of: load_model(*of, "float32")):
        with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from"):
            read(folder, "language")


def test_tensors_of_old_checkpoints_that_are_no_weights_are_ignored(
    models: Path, tmp_path: Path
) -> None:
    masks = plus("h.0.attn.bias", 1, 1, 8, 8)
    folder = copy_of(models / "gpt2", tmp_path / "gpt2", lambda t: masks(t))
    assert check_files(folder, "language").parameters == stored_parameters(folder)
    frequencies = plus("model.layers.0.self_attn.rotary_emb.inv_freq", 16)
    folder = copy_of(models / "llama", tmp_path / "llama", frequencies)
    assert check_files(folder, "language").parameters == stored_parameters(folder)


def test_other_files_of_the_folder_do_not_matter(models: Path, tmp_path: Path) -> None:
    """A consolidated copy is no second model, a left-over adapter file no adapter."""
    folder = copy_of(models / "llama", tmp_path / "full")
    tensors = load_file(folder / "model.safetensors")
    save_file(renamed("other.")(tensors), folder / "consolidated.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    parameters = check_files(models / "llama", "language").parameters
    assert stored_parameters(folder) == parameters
    loaded = load_model(folder, "language", "float32")
    assert sum(p.numel() for p in loaded.parameters()) == parameters
    assert not any("lora" in name for name, _ in loaded.named_parameters())


def test_folders_without_weights_that_can_be_read_are_refused(models: Path, tmp_path: Path) -> None:
    def moved(name: str) -> Path:
        folder = copy_of(models / "llama", tmp_path / name)
        (folder / "model.safetensors").rename(folder / name)
        return folder

    for name, expected in {
        "pytorch_model.bin": "pytorch_model.bin, and reading other formats may run code; convert",
        "adapter_model.safetensors": "holds an adapter .* merge it",
        "weights.safetensors": "found weights.safetensors, which transformers does not load",
    }.items():
        with pytest.raises(CheckpointError, match=expected):
            check_files(moved(name), "language")
    folder = copy_of(models / "llama", tmp_path / "truncated")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or incomplete: its header describes"):
        check_files(folder, "language")
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        check_files(folder, "language")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    file.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names model-00001-of-00002.* missing \(1 of 1"):
        check_files(folder, "language")


def test_configurations_that_cannot_be_trained_are_refused(models: Path, tmp_path: Path) -> None:
    for i, (changes, expected) in enumerate(
        (
            ({"model_type": "unheard-of"}, "'unheard-of' is not known to transformers"),
            ({"quantization_config": {"quant_method": "gptq"}}, "quantized .gptq."),
            ({"model_type": "t5"}, "t5"),
            ({"model_type": "bert"}, "encoder|do not fit|cannot"),
            ({"num_hidden_layers": 3}, "missing: model.layers.2"),
            ({"vocab_size": 7}, "of another shape"),
        )
    ):
        folder = copy_of(models / "llama", tmp_path / str(i))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(CheckpointError, match=expected):
            check_files(folder, "language")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        check_files(folder, "language")


def test_a_scorer_without_its_head_is_refused(models: Path) -> None:
    found = problem(LocalModel(str(models / "llama"), is_scorer=True))
    assert found is not None and "missing: score.weight" in found and "\n" not in found
    assert "classification head is missing" in found or "unexpected: lm_head" in found


def test_generation_settings_are_saved_or_refused(models: Path, tmp_path: Path) -> None:
    """Published models set a temperature without `do_sample`, which transformers does not save."""
    folder = copy_of(models / "llama", tmp_path / "sampling")
    settings = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": [1, 2]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert problem(LocalModel(str(folder))) is None
    model = load_model(folder, "language", "float32")
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [1, 2] and saved["temperature"] == 0.9
    (folder / "generation_config.json").write_text('{"max_new_tokens": -1}')
    found = problem(LocalModel(str(folder)))
    assert found is not None and "generation_config.json: cannot be saved" in found


def test_tokenizers_and_adapted_modules_are_those_of_the_model(
    models: Path, tmp_path: Path
) -> None:
    llama = str(models / "llama")
    assert problem(LocalModel(llama, adapted=("q_proj", "v_proj"))) is None
    found = problem(LocalModel(llama, adapted=("q_proj", "query_key_value")))
    assert found is not None and "has no query_key_value; it has" in found and "q_proj" in found
    folder = copy_of(models / "llama", tmp_path / "small")
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:50].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    found = problem(LocalModel(str(folder)))
    assert found is not None and "the model has 50 embeddings" in found
    folder = copy_of(models / "llama", tmp_path / "none")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    found = problem(LocalModel(str(folder)))
    assert found is not None and "its tokenizer cannot be loaded" in found


def test_names_that_only_transformers_understands_are_refused_for_vllm(
    models: Path, tmp_path: Path
) -> None:
    """A body that was saved alone, and tied embeddings under the name of the output layer."""
    body = copy_of(
        models / "qwen2.5",
        tmp_path / "body",
        lambda tensors: {n.removeprefix("model."): t for n, t in tensors.items()},
    )
    output = copy_of(
        models / "qwen2.5",
        tmp_path / "output",
        lambda tensors: {n.replace("model.embed_tokens", "lm_head"): t for n, t in tensors.items()},
    )
    for folder, expected in ((body, "should be model."), (output, "stored as lm_head.weight")):
        assert problem(LocalModel(str(folder), vllm=False)) is None
        found = problem(LocalModel(str(folder), vllm=True))
        assert found is not None and expected in found
        loaded, plain = (load_model(f, "language", "float32") for f in (folder, models / "qwen2.5"))
        for one, other in zip(loaded.parameters(), plain.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("named", [["LlamaForSequenceClassification"], ["LlamaModel"], [], None])
def test_an_architecture_that_vllm_would_misread_is_refused(
    models: Path, tmp_path: Path, named: list[str] | None
) -> None:
    """transformers is told what to load; vLLM reads it in `config.json`."""
    folder = copy_of(models / "llama", tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": named}))
    assert problem(LocalModel(str(folder), vllm=False)) is None
    found = problem(LocalModel(str(folder), vllm=True))
    assert found is not None and "should be LlamaForCausalLM" in found


def test_all_models_of_a_sweep_are_checked_in_one_process(models: Path, tmp_path: Path) -> None:
    bad = copy_of(models / "llama", tmp_path / "bad", renamed("module."))
    folders = (models / "llama", bad, models / "gpt2")
    found = check_all([LocalModel(str(folder)) for folder in folders])
    assert found is not None and [each is None for each in found] == [True, False, True]


def test_an_adapter_fits_its_model_exactly(models: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = load_model(models / "llama", "language", "float32")
    shape = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    peft.get_peft_model(base, shape).save_pretrained(tmp_path / "adapter")
    adapted = load_adapter(
        load_model(models / "llama", "language", "float32"), tmp_path / "adapter"
    )
    assert not adapted.training
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    for change in (without(first), plus("base_model.model.extra.lora_A.weight", 2, 2)):
        save_file(change(tensors), file, {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"(missing|unexpected): base_model"):
            load_adapter(load_model(models / "llama", "language", "float32"), tmp_path / "adapter")

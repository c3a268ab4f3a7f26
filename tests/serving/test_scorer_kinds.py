"""Scores of every kind of classifier equal a plain forward pass of transformers, text by text.

The expected values are made here from a text alone, as a pipeline of transformers would: they share
no code with what is tested.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the training extra is not installed")

import stand_ins
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from elastic_ray.serving.engines.context import AFTER_PADDING, position_limit
from elastic_ray.serving.engines.scores import ScoreRule
from elastic_ray.serving.engines.transformers_scorer import TransformersScorer
from elastic_ray.serving.errors import EngineError
from elastic_ray.serving.types import Conversation, Score, ScorerConfig

torch.set_num_threads(1)  # the models are tiny
LONGEST = 40
THREE = ("negative", "neutral", "positive")
MULTI, REGRESSION = "multi_label_classification", "regression"
TEXTS = [
    "one",
    "two words",
    *("the film is good and the acting is never dull . " * n for n in (1, 2, 3, 9)),
    "a bad film </s>",
    "",
]
KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "three classes": ("roberta", THREE, {"type_vocab_size": 1}),
    "labels apart": ("roberta", THREE, {"type_vocab_size": 1, "problem_type": MULTI}),
    "two values": ("bert", ("x", "y"), {"problem_type": REGRESSION}),
    "a reward": ("llama", ("r",), {"num_key_value_heads": 2}),
    "no padding": ("qwen2", THREE, {"num_key_value_heads": 2, "padding": False}),
    "one, no padding": ("llama", ("r",), {"num_key_value_heads": 2, "padding": False}),
    "absolute positions": ("gpt2", THREE, {}),
}


def folder_of(kind: str, root: Path) -> Path:
    family, labels, more = KINDS[kind]
    folder = root / kind.replace(" ", "-").replace(",", "")
    return folder if folder.exists() else stand_ins.classifier(folder, family, labels, **more)


def config_of(folder: Path, label: int | str | None = None, mode: str = "mean") -> ScorerConfig:
    return ScorerConfig("s", "transformers", str(folder), None, mode, label, max_model_len=LONGEST)


def reference(folder: Path, label: int, mode: str) -> list[float]:
    """Scores by transformers alone, a text at a time, without padding."""
    known = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text in TEXTS[:-1]:
        batch = known(text, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.inference_mode():
            raw = model(input_ids=batch.input_ids).logits[0]
        single = model.config.num_labels == 1 or model.config.problem_type == REGRESSION
        apart = model.config.problem_type == MULTI
        values = raw if single else raw.sigmoid() if apart else raw.softmax(-1)
        found.append(float(values[label] if mode == "mean" else values.argmax() == label))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_classifier_equals_a_plain_forward_pass(kind: str, root: Path) -> None:
    """In a batch of texts of all lengths, each as it is alone."""
    folder, labels = folder_of(kind, root), KINDS[kind][1]
    apart = "problem_type" in KINDS[kind][2] or len(labels) == 1
    for mode, label in [("mean", len(labels) - 1)] if apart else [("mean", 0), ("share", 1)]:
        scorer = TransformersScorer(config_of(folder, labels[label], mode))
        scores = asyncio.run(scorer.score(TEXTS[:-1]))
        assert [s.score for s in scores] == pytest.approx(reference(folder, label, mode), abs=1e-4)
        raw = len(labels) == 1 or KINDS[kind][2].get("problem_type") == REGRESSION
        assert {s.probability is None for s in scores} == {raw}
    assert len(set(reference(folder, 0, "mean"))) > 3, "scores differ"


def test_an_empty_text_has_a_score_or_is_refused(root: Path) -> None:
    ended = TransformersScorer(config_of(folder_of("three classes", root), "neutral"))
    assert len(asyncio.run(ended.score([""]))) == 1
    bare = TransformersScorer(config_of(folder_of("no padding", root), "neutral"))
    with pytest.raises(EngineError, match="a text has no tokens"):
        asyncio.run(bare.score(["good", ""]))


@pytest.mark.parametrize(
    ("label", "mode", "message"),
    [
        (None, "share", "label: missing"),
        (7, "mean", "label: found 7"),
        ("good", "mean", "label: found 'good'"),
    ],
)
def test_a_wrong_label_is_refused_at_the_start(
    label: Any, mode: str, message: str, root: Path
) -> None:
    with pytest.raises(EngineError, match=message):
        TransformersScorer(config_of(folder_of("three classes", root), label, mode))


def test_outputs_that_the_configuration_does_not_name_are_refused(root: Path) -> None:
    rule = ScoreRule(
        config_of(folder_of("three classes", root), "neutral"), str(root / "three-classes")
    )
    with pytest.raises(EngineError, match="the model has 2 outputs"):
        rule.score([0.0, 1.0])
    with pytest.raises(EngineError, match="not finite"):
        rule.score([0.0, float("nan"), 1.0])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
    st.integers(0, 2),
    st.sampled_from(["mean", "share"]),
    st.sampled_from([None, MULTI, REGRESSION]),
)
def test_scores_are_those_of_torch(
    root: Path, raw: list[float], label: int, mode: str, problem: str | None
) -> None:
    folder = root / f"rule-{problem}"
    folder.mkdir(exist_ok=True)
    written = {"id2label": dict(enumerate(THREE)), "problem_type": problem}
    (folder / "config.json").write_text(json.dumps(written))
    try:
        found = ScoreRule(config_of(folder, label, mode), str(folder)).score(raw)
    except EngineError as e:
        assert mode == "share" and problem is not None and "use mode: mean" in str(e)
        return
    values = torch.tensor(raw, dtype=torch.float64)
    if problem is None:
        probabilities = values.softmax(-1)
        likeliest = float(values[label] == values.max())
        wanted = probabilities[label].item() if mode == "mean" else likeliest
        assert found == Score(pytest.approx(wanted), pytest.approx(probabilities[label].item()))
    elif problem == MULTI:
        assert found.score == pytest.approx(values.sigmoid()[label].item())
    else:
        assert found == Score(raw[label], None)


@pytest.mark.parametrize(
    ("kind", "fields", "limit"),
    [
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("xlm-roberta", {"max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ("mpnet", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("bert", {"max_position_embeddings": 512}, 512),
        ("gpt2", {"n_positions": 99}, 99),
        ("opt", {"max_position_embeddings": 64}, 64),
        ("bloom", {}, None),
        ("xlnet", {}, None),
    ],
)
def test_the_position_limit_is_the_models_own(
    kind: str, fields: dict[str, Any], limit: int | None
) -> None:
    assert position_limit(AutoConfig.for_model(kind, **fields)) == limit


@pytest.mark.parametrize(
    "kind",
    sorted({*AFTER_PADDING, "bert", "gpt2", "opt"} - {"luke", "markuplm", "xmod", "lilt", "ibert"}),
)
def test_a_text_of_the_position_limit_can_be_read_and_no_longer_one(kind: str) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    small |= {"word_embed_proj_dim": 16, "ffn_dim": 16, "intermediate_size": 16}
    config = AutoConfig.for_model(kind, **small, max_position_embeddings=20, pad_token_id=1)
    if kind == "longformer":
        config.attention_window = [4]
    model = AutoModelForSequenceClassification.from_config(config).eval()
    limit = position_limit(config)
    assert limit is not None
    with torch.inference_mode():
        model(input_ids=torch.full((1, limit), 5), attention_mask=torch.ones(1, limit).long())
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            longer = torch.full((1, limit + 1), 5)
            model(input_ids=longer, attention_mask=torch.ones_like(longer))


def test_conversations_go_through_the_chat_template(root: Path) -> None:
    folder = stand_ins.classifier(
        root / "chat", "llama", ("r",), padding=False, num_key_value_heads=2
    )
    known = AutoTokenizer.from_pretrained(folder)
    known.chat_template = "{% for m in messages %}<s> {{ m.role }}: {{ m.content }}\n{% endfor %}"
    known.save_pretrained(folder)
    chat = ScorerConfig("s", "transformers", str(folder), None, "mean", chat=True)
    said = [Conversation("do you like it ?", "yes"), Conversation("why ?", "it is good and long")]
    scores = asyncio.run(TransformersScorer(chat).score(said))
    plain = ScorerConfig("s", "transformers", str(folder), None, "mean")
    texts = [f"<s> user: {c.question}\n<s> assistant: {c.answer}\n" for c in said]
    assert scores == asyncio.run(TransformersScorer(plain).score(texts))
    with pytest.raises(EngineError, match="it reads conversations"):
        asyncio.run(TransformersScorer(chat).score(["a text"]))

"""Compression by a model's probabilities is lossless, and as short as the code length."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from transformers import AutoModelForCausalLM

from elastic_ray.checkpoints.files import checkpoint_checksum
from elastic_ray.results.store import Results
from elastic_ray.serving.engines.next_token import Predictor
from elastic_ray.serving.engines.transformers_engine import TransformersEngine
from elastic_ray.serving.types import CodedText, EngineConfig, Weights
from elastic_ray.spec import Init
from elastic_ray.tasks.registry import load_task
from elastic_ray.tasks.tokenizers import byte_pair_tokenizer
from elastic_ray.theory import CodingError
from elastic_ray.theory.__main__ import main
from elastic_ray.theory.compressor import compress, decompress, split_text
from elastic_ray.training.start_states import model_config

REVIEWS = [e.response for e in load_task("reviews").texts("pretrain", 40)]
STATES = ("words", "bytes")
POSITIONS = 32


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Two recorded states with random weights: tokens of one are words, of the other bytes."""
    found = Results(tmp_path_factory.mktemp("compress") / "results")
    tokenizers = (load_task("reviews").tokenizer(None), byte_pair_tokenizer(REVIEWS, 320))
    for name, tokenizer in zip(STATES, tokenizers, strict=True):
        shape = model_config(Init(hidden_size=32, layers=1, positions=POSITIONS), tokenizer)
        shape.initializer_range = 0.3
        torch.manual_seed(0)
        place = found.location(found.checkpoint_name(name))
        AutoModelForCausalLM.from_config(shape).save_pretrained(place)
        tokenizer.save_pretrained(place)
        row = {"state_id": name, "kind": "start", "status": "done",
               "checkpoint": found.checkpoint_name(name),
               "checksum": checkpoint_checksum(place)}  # fmt: skip
        found.write("states", [row])
    gone = {"state_id": "gone", "kind": "start", "status": "done", "checkpoint": None}
    found.write("states", [gone])
    threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(results: Results) -> dict[str, Predictor]:
    return {name: Predictor(results, name) for name in STATES}


WORDS = sorted({word for text in REVIEWS for word in text.split()})
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x1F), max_size=12),
    st.text("\U0001f600\U0001f3fd\u200d\u2764\ufe0fe\u0301 ", max_size=8),
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.lists(st.sampled_from([*WORDS, "<eos>", "<bos>", "\n", "  ", "é"]), max_size=12).map(
        "".join
    ),
    st.lists(st.sampled_from([*WORDS, "<unk>", "\n\n", "Film", "?"]), max_size=10).map(" ".join),
)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_every_text_is_restored(models: dict[str, Predictor], state: str) -> None:
    model = models[state]
    seen = 0

    @settings(max_examples=600, database=None)
    @given(TEXTS)
    def is_restored(text: str) -> None:
        nonlocal seen
        seen += 1
        data = text.encode()
        made = compress(data, model)
        assert decompress(made.code, model) == data
        assert len(made.code) <= made.bits / 8 * 1.001 + 16

    is_restored()
    assert seen >= 600, "over two states this is more than a thousand texts"


LONG = (
    "",
    " ".join(REVIEWS[:3]),
    "\n".join(REVIEWS[:2]) + "\n",
    "\0" * 300,
    "".join(map(chr, range(0x20, 0x180))),
    "\U0001f600" * 40,
    "a" * 100,
)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_texts_longer_than_the_context_are_restored(
    models: dict[str, Predictor], state: str, text: str
) -> None:
    made = compress(text.encode(), models[state])
    assert decompress(made.code, models[state]).decode() == text


@pytest.mark.parametrize("state", STATES)
def test_compressed_size_equals_the_measured_code_length(
    results: Results, models: dict[str, Predictor], state: str
) -> None:
    """Within 0.1% and 16 bytes, for texts that tokens restore, with the probe's windows."""
    place = results.location(results.checkpoint_name(state))
    texts = [*REVIEWS[:20], " ".join(REVIEWS[:4])]
    config = EngineConfig("plain", "transformers", place, None, state, "float32", POSITIONS + 1)

    async def measure() -> list[float]:
        engine = TransformersEngine(config)
        engine._tokens.context = (
            POSITIONS + 1
        )  # one token past the window; this engine never reads it
        weights = Weights(state, place, None, checkpoint_checksum(place))
        await engine.load_weights(weights)
        coded = [CodedText("", text) for text in texts]
        return [m.bits for m in await engine.code_lengths(weights, coded, models[state].window)]

    for text, bits in zip(texts, asyncio.run(measure()), strict=True):
        size = len(compress(text.encode(), models[state]).code)
        assert abs(size - bits / 8) <= 0.001 * bits / 8 + 16


def test_text_that_tokens_do_not_restore_is_coded_as_bytes(models: dict[str, Predictor]) -> None:
    known = models["words"].encode("the film is good")
    assert known is not None
    found = list(split_text("the film is good\nthe film is good", models["words"]))
    assert found == [known, b"\n", known]
    assert list(split_text("ÜÄ ü", models["words"])) == ["ÜÄ ü".encode()]
    assert list(split_text("", models["words"])) == []


def test_another_state_or_a_damaged_code_is_an_error(models: dict[str, Predictor]) -> None:
    made = compress(REVIEWS[0].encode(), models["words"])
    with pytest.raises(CodingError, match="another state"):
        decompress(made.code, models["bytes"])
    for place in (3, len(made.code) // 2, len(made.code) - 1):
        damaged = bytearray(made.code)
        damaged[place] ^= 0x10
        with pytest.raises(CodingError):
            decompress(bytes(damaged), models["words"])
    with pytest.raises(CodingError, match="not made by compress"):
        decompress(b"text", models["words"])
    with pytest.raises(CodingError, match="the input is not UTF-8 text: byte 1 is 0xff"):
        compress(b"a\xff", models["words"])


def test_compress_and_decompress_commands(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("the film is good .\n\U0001f600 and the plot kept me smiling .\n")
    common = ["--state", "words", "--results", results.uri]
    assert main(["compress", str(text), "-o", str(tmp_path / "code"), *common]) == 0
    size = (tmp_path / "code").stat().st_size
    assert f"written {size} bytes" in capsys.readouterr().out
    assert (
        main(["decompress", str(tmp_path / "code"), "-o", str(tmp_path / "restored"), *common]) == 0
    )
    assert (tmp_path / "restored").read_bytes() == text.read_bytes()
    for arguments, message in (
        (["--state", "nil", "--results", results.uri], "no state nil is recorded in"),
        (["--state", "gone", "--results", results.uri], "its checkpoint was deleted"),
        (["--state", "words", "--results", str(tmp_path / "no")], "no such results folder"),
    ):
        assert main(["compress", str(text), "-o", str(tmp_path / "code"), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error

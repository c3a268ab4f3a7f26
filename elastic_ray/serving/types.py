"""What engines and scorers are asked and what they answer; plain values, cheap to import."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class EngineConfig:
    """An engine of one architecture, tokenizer and precision, and the weights it starts with."""

    name: str
    kind: str
    """"vllm", "transformers", or "auto": vLLM where it can be imported."""
    checkpoint: str
    revision: str | None
    state_id: str
    dtype: str
    max_model_len: int
    max_lora_rank: int | None = None
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    tensor_parallel: int = 1
    kv_cache_gib: float = 1.0
    gpu_memory_utilization: float = 0.85
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Weights:
    """A state's weights: a folder or hub id, and the checksum on record.

    For a LoRA state `adapter` is its folder, and the rest are the full weights below it, those of
    `base_state`.
    """

    state_id: str
    checkpoint: str
    revision: str | None = None
    checksum: str | None = None
    adapter: str | None = None
    base_state: str | None = None

    @property
    def held(self) -> str:
        """The state whose full weights an engine must hold."""
        return self.base_state or self.state_id


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; `temperature` 0 is greedy, `top_k` 0 all tokens."""

    samples: int
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int

    def request_seed(self, prompt_index: int, sample: int) -> int:
        """The seed of one answer: the same for every state, so that states differ by weights
        alone (common random numbers)."""
        text = f"{self.seed}/{prompt_index}/{sample}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


@dataclass(frozen=True)
class Answer:
    """One answer. `held_state` is what the engine says it held when it answered."""

    prompt_index: int
    sample: int
    prompt: str
    response: str
    tokens: int
    finish_reason: str
    held_state: str
    seed: int
    engine: str


@dataclass(frozen=True)
class CodedText:
    """A text whose code length is measured; `prompt`, which may be empty, is given, not coded."""

    prompt: str
    response: str


@dataclass(frozen=True)
class CodeLengthResult:
    """A state's code length of a text: `bits` of its response's `tokens`, its end among them.

    `bytes` are those of the response in UTF-8. `held_state` is as in `Answer`.
    """

    bits: float
    tokens: int
    bytes: int
    held_state: str


@dataclass(frozen=True)
class DistanceResult:
    """How far a state's next tokens are from a reference's on one of that one's answers.

    `distances` in nats by `distances.METRICS`, the mean over `tokens` places. `held_state` and
    `reference` are the two states, as the engine says.
    """

    prompt_index: int
    sample: int
    distances: dict[str, float]
    tokens: int
    held_state: str
    reference: str


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What a replica gave, and the seconds it worked for it; time spent waiting is left out."""

    items: list[T]
    seconds: float
    swap_seconds: float = 0.0
    """Seconds of taking other weights first."""
    swaps: int = 0
    """How often that was."""


def merge_replies(replies: Sequence[Reply[T]]) -> Reply[T]:
    """The replies to the parts of one request, as one."""
    return Reply(
        [item for reply in replies for item in reply.items],
        sum(reply.seconds for reply in replies),
        sum(reply.swap_seconds for reply in replies),
        sum(reply.swaps for reply in replies),
    )


@dataclass(frozen=True)
class ScorerConfig:
    """A sequence classifier and how its output becomes a score."""

    name: str
    kind: str
    checkpoint: str
    revision: str | None
    mode: str
    """"share": 1 where class `label` is the likeliest, else 0; "mean": the raw value times `sign`
    of a one-output model, or the probability of `label`."""
    label: int = 1
    sign: int = 1
    max_model_len: int = 512
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    gpu_memory_utilization: float = 0.85
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Score:
    """An answer's score, larger is more aligned; the probability of the aligned class if any."""

    score: float
    probability: float | None


def to_score(outputs: list[float], config: ScorerConfig) -> Score:
    """The score of a text from the classifier's probabilities, or its one raw value."""
    if len(outputs) == 1:
        raw = outputs[0]
        if config.mode == "share":
            return Score(float(config.sign * raw > 0), None)
        return Score(config.sign * raw, None)
    if config.label >= len(outputs):
        raise EngineError(
            f"scorer {config.name}: label {config.label}, but it has {len(outputs)} classes"
        )
    probability = outputs[config.label]
    if config.mode == "share":
        return Score(float(probability == max(outputs)), probability)
    return Score(config.sign * probability, probability)

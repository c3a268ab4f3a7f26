"""Requests to engines and scorers, and their results: plain values that are cheap to import."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class EngineConfig:
    """One engine group: its architecture, tokenizer and precision, the weights it starts with, and
    the resources of each replica."""

    name: str
    kind: str
    """"vllm", "transformers", or "auto": vLLM where it can be imported."""
    checkpoint: str
    """Folder, URI or hub id (then with `revision`) of the first full weights."""
    revision: str | None
    state_id: str
    dtype: str
    max_model_len: int
    """Upper limit of the context (tokens); the model's own positions may allow less."""
    max_lora_rank: int | None = None
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    tensor_parallel: int = 1
    kv_cache_gib: float = 1.0
    gpu_memory_utilization: float = 0.85
    trust_remote_code: bool = False
    deterministic: bool = False
    """Whether answers must not depend on the batch that they are computed in."""


@dataclass(frozen=True)
class Weights:
    """Where a state's weights are: a folder, URI or hub id, and the recorded checksum.

    For a LoRA state `adapter` is the folder of its adapter, and the other fields describe the full
    weights below it, which are those of the state `base_state`.
    """

    state_id: str
    checkpoint: str
    revision: str | None = None
    checksum: str | None = None
    adapter: str | None = None
    base_state: str | None = None

    @property
    def full_state_id(self) -> str:
        """Id of the state whose full weights an engine must hold: the base of an adapter."""
        return self.base_state or self.state_id


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled. `temperature` 0 is greedy; `top_k` 0 means all tokens."""

    samples: int
    """Answers per prompt."""
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int

    def request_seed(self, prompt_index: int, sample: int) -> int:
        """Return the seed of one answer, from 0 to 2^31 - 1.

        It is the same for every state, so that states differ by their weights alone (common random
        numbers).
        """
        text = f"{self.seed}/{prompt_index}/{sample}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt, as it is recorded."""

    prompt_index: int
    sample: int
    prompt: str
    response: str
    tokens: int
    finish_reason: str
    """"stop" where the model ended the answer, "length" where it was cut."""
    held_state: str
    """Id of the state that the engine held when it answered, as the engine reports it."""
    seed: int
    engine: str
    """Name and version of the engine."""


@dataclass(frozen=True)
class CodedText:
    """A text whose code length is computed: `response`, given `prompt`, which may be empty."""

    prompt: str
    response: str


@dataclass(frozen=True)
class CodeLengthResult:
    """A state's code length of one text."""

    bits: float
    tokens: int
    """Tokens of the response, including the end token."""
    bytes: int
    """Length of the response in UTF-8."""
    held_state: str
    """As in `Answer`."""


@dataclass(frozen=True)
class DistanceResult:
    """Distances between the next-token distributions of a state and a reference state, on one
    answer of the reference."""

    prompt_index: int
    sample: int
    distances: dict[str, float]
    """Metric (one of `engines.distances.METRICS`) -> mean over the positions of the answer."""
    tokens: int
    """Number of positions compared."""
    held_state: str
    """As in `Answer`."""
    reference: str
    """Id of the reference state, as the engine reports it."""


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What a replica returned, and the time it took without waiting."""

    items: list[T]
    seconds: float
    """Time spent on the request itself."""
    swap_seconds: float = 0.0
    """Time spent on loading other weights first."""
    swaps: int = 0
    """Number of times that other weights were loaded."""


def merge_replies(replies: Sequence[Reply[T]]) -> Reply[T]:
    """Return the replies to the parts of one request as one reply, in their order."""
    return Reply(
        [item for reply in replies for item in reply.items],
        sum(reply.seconds for reply in replies),
        sum(reply.swap_seconds for reply in replies),
        sum(reply.swaps for reply in replies),
    )


@dataclass(frozen=True)
class ScorerConfig:
    """A sequence classifier, how its output becomes a score, and the resources of each replica."""

    name: str
    kind: str
    """As in `EngineConfig`."""
    checkpoint: str
    revision: str | None
    mode: str
    """"share": 1 where class `label` is the likeliest, else 0; of a model with one output, 1 where
    `sign` times the raw value is above 0. "mean": `sign` times the probability of `label`, or
    times the raw value where the outputs are no probabilities."""
    label: int | str | None = None
    """Number or name of the output that is scored; None where it is certain (see
    `checkpoints.classifier.scored_output`)."""
    sign: int = 1
    max_model_len: int = 512
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    gpu_memory_utilization: float = 0.85
    trust_remote_code: bool = False
    chat: bool = False
    """Whether texts are conversations, for the chat template of its tokenizer."""


@dataclass(frozen=True)
class Conversation:
    """A question and its answer, for a scorer that reads them through a chat template."""

    question: str
    answer: str


ScoredText = str | Conversation
"""What a scorer reads: a text, or with `ScorerConfig.chat` a conversation."""


@dataclass(frozen=True)
class Score:
    """An answer's score."""

    score: float
    """Larger is more aligned."""
    probability: float | None
    """Probability of the aligned class; None where the outputs are no probabilities."""

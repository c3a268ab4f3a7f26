"""Schema of `models`: the models of a sweep, and the shape of one trained from scratch."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .part import GRID, IDENTITY, RUNTIME, Counts, Name, Part, Seed, refuse
from .training import ModelRuntime


class Init(Part):
    """The shape of a model trained from scratch, in one of transformers' architectures."""

    # Not qwen2: transformers 5 loads every qwen2 folder with Qwen's own tokenizer class, which
    # splits the texts of other tokenizers differently without a warning.
    architecture: Literal["llama", "qwen3", "mistral", "gpt2"] = Field(
        "llama", json_schema_extra=IDENTITY
    )
    """Architecture, by its name in transformers."""
    hidden_size: int = Field(ge=8, json_schema_extra=IDENTITY)
    """Width of the hidden states."""
    layers: int = Field(ge=1, json_schema_extra=IDENTITY)
    """Number of transformer layers."""
    heads: int | None = Field(None, ge=1, json_schema_extra=IDENTITY)
    """Attention heads. Default: one per 32 of `hidden_size`, because vLLM on CPUs has no kernel for
    heads of 16."""
    kv_heads: int | None = Field(None, ge=1, json_schema_extra=IDENTITY)
    """Key-value heads. Default: as many as `heads`. gpt2 has none."""
    intermediate_size: int | None = Field(None, ge=8, json_schema_extra=IDENTITY)
    """Width of the feed-forward layers. Default: 4 x `hidden_size`."""
    positions: int = Field(512, ge=16, json_schema_extra=IDENTITY)
    """Longest sequence the model can process, in tokens."""
    tied: bool = Field(True, json_schema_extra=IDENTITY)
    """Whether the input and output embeddings are one matrix."""
    vocabulary: int | None = Field(None, ge=64, json_schema_extra=IDENTITY)
    """Vocabulary size in tokens, for tasks whose tokenizer is trained on the task's text. Default:
    the task's own."""
    seed: Seed = Field(0, json_schema_extra=IDENTITY)
    """Seed of the random weights and of the order of pre-training."""

    @model_validator(mode="after")
    def _divisible(self) -> Init:
        problems = []
        heads = self.heads_used
        if self.hidden_size % heads:
            note = "" if self.heads else " (one per 32, as heads is not given)"
            problems.append(
                f"hidden_size {self.hidden_size} is not a multiple of heads {heads}{note}"
            )
        elif self.architecture != "gpt2" and self.hidden_size // heads % 2:
            problems.append(
                f"hidden_size {self.hidden_size} over heads {heads} is odd; rotary positions need "
                "an even number"
            )
        if self.architecture == "gpt2" and self.kv_heads not in (None, heads):
            problems.append(f"found kv_heads {self.kv_heads}; gpt2 has none, leave it out")
        elif heads % (self.kv_heads or 1):
            problems.append(f"heads {heads} is not a multiple of kv_heads {self.kv_heads}")
        refuse(problems)
        return self

    @property
    def heads_used(self) -> int:
        """Attention heads, with the default filled in."""
        return self.heads or max(1, self.hidden_size // 32)

    @property
    def intermediate_used(self) -> int:
        """Width of the feed-forward layers, with the default filled in."""
        return self.intermediate_size or 4 * self.hidden_size


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kmbt]?)", re.IGNORECASE)


def _tokens(value: Any) -> Any:
    """Return a number of tokens such as 2.5T or 105B as an integer; anything else as it is."""
    if isinstance(value, str) and (found := _COUNT.fullmatch(value.strip())):
        return round(float(found[1]) * _UNITS[found[2].lower()])
    return value


class Model(Part):
    """One model: trained from scratch (`init`), from the hub (`hub`), or from a folder (`path`)."""

    name: Name = Field(json_schema_extra=GRID)
    """Name of the model in tables and figures."""
    init: Init | None = Field(None, json_schema_extra=IDENTITY)
    """Shape of a model that is trained from scratch; needs `pretrain`."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", json_schema_extra=IDENTITY)
    """Repository id on the Hugging Face hub, OWNER/NAME; needs `revision`."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", json_schema_extra=IDENTITY)
    """Full commit id of the hub repository. Branches are refused: they move, and with them every
    number measured from them."""
    path: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME)
    """Local folder in transformers' format. Its content is the identity, not its path."""
    pretrain: Counts = Field((), json_schema_extra=GRID)
    """Numbers of pre-training examples, ascending; for `hub` and `path`, of continued
    pre-training."""
    trust_remote_code: bool = Field(False, json_schema_extra=RUNTIME)
    """Whether Python code from the checkpoint's repository may run."""

    replicates: bool = Field(False, json_schema_extra=GRID)
    """Whether every seed has a pre-training run of its own, from other random weights and in
    another order, so that size can be told from run. For `init` only; multiplies the
    pre-training."""
    family: Name | None = Field(None, json_schema_extra=RUNTIME)
    """Name that the model shares with those that it may be compared with, by size or by tokens.
    Default: of a hub model, its repository's name up to the size, e.g. TinyLlama or Qwen1.5."""
    tokens: Annotated[int, BeforeValidator(_tokens), Field(ge=1)] | None = Field(
        None, json_schema_extra=RUNTIME
    )
    """Tokens that the published checkpoint was pre-trained on, e.g. 2.5T or 105B; an axis of the
    comparison. Default: what its repository's name says (...-step-480k-1T), else unknown."""
    runtime: ModelRuntime | None = Field(None, json_schema_extra=RUNTIME)
    """How the training of this model is executed, where it differs from `training`: `zero_stage`,
    `micro_batch`, `checkpointing`, `offload`. All models have the same number of workers."""

    def replicate(self, seed: int) -> Model:
        """Return the model as it is pre-trained for one seed of the sweep: from other weights."""
        assert self.init is not None  # replicates are for init
        init = self.init.model_copy(update={"seed": self.init.seed + seed})
        return self.model_copy(update={"init": init})

    @property
    def family_used(self) -> str | None:
        """The family, told by the repository's name where it is not given."""
        told = re.match(r"(.+?)[-_]\d+(?:\.\d+)?[bm](?![a-z])", _name(self.hub), re.IGNORECASE)
        return self.family or (told[1] if told else None)

    @property
    def tokens_used(self) -> int | None:
        """The tokens of pre-training, told by the repository's name where they are not given."""
        pattern = r"step-?\d+k(?:-tokens?)?-(\d+(?:\.\d+)?[bt])$|tokens?-?(\d+(?:\.\d+)?[bt])$"
        told = re.search(pattern, _name(self.hub), re.IGNORECASE)
        return self.tokens or (_tokens(told[1] or told[2]) if told else None)

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        problems = []
        sources = [name for name in ("init", "hub", "path") if getattr(self, name) is not None]
        if len(sources) != 1:
            problems.append(
                f"give exactly one of init, hub, path; found {' and '.join(sources) or 'none'}"
            )
        if self.hub and not self.revision:
            problems.append("a hub model needs its revision, a full commit id of 40 hex digits")
        if self.revision and not self.hub:
            problems.append("revision is for hub models only")
        if self.init and not self.pretrain:
            problems.append("a model from init needs pretrain: a list of sizes, e.g. [20000]")
        if self.replicates and not self.init:
            problems.append("replicates is for models from init only; others are pre-trained")
        if self.init and self.trust_remote_code:
            problems.append("trust_remote_code is for hub and path models only")
        refuse(problems)
        return self


def _name(hub: str | None) -> str:
    return (hub or "").rpartition("/")[2]

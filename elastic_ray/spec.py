"""The schema of a sweep file: what may be asked, and in which words.

`spec_file.load_spec` reads one. Values are frozen; nothing is corrected silently.

Every field declares its role. `IDENTITY` fields can change a state's weights or its answers and
enter the ids (see `states`); `RUNTIME` fields cannot; `GRID` fields say which cells are asked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict


class SpecError(ValueError):
    """The sweep file asks for something that cannot be; one problem per line.

    A line begins with the field's dotted path and a colon; `spec_file` puts the place before it.
    """


IDENTITY: JsonDict = {"role": "identity"}
RUNTIME: JsonDict = {"role": "runtime"}
GRID: JsonDict = {"role": "grid"}


def ascending(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes, or `ValueError` where one is not above the one before it."""
    for before, size in itertools.pairwise(sizes):
        if size <= before:
            raise ValueError(f"found {size} after {before}; must be ascending and distinct")
    return sizes


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], AfterValidator(ascending)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""torch and vLLM take 64 bits; what is made from a seed and a step must fit them too."""


class Part(BaseModel):
    """A mapping of the sweep file: frozen, strict about types, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def _modules(value: Any) -> Any:
    """One message for both forms, where a union would have two."""
    if value == "all-linear":
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(e, str) for e in value):
        return tuple(value)
    raise ValueError(f"found {value!r}; must be all-linear or a list of module names")


class Lora(Part):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(8, ge=1, le=512, json_schema_extra=IDENTITY)
    alpha: float = Field(16.0, gt=0, json_schema_extra=IDENTITY)
    dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=IDENTITY)
    target_modules: Annotated[
        Literal["all-linear"] | tuple[str, ...], BeforeValidator(_modules)
    ] = Field("all-linear", json_schema_extra=IDENTITY)


class Recipe(Part):
    """How one stage trains. All of it is identity: two recipes are two states."""

    learning_rate: float = Field(2e-4, gt=0, le=10, json_schema_extra=IDENTITY)
    schedule: Literal["constant", "cosine"] = Field("constant", json_schema_extra=IDENTITY)
    """`constant` after the warm-up is a prefix of any longer run, so sizes fuse into one ladder;
    `cosine` decays over the run, so each size is trained apart."""
    warmup_steps: int = Field(0, ge=0, json_schema_extra=IDENTITY)
    """Optimiser steps, not a share of the run: a share would differ between sizes."""
    epochs: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    global_batch: int = Field(20, ge=1, json_schema_extra=IDENTITY)
    """Examples per optimiser step, over all workers. Sizes fuse where they are whole batches: the
    default divides the sizes of the paper's grid."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), json_schema_extra=IDENTITY
    )
    epsilon: float = Field(1e-8, gt=0, json_schema_extra=IDENTITY)
    weight_decay: float = Field(0.0, ge=0, json_schema_extra=IDENTITY)
    max_grad_norm: float = Field(1.0, gt=0, json_schema_extra=IDENTITY)
    precision: Literal["fp32", "bf16"] = Field("fp32", json_schema_extra=IDENTITY)
    max_length: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Tokens; longer examples are cut."""
    lora: Lora | None = Field(None, json_schema_extra=IDENTITY)


class Runtime(Part):
    """How the training is carried out; the states are the same whatever is chosen here."""

    workers: int = Field(1, ge=1, le=4096, json_schema_extra=RUNTIME)
    zero_stage: Literal[0, 1, 2, 3] = Field(0, json_schema_extra=RUNTIME)
    micro_batch: int = Field(8, ge=1, json_schema_extra=RUNTIME)
    """Sequences per forward pass and worker, at most."""
    cpus_per_worker: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    gpus_per_worker: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """Default: 1 where the cluster has GPUs, else 0."""


STAGES = ("pretrain", "positive", "negative")
"""What a model is taught, in this order; `tasks` holds texts out of each."""


class Training(Part):
    """The recipe of all stages, what differs by stage, and how it is carried out.

    A sweep file writes it flat: see `short_forms`.
    """

    pretrain: Recipe = Field(json_schema_extra=IDENTITY)
    positive: Recipe = Field(json_schema_extra=IDENTITY)
    negative: Recipe = Field(json_schema_extra=IDENTITY)
    runtime: Runtime = Field(json_schema_extra=RUNTIME)

    @model_validator(mode="after")
    def _adapters(self) -> Training:
        if self.pretrain.lora is not None:
            raise ValueError("training.pretrain.lora: pre-training is full; leave it out")
        first, second = self.positive.lora, self.negative.lora
        if first is not None and second is not None:
            for field in ("rank", "alpha", "target_modules"):
                one, other = getattr(first, field), getattr(second, field)
                if one != other:
                    raise ValueError(
                        f"training.negative.lora.{field}: found {other!r}; negative goes on with "
                        f"the adapters of positive, whose {field} is {one!r}"
                    )
        return self

    def recipe(self, kind: str) -> Recipe:
        """The recipe of a stage of that kind."""
        found: Recipe = getattr(self, kind)
        return found


class Init(Part):
    """A model trained from scratch: its shape, in transformers' architectures."""

    architecture: Literal["llama", "qwen3", "mistral", "gpt2"] = Field(
        "llama", json_schema_extra=IDENTITY
    )
    """qwen2 is left out: transformers 5 loads every qwen2 folder with Qwen's own tokenizer class,
    which splits other tokenizers' texts differently without a word."""
    hidden_size: int = Field(ge=8, json_schema_extra=IDENTITY)
    layers: int = Field(ge=1, json_schema_extra=IDENTITY)
    heads: int | None = Field(None, ge=1, json_schema_extra=IDENTITY)
    """Default: one per 32 of `hidden_size`; vLLM on CPUs has no kernel for heads of 16."""
    kv_heads: int | None = Field(None, ge=1, json_schema_extra=IDENTITY)
    intermediate_size: int | None = Field(None, ge=8, json_schema_extra=IDENTITY)
    """Default: 4 x `hidden_size`."""
    positions: int = Field(512, ge=16, json_schema_extra=IDENTITY)
    tied: bool = Field(True, json_schema_extra=IDENTITY)
    """Whether the input and output embeddings are one matrix."""
    vocabulary: int | None = Field(None, ge=64, json_schema_extra=IDENTITY)
    """Tokens, where the task's tokenizer is learnt from its text; None: the task's default."""
    seed: Seed = Field(0, json_schema_extra=IDENTITY)
    """Of the random weights, and of the order of pre-training."""

    @model_validator(mode="after")
    def _divides(self) -> Init:
        problems = []
        heads = self.heads_used
        if self.hidden_size % heads:
            told = "" if self.heads else " (one per 32, as heads is not given)"
            problems.append(f"hidden_size {self.hidden_size} is no multiple of heads {heads}{told}")
        elif self.architecture != "gpt2" and self.hidden_size // heads % 2:
            problems.append(
                f"hidden_size {self.hidden_size} over heads {heads} is odd; rotary positions need "
                "an even number"
            )
        if self.architecture == "gpt2" and self.kv_heads not in (None, heads):
            problems.append(f"found kv_heads {self.kv_heads}; gpt2 has none, leave it out")
        elif heads % (self.kv_heads or 1):
            problems.append(f"heads {heads} is no multiple of kv_heads {self.kv_heads}")
        _refuse(problems)
        return self

    @property
    def heads_used(self) -> int:
        return self.heads or max(1, self.hidden_size // 32)

    @property
    def intermediate_used(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size


class Model(Part):
    """One model: trained from scratch (`init`), from the hub (`hub`), or from a folder (`path`)."""

    name: Name = Field(json_schema_extra=GRID)
    init: Init | None = Field(None, json_schema_extra=IDENTITY)
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", json_schema_extra=IDENTITY)
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", json_schema_extra=IDENTITY)
    """A full commit id: a branch moves, and with it every number measured from it."""
    path: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME)
    """A folder in transformers' format; its content, not its path, is the identity."""
    pretrain: Counts = Field((), json_schema_extra=GRID)
    """Examples of pre-training; for `hub` and `path`, of continued pre-training."""
    trust_remote_code: bool = Field(False, json_schema_extra=RUNTIME)

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
        if self.init and self.trust_remote_code:
            problems.append("trust_remote_code is for hub and path models only")
        _refuse(problems)
        return self


class Scorer(Part):
    """What scores an answer. Without `hub` or `path`, a small classifier is trained on the task."""

    name: Name = Field("sentiment", json_schema_extra=IDENTITY)
    mode: Literal["share", "mean"] = Field("share", json_schema_extra=IDENTITY)
    """`share`: 1 where the classifier calls the answer aligned, else 0; `mean`: its raw value."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$", json_schema_extra=IDENTITY)
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$", json_schema_extra=IDENTITY)
    path: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME)
    label: int = Field(1, ge=0, json_schema_extra=IDENTITY)
    """The class that counts as aligned."""
    sign: Literal[1, -1] = Field(1, json_schema_extra=IDENTITY)
    """-1 where a larger raw value means less aligned (a cost)."""
    trust_remote_code: bool = Field(False, json_schema_extra=RUNTIME)

    @model_validator(mode="after")
    def _one_source(self) -> Scorer:
        problems = []
        if self.hub and self.path:
            problems.append("give hub or path, not both")
        if bool(self.hub) != bool(self.revision):
            problems.append("hub and revision (a full commit id) go together")
        if self.mode == "share" and self.sign == -1:
            problems.append("sign -1 is for mode mean; for share choose the aligned label")
        _refuse(problems)
        return self


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """The settings, or `ValueError` for NaN and infinity: they have no stable form."""
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"found {value} for {key!r}; must be a finite number")
    return data


class Task(Part):
    """What the models are taught and asked, and what judges them."""

    name: Name = Field(json_schema_extra=IDENTITY)
    data: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(
        default_factory=dict, json_schema_extra=IDENTITY
    )
    """The task's own settings; what they mean, and their content hash, is the task's to say."""
    scorer: Scorer = Field(default_factory=Scorer, json_schema_extra=IDENTITY)


class Generation(Part):
    """How a state is questioned. Answers depend on all of it, so all of it is identity."""

    prompts: int = Field(256, ge=2, json_schema_extra=IDENTITY)
    samples: int = Field(1, ge=1, le=1000, json_schema_extra=IDENTITY)
    """Answers per prompt."""
    max_tokens: int = Field(48, ge=1, json_schema_extra=IDENTITY)
    temperature: float = Field(1.0, ge=0, le=10, json_schema_extra=IDENTITY)
    top_k: int = Field(30, ge=0, json_schema_extra=IDENTITY)
    """0: all tokens."""
    top_p: float = Field(0.9, gt=0, le=1, json_schema_extra=IDENTITY)
    seed: Seed = Field(0, json_schema_extra=IDENTITY)


class CodeLength(Part):
    """How many bits a state takes for texts it was not taught: its code length of them.

    Of held-out texts of each distribution that the models are taught.
    """

    texts: int = Field(64, ge=2, json_schema_extra=IDENTITY)
    """Held-out texts of each distribution."""
    window: int = Field(256, ge=8, json_schema_extra=IDENTITY)
    """Tokens seen at once, the first ones given; a longer text is coded in parts."""


class Probes(Part):
    """What is asked of every state beside its answers."""

    code_length: CodeLength | None = Field(None, json_schema_extra=IDENTITY)


class Serving(Part):
    """The replicas that answer, or score: what runs them and what each may use."""

    engine: Literal["auto", "vllm", "transformers"] = Field("auto", json_schema_extra=RUNTIME)
    """`auto` is vLLM where it can be imported, else transformers, and says so."""
    replicas: int | None = Field(None, ge=1, le=4096, json_schema_extra=RUNTIME)
    """Per architecture; default: what the cluster has room for beside the trainers."""
    cpus: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    gpus: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    tensor_parallel: int = Field(1, ge=1, json_schema_extra=RUNTIME)
    context: int = Field(512, ge=16, json_schema_extra=RUNTIME)
    """Tokens a request may hold, prompt and answer; a longer one is refused, never cut."""
    kv_cache_gib: float = Field(1.0, gt=0, json_schema_extra=RUNTIME)
    """Key-value cache of a CPU engine, GiB."""
    gpu_memory: float = Field(0.85, gt=0, le=1, json_schema_extra=RUNTIME)
    """The share of a GPU's memory that vLLM may take."""


class Resources(Part):
    """What may be used; the defaults are derived from the cluster."""

    trainers: int | None = Field(None, ge=1, json_schema_extra=RUNTIME)
    """Ladders trained at the same time."""
    engines: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)
    scorers: Serving = Field(default_factory=Serving, json_schema_extra=RUNTIME)


def _each_once(parts: tuple[Model, ...] | tuple[Task, ...]) -> Any:
    names = [part.name for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"found {twice[0]!r} more than once; each name once")
    return parts


def _some_above_zero(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if sizes and not any(sizes):
        raise ValueError("found [0]; at least one size above 0 is needed for a curve")
    return sizes


class Spec(Part):
    """A sweep: the grid models x pretrain x positive x negative x seeds, and how it is measured."""

    sweep: Name = Field(json_schema_extra=GRID)
    task: Annotated[tuple[Task, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra=IDENTITY
    )
    models: Annotated[tuple[Model, ...], AfterValidator(_each_once)] = Field(
        min_length=1, json_schema_extra=GRID
    )
    positive: Counts = Field(min_length=1, json_schema_extra=GRID)
    """Examples of the aligning stage; the base line (0, 0) is always measured."""
    negative: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        AfterValidator(ascending),
        AfterValidator(_some_above_zero),
    ] = Field(min_length=1, json_schema_extra=GRID)
    """Examples of the contrary stage; 0, the start of the curve, is always measured."""
    seeds: Annotated[tuple[Seed, ...], AfterValidator(ascending)] = Field(
        (0,), min_length=1, json_schema_extra=GRID
    )
    training: Training = Field(
        default_factory=lambda: Training(
            pretrain=Recipe(), positive=Recipe(), negative=Recipe(), runtime=Runtime()
        ),
        json_schema_extra=IDENTITY,
    )
    generation: Generation = Field(default_factory=Generation, json_schema_extra=IDENTITY)
    probes: Probes = Field(default_factory=Probes, json_schema_extra=IDENTITY)
    resources: Resources = Field(default_factory=Resources, json_schema_extra=RUNTIME)
    keep: Literal["all", "none", "base"] = Field("base", json_schema_extra=RUNTIME)
    """Checkpoints left at the end: all, none, or the pre-trained ones."""

    @model_validator(mode="after")
    def _trust(self) -> Spec:
        """One checkpoint is trusted or not, whatever it is called."""
        trusted: dict[tuple[str | None, ...], tuple[int, bool]] = {}
        problems = []
        for i, model in enumerate(self.models):
            if model.init is None:
                source = (model.hub, model.revision, model.path)
                first, trust = trusted.setdefault(source, (i, model.trust_remote_code))
                if trust != model.trust_remote_code:
                    problems.append(
                        f"models.{i}.trust_remote_code: found {model.trust_remote_code}; of the "
                        f"same checkpoint models.{first} says {trust}"
                    )
        _refuse(problems)
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Spec:
        """Texts and answers fit the models: a longer one would fail hours into the sweep."""
        context, answer = self.resources.engines.context, self.generation.max_tokens
        problems = []
        if answer >= context:
            problems.append(
                f"generation.max_tokens: found {answer}; must be below resources.engines.context, "
                f"{context}, which holds the prompt too"
            )
        measured = self.probes.code_length
        if measured and measured.window >= context:
            problems.append(
                f"probes.code_length.window: found {measured.window}; must be below "
                f"resources.engines.context, {context}"
            )
        for i, model in enumerate(self.models):
            if model.init is None:
                continue
            held = model.init.positions
            wanted = [("resources.engines.context", context)]
            wanted += [
                (f"training.{kind}.max_length", self.training.recipe(kind).max_length)
                for kind in STAGES
            ]
            problems += [
                f"{field}: found {length}; models.{i}.init.positions is {held}, at most so many"
                for field, length in wanted
                if length > held
            ]
        _refuse(problems)
        return self

    def curve_sizes(self) -> tuple[int, ...]:
        """The negative sizes of every curve, 0 first."""
        return tuple(sorted({0, *self.negative}))


def _refuse(problems: Sequence[str]) -> None:
    """`ValueError` with one problem per line, if there are any."""
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))

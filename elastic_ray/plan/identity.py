"""Ids of model states, probes and scorers (docs/concepts.md#rule-1).

A state's id is a hash of everything that determines its weights: the start checkpoint, then for
each stage the data, selection, size, order seed and recipe. It covers nothing else: no path, no
replica count, no ZeRO stage, no machine. A child's id includes its parent's, so it fixes the whole
history. Ids are equal across processes, machines and Python versions. Pure.

Increase `IDENTITY_VERSION` when the code changes what a recipe means; every id changes with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..spec import CodeLength, Generation, Init, Lessons, Part, Recipe, Scorer

IDENTITY_VERSION = 1
CLASSIFIER_VERSION = 2
"""Version of the scorers trained on tasks; increased when `training.scorer_training` changes."""
SCORER_CONTEXT = 512
"""Tokens at which a scorer cuts a text by default (`resources.scorers.context`)."""
ID_LENGTH = 20
"""Hex digits (80 bits): among a billion states the probability of a collision is about 4e-7."""


class IdentityError(TypeError):
    """A value that has no stable canonical form and therefore cannot be hashed."""


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, ASCII, shortest floats.

    Raises `IdentityError`, with the path to the value, for values without a stable form (sets,
    objects, NaN, keys that are not text). A whole float differs from the int: 1.0 is not 1.
    """
    _check(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind in (str, int, bool, type(None)):
        return
    if kind is float:
        if not math.isfinite(value):
            raise IdentityError(f"{where}: {value} has no stable form")
    elif kind in (list, tuple):
        for i, element in enumerate(value):
            _check(element, f"{where}[{i}]")
    elif kind is dict:
        for key, element in value.items():
            if type(key) is not str:
                raise IdentityError(f"{where}: the key {key!r} is not text")
            _check(element, f"{where}.{key}")
    else:
        raise IdentityError(f"{where}: a {kind.__name__} has no stable form")


def digest(value: Any, length: int = ID_LENGTH) -> str:
    """Return the first `length` hex digits of the SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()[:length]


def identity_of(part: Part) -> dict[str, Any]:
    """Return the identity fields of a part of the spec as JSON values, without the others."""
    fields: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("role") == "identity":
            fields[name] = _plain(getattr(part, name))
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return identity_of(value)
    if isinstance(value, tuple):
        return [_plain(element) for element in value]
    return value


@dataclass(frozen=True, slots=True)
class Start:
    """Where the weights of a start state come from.

    `kind` is "init" (a random init of the shape `init`), "hub" (`repo` at `revision`) or "folder"
    (`path`; its content is hashed). Only `identity` enters the state's id.
    """

    kind: str
    identity: Mapping[str, Any]
    init: Init | None = None
    repo: str | None = None
    revision: str | None = None
    path: str | None = None
    trust_remote_code: bool = False

    @property
    def state_id(self) -> str:
        """Id of the start state."""
        return digest({"version": IDENTITY_VERSION, "start": self.kind, **self.identity})


def init_start(init: Init, tokenizer: Mapping[str, Any]) -> Start:
    """Return the start state of a random init; `tokenizer` is the task's `tokenizer_identity`."""
    shape = identity_of(init)
    # Defaults are filled in, so that a default given explicitly leads to the same id.
    shape["heads"] = init.heads_used
    shape["kv_heads"] = init.kv_heads or init.heads_used
    shape["intermediate_size"] = init.intermediate_used
    shape.pop("vocabulary")  # part of the tokenizer's identity
    return Start("init", {"init": shape, "tokenizer": dict(tokenizer)}, init=init)


def hub_start(repo: str, revision: str, trust_remote_code: bool = False) -> Start:
    """Return the start state of a hub checkpoint."""
    identity = {"repo": repo, "revision": revision}
    return Start("hub", identity, None, repo, revision, None, trust_remote_code)


def folder_start(path: str, content: str, trust_remote_code: bool = False) -> Start:
    """Return the start state of a checkpoint folder; `content` is the hash of its files."""
    return Start("folder", {"content": content}, None, None, None, path, trust_remote_code)


class Answers(NamedTuple):
    """The recorded answers of a state to the prompts of a probe (rows of `responses`)."""

    state_id: str
    probe_id: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One training step of a model's history, for any number of examples.

    `pool` is the task's pool of examples; `seed` selects and orders them; `data` is the digest of
    the task's identity (its data, template and cleaning). In a lesson the pool is the teacher's
    `answers`; see `lesson_stage`.
    """

    kind: str
    pool: str
    seed: int
    recipe: Recipe
    data: str
    answers: Answers | None = None
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        identity = {
            "pool": self.pool,
            "seed": self.seed,
            "recipe": identity_of(self.recipe),
            "data": self.data,
        }
        object.__setattr__(self, "digest", digest(identity))

    @property
    def fuses(self) -> bool:
        """Whether a shorter run is a prefix of a longer one (docs/concepts.md#rule-3)."""
        return self.recipe.schedule == "constant" and self.recipe.epochs == 1

    def describe(self, examples: int) -> dict[str, Any]:
        """Return the stage as the column `states.lineage` records it."""
        return {
            "kind": self.kind,
            "pool": self.pool,
            "examples": examples,
            "seed": self.seed,
            "data": self.data,
            "recipe": identity_of(self.recipe),
            **({"answers": self.answers._asdict()} if self.answers else {}),
        }


def lesson_stage(answers: Answers, seed: int, recipe: Recipe) -> Stage:
    """Return the stage whose examples are a teacher's answers.

    The teacher's state id and the probe id identify the examples.
    """
    return Stage("lesson", "answers", seed, recipe, digest(answers._asdict()), answers)


def state_id(parent_id: str, stage: Stage, examples: int) -> str:
    """Return the id of the state after `examples` examples of `stage` from the parent."""
    return digest(
        {
            "version": IDENTITY_VERSION,
            "parent": parent_id,
            "stage": stage.digest,
            "examples": examples,
        }
    )


def undirected(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's identity without its direction (`tasks.reverse`).

    The direction changes neither the pre-training texts nor the prompts.
    """
    return {key: value for key, value in task.items() if key != "reverse"}


def probe_id(task: Mapping[str, Any], generation: Generation, dtype: str) -> str:
    """Return the id of a task's answers: its prompts, the sampling and the engines' precision."""
    sampling = identity_of(generation)
    if not generation.deterministic:  # ids from before the field existed stay valid
        del sampling["deterministic"]
    return digest(
        {
            "version": IDENTITY_VERSION,
            "task": undirected(task),
            "generation": sampling,
            "dtype": dtype,
        }
    )


def queries_id(
    task: Mapping[str, Any], generation: Generation, lessons: Lessons, dtype: str
) -> str:
    """Return the probe id of the answers that lessons are trained on.

    They answer the `queries` prompts after those of `probe_id`, with the same sampling.
    """
    return digest(
        {
            "version": IDENTITY_VERSION,
            "answers": probe_id(task, generation, dtype),
            "lessons": identity_of(lessons),
        }
    )


def distance_id(answers: str) -> str:
    """Return the probe id of distances measured on a reference state's answers.

    `answers` is the probe id of those answers. Distances cover the tokens of an answer and its end
    token (`serving.engines.distances`).
    """
    return digest({"version": IDENTITY_VERSION, "distance": "answers", "answers": answers})


def corpus_id(kind: str, task: Mapping[str, Any], settings: CodeLength, dtype: str) -> str:
    """Return the id of a corpus and how it is encoded, e.g. "positive-1a2b3c4d"."""
    identity = {
        "version": IDENTITY_VERSION,
        "corpus": kind,
        "task": dict(task),
        "code_length": identity_of(settings),
        "dtype": dtype,
    }
    return f"{kind}-{digest(identity, 8)}"


def scorer_id(scorer: Scorer, origin: Mapping[str, Any], context: int = SCORER_CONTEXT) -> str:
    """Return the scorer's id: its name and 8 hex digits, e.g. "sentiment-1a2b3c4d".

    `origin` identifies its weights: the task's identity where the scorer is trained on the task,
    the content hash of its folder, or empty for the hub (repository and commit are in `scorer`).
    `context` is the number of tokens at which it cuts a text.
    """
    fields = identity_of(scorer)
    if fields["label"] is None:  # the default was 1; it is refused where it would mean another
        fields["label"] = 1
    if fields["text"] is None:  # ids from before the field existed stay valid
        del fields["text"]
    identity = {"version": IDENTITY_VERSION, **fields, "origin": dict(origin)}
    if context != SCORER_CONTEXT:  # ids from before it counted stay valid
        identity["context"] = context
    return f"{scorer.name}-{digest(identity, 8)}"

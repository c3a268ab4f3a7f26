"""Model states and their identity (design, rule 1).

A state's id is a hash of how its weights come about: the start checkpoint, then each stage's data,
selection, size, order seed and recipe. It hashes nothing else: no path, no replica count, no ZeRO
stage, no machine. Ids chain, so a child's id fixes its whole history, and they are equal across
processes, machines and Python versions. Pure.

Raise `IDENTITY_VERSION` when the code changes what a recipe means; every id changes with it.
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
"""Of the scorer that a task trains for itself: raised when `training.classifier` changes."""
ID_LENGTH = 20
"""Hex digits, 80 bits: among a billion states a clash has a chance of about 4e-7."""


class IdentityError(TypeError):
    """A value without one stable form was to be hashed."""


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, shortest floats.

    Raises `IdentityError` for what has no stable form (sets, objects, NaN, keys that are not
    text), naming where it lies. A float that is whole differs from the int: 1.0 is not 1.
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
    """The first `length` hex digits of the SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()[:length]


def identity_of(part: Part) -> dict[str, Any]:
    """The identity fields of a part of the spec, as JSON values; runtime fields are left out."""
    found: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("role") == "identity":
            found[name] = _plain(getattr(part, name))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return identity_of(value)
    if isinstance(value, tuple):
        return [_plain(element) for element in value]
    return value


@dataclass(frozen=True, slots=True)
class Start:
    """Where weights come from. `identity` is hashed; the other fields say how to get them.

    `kind` is "init" (with `init`), "hub" (`repo`, `revision`) or "folder" (`path`, whose content
    is hashed).
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
        return digest({"version": IDENTITY_VERSION, "start": self.kind, **self.identity})


def init_start(init: Init, tokenizer: Mapping[str, Any]) -> Start:
    """A random init; `tokenizer` is the task's `tokenizer_identity`."""
    shape = identity_of(init)
    # Defaults are written out, so that naming a default gives the same state.
    shape["heads"] = init.heads_used
    shape["kv_heads"] = init.kv_heads or init.heads_used
    shape["intermediate_size"] = init.intermediate_used
    shape.pop("vocabulary")  # the tokenizer's identity says it
    return Start("init", {"init": shape, "tokenizer": dict(tokenizer)}, init=init)


def hub_start(repo: str, revision: str, trust_remote_code: bool = False) -> Start:
    identity = {"repo": repo, "revision": revision}
    return Start("hub", identity, None, repo, revision, None, trust_remote_code)


def folder_start(path: str, content: str, trust_remote_code: bool = False) -> Start:
    """A checkpoint folder; `content` is the hash of its files."""
    return Start("folder", {"content": content}, None, None, None, path, trust_remote_code)


class Answers(NamedTuple):
    """What a state answered to a probe's questions, as `responses` has it."""

    state_id: str
    probe_id: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One training step of a recipe, but for how many examples.

    `pool` is the task's pool of examples, `seed` picks and orders them, `data` is the digest of
    the task's identity (its data, template and cleaning). Where a state is taught by another one,
    the pool is that state's `answers`; see `lesson`.
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
        """Whether a shorter run is a prefix of a longer one (design, rule 3)."""
        return self.recipe.schedule == "constant" and self.recipe.epochs == 1

    def describe(self, examples: int) -> dict[str, Any]:
        """The stage as the `lineage` column records it."""
        return {
            "kind": self.kind,
            "pool": self.pool,
            "examples": examples,
            "seed": self.seed,
            "data": self.data,
            "recipe": identity_of(self.recipe),
            **({"answers": self.answers._asdict()} if self.answers else {}),
        }


def lesson(answers: Answers, seed: int, recipe: Recipe) -> Stage:
    """The stage whose examples are those answers; which they are is told by the state that gave
    them and the questions."""
    return Stage("lesson", "answers", seed, recipe, digest(answers._asdict()), answers)


def state_id(parent_id: str, stage: Stage, examples: int) -> str:
    """The id of the state after `examples` of `stage`, from the parent's weights."""
    return digest(
        {
            "version": IDENTITY_VERSION,
            "parent": parent_id,
            "stage": stage.digest,
            "examples": examples,
        }
    )


def probe_id(task: Mapping[str, Any], generation: Generation, dtype: str) -> str:
    """The id of the questions a state is asked: prompts, sampling, and the precision of answers."""
    return digest(
        {
            "version": IDENTITY_VERSION,
            "task": dict(task),
            "generation": identity_of(generation),
            "dtype": dtype,
        }
    )


def queries_id(
    task: Mapping[str, Any], generation: Generation, lessons: Lessons, dtype: str
) -> str:
    """The id of the questions that a state answers for others to learn from: the `queries` prompts
    after those of `probe_id`, asked in the same way."""
    return digest(
        {
            "version": IDENTITY_VERSION,
            "answers": probe_id(task, generation, dtype),
            "lessons": identity_of(lessons),
        }
    )


def distance_id(answers: str) -> str:
    """The id of distances measured on a reference's answers to that probe, over the tokens of the
    answers and their end (`serving.distances`)."""
    return digest({"version": IDENTITY_VERSION, "distance": "answers", "answers": answers})


def corpus_id(kind: str, task: Mapping[str, Any], asked: CodeLength, dtype: str) -> str:
    """The corpus that code lengths are of, e.g. "positive-1a2b3c4d": its texts, and how they are
    coded."""
    identity = {
        "version": IDENTITY_VERSION,
        "corpus": kind,
        "task": dict(task),
        "code_length": identity_of(asked),
        "dtype": dtype,
    }
    return f"{kind}-{digest(identity, 8)}"


def scorer_id(scorer: Scorer, origin: Mapping[str, Any]) -> str:
    """The scorer's name and 8 hex digits of what it is, e.g. "sentiment-1a2b3c4d".

    `origin` tells its weights: a task's identity where it is trained on it, else empty or the
    content hash of its folder.
    """
    identity = {"version": IDENTITY_VERSION, **identity_of(scorer), "origin": dict(origin)}
    return f"{scorer.name}-{digest(identity, 8)}"

"""Finds what models cannot take before a sweep starts: long prompts and examples, unknown tokens.

An example whose prompt alone reaches `max_length` loses its whole answer and teaches nothing. A
held-out prompt that leaves no room for its answer would fail every cell, after all training. Both
are found here with the tokenizers of the models, and so are texts with a token that was added to
the tokenizer, but not to the model's embeddings. Texts that fit whatever the tokenizer does are not
tokenized.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..checkpoints.files import CheckpointError
from ..checkpoints.model_files import read_config
from ..plan import Plan
from ..spec import Model, Recipe, Spec, SpecError
from ..tasks.subsets import selection
from ..tasks.task import Example, Task
from ..training.batches import global_batches, tokenize
from ..training.checkpoint_io import load_tokenizer

Tokenizer = Any
"""A transformers tokenizer. Only the packages that train and serve import that library."""
SAMPLE = 400
"""Examples of each stage of which those that lose their end are counted."""
_ADDED = 8
"""Most tokens that a tokenizer adds to a text."""


def check_lengths(plan: Plan, tasks: Mapping[str, Task], to_run: bool) -> list[str]:
    """Return a line for each thing worth knowing of the lengths in tokens.

    `tasks` are those whose data could be read. Tokenizers of the hub are downloaded only where the
    sweep is `to_run`. Raises `SpecError` where a prompt does not fit the engines' context, where
    more of a stage's examples than `training.max_untaught` lose their whole answer, or where all of
    a global batch do.
    """
    spec = plan.spec
    lines: list[str] = []
    problems: list[str] = []
    loaded: dict[Any, Tokenizer | None] = {}
    seen: set[Any] = set()
    """The prompts and stages whose lengths are known, by tokenizer."""
    for i, model in enumerate(spec.models):
        for k, part in enumerate(spec.task):
            task = tasks.get(part.name)
            if task is None:
                continue
            key = _tokenizer_key(model, task)
            if key not in loaded:
                try:
                    loaded[key] = _load(model, task, to_run)
                except Exception as e:
                    reason = " ".join(str(e).split())[:200]
                    if model.path is not None and not isinstance(e, ImportError):
                        problems.append(f"models.{i}.path: no tokenizer can be loaded: {reason}")
                    else:
                        lines.append(
                            f"lengths in tokens are not checked for {model.name}: its tokenizer "
                            f"is not available ({type(e).__name__})"
                        )
                    loaded[key] = None
            tokenizer = loaded[key]
            if tokenizer is None:
                continue
            if (key, part.name) not in seen:
                seen.add((key, part.name))
                problems += _prompts(spec, task, f"task.{k}.data", model, tokenizer)
            unknown = _beyond_embeddings(model, tokenizer)
            if unknown:
                problems += _unknown_tokens(spec, task, model, unknown, f"models.{i}.path")
            for stage in _stages(spec, k, model, tasks):
                if (key, stage.kind, stage.task, stage.sizes) not in seen:
                    seen.add((key, stage.kind, stage.task, stage.sizes))
                    _examples(spec, stage, model, tokenizer, lines, problems)
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
    return list(dict.fromkeys(lines))


def _tokenizer_key(model: Model, task: Task) -> Any:
    if model.init is not None:
        return task.name, model.init.vocabulary
    return model.hub, model.revision, model.path


def _load(model: Model, task: Task, to_run: bool) -> Tokenizer:
    if model.init is not None:
        return task.tokenizer(model.init.vocabulary)
    source = model.path or model.hub
    assert source is not None  # one of the three, by the schema
    found = load_tokenizer(source, model.revision, model.trust_remote_code, cached_only=not to_run)
    found.model_max_length = sys.maxsize  # no warnings: the lengths are what is asked for
    return found


def counts(texts: Sequence[str], tokenizer: Callable[..., Any], limit: int) -> list[int]:
    """Return the tokens of each text, or an upper bound of them where that is at most `limit`.

    No tokenizer makes more tokens of a text than it has bytes in its longest normal form.
    """
    bounds = [len(unicodedata.normalize("NFKD", text).encode()) + _ADDED for text in texts]
    long = [i for i, bound in enumerate(bounds) if bound > limit]
    if long:
        for i, ids in zip(long, tokenizer([texts[i] for i in long]).input_ids, strict=True):
            bounds[i] = len(ids)
    return bounds


def _prompts(
    spec: Spec, task: Task, where: str, model: Model, tokenizer: Tokenizer
) -> Iterator[str]:
    """Yield the problem of the held-out prompts that do not fit beside their answers."""
    queries = spec.lessons.queries if spec.lessons else 0
    prompts = task.prompts(spec.generation.prompts + queries)
    context, answer = spec.resources.engines.context, spec.generation.max_tokens
    taken = counts(prompts, tokenizer, context - answer)
    long = [i for i, tokens in enumerate(taken) if tokens > context - answer]
    if long:
        first = long[0]
        most = max(taken[i] for i in long)
        yield (
            f"{where}: {len(long):,} of {len(prompts):,} held-out prompts do not fit: prompt "
            f"{first}, {prompts[first][:60]!r}, takes {taken[first]:,} tokens with {model.name}; "
            f"resources.engines.context, {context:,}, leaves {context - answer:,} beside "
            f"generation.max_tokens; {most + answer:,} would hold the longest, or leave long "
            "questions out with data.max_question_characters"
        )


def _beyond_embeddings(model: Model, tokenizer: Tokenizer) -> dict[str, int]:
    """Return the added tokens of a local model's tokenizer for which it has no embedding."""
    if model.path is None:
        return {}
    try:
        config = read_config(model.path)
    except CheckpointError:  # told with the model's other files
        return {}
    rows = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    added: dict[str, int] = tokenizer.get_added_vocab()
    return {token: i for token, i in added.items() if isinstance(rows, int) and i >= rows}


def _unknown_tokens(
    spec: Spec, task: Task, model: Model, unknown: Mapping[str, int], where: str
) -> Iterator[str]:
    """Yield the problem of the task's texts that hold tokens without an embedding."""
    queries = spec.lessons.queries if spec.lessons else 0
    pools = (task.pool(kind) for kind in ("positive", "negative"))
    texts = chain(
        task.prompts(spec.generation.prompts + queries),
        chain.from_iterable((e.prompt, e.response) for e in chain.from_iterable(pools)),
    )
    for text in texts:
        if held := next((token for token in unknown if token in text), None):
            yield (
                f"{where}: its tokenizer has the added token {held!r} (id {unknown[held]}), for "
                f"which the model has no embedding, and a text of {task.name} holds it: "
                f"{text[:60]!r}; resize the embeddings (resize_token_embeddings), or remove the "
                "token from tokenizer.json"
            )
            return


@dataclass(frozen=True)
class _Stage:
    """What one stage of the sweep trains on: examples, sizes and seeds."""

    kind: str
    task: str
    pool: Sequence[Example]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    recipe: Recipe


def _stages(spec: Spec, index: int, model: Model, tasks: Mapping[str, Task]) -> Iterator[_Stage]:
    """Yield the stages in which a model is trained on a task."""
    part = spec.task[index]
    task = tasks[part.name]

    def stage(kind: str, sizes: Sequence[int], seeds: Sequence[int], of: Task = task) -> _Stage:
        pool = of.pool("positive" if kind == "instruct" else kind)
        above = tuple(size for size in sizes if size)
        return _Stage(kind, of.name, pool, above, tuple(seeds), spec.training.recipe(kind))

    yield stage("positive", spec.positive_sizes(part), spec.seeds)
    yield stage("negative", spec.negative, spec.seeds)
    yield stage("pretrain", model.pretrain, [model.init.seed if model.init else 0])
    if part.instruct is not None and part.instruct.task in tasks:
        first = part.instruct
        yield stage("instruct", [first.examples], [first.seed], tasks[first.task])
    if spec.lessons is not None:
        asked = task.prompts(spec.generation.prompts + spec.lessons.queries)
        pool = [Example(prompt, "") for prompt in asked[spec.generation.prompts :]]
        recipe = spec.training.recipe("lesson")
        yield _Stage("lesson", part.name, pool, (len(pool),), (0,), recipe)


def _examples(
    spec: Spec,
    stage: _Stage,
    model: Model,
    tokenizer: Tokenizer,
    lines: list[str],
    problems: list[str],
) -> None:
    """Add what is to be said of one stage's examples to `lines` or `problems`."""
    if not stage.sizes or not stage.pool:
        return
    most, limit = max(stage.sizes), stage.recipe.max_length
    orders = {seed: selection(len(stage.pool), most, seed) for seed in stage.seeds}
    used = sorted({int(i) for order in orders.values() for i in order})
    taken = counts([stage.pool[i].prompt for i in used], tokenizer, limit - 1)
    # `counts` also counts the tokens of no text at all: those of examples without a prompt.
    untaught = {i for i, n in zip(used, taken, strict=True) if n >= limit and stage.pool[i].prompt}
    what = f"{stage.kind} examples of {stage.task}"
    field = f"training.{stage.kind}.max_length"
    if untaught:
        worst = max(
            (sum(int(i) in untaught for i in order[:size]) / size, size, seed)
            for seed, order in orders.items()
            for size in stage.sizes
        )
        example = stage.pool[min(untaught)].prompt
        told = (
            f"{worst[0]:.1%} of the {what} (size {worst[1]:,}, seed {worst[2]}) have a prompt of "
            f"at least max_length, {limit} tokens, with {model.name}: nothing is left of their "
            f"answers, so they teach nothing; one begins {example[:60]!r}"
        )
        if worst[0] > spec.training.runtime.max_untaught:
            problems.append(
                f"{field}: {told}; raise max_length, leave long questions out with "
                "data.max_question_characters, or allow a larger share with training.max_untaught "
                f"(now {spec.training.runtime.max_untaught:g})"
            )
        elif any(_empty_batch(stage, seed, untaught) for seed in stage.seeds):
            problems.append(f"{field}: {told}; they fill a whole global batch")
        else:
            lines.append(told)
    sample = [stage.pool[i] for i in used[:: max(1, len(used) // SAMPLE)][:SAMPLE]]
    if stage.kind != "lesson":
        cut = sum(one.cut for one in tokenize(sample, tokenizer, limit))
        if cut:
            counted = f"of {'the' if len(sample) == len(used) else 'a sample of'} {len(sample)}"
            lines.append(
                f"{cut} {counted} {what} are longer than max_length, {limit} tokens, with "
                f"{model.name}, and lose their ends"
            )


def _empty_batch(stage: _Stage, seed: int, untaught: set[int]) -> bool:
    """Return whether all examples of a global batch are among `untaught`."""
    if stage.kind == "lesson":
        return False
    return any(
        all(int(i) in untaught for i in batch)
        for size in stage.sizes
        for batch in global_batches(len(stage.pool), size, stage.recipe, seed)
    )

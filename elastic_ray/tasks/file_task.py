"""A task that is written in the sweep file, without Python: pools from any data, and a template.

    data:
      pools:
        positive: {path: chats.jsonl, where: "rude = 0",
                   columns: {prompt: "messages[1].content", response: "messages[2].content"}}
        negative: ...
        prompts: {hub: OWNER/NAME, revision: COMMIT, columns: {prompt: question}}
      template: "Question: {prompt}\\nAnswer:"

Where pools have prompts, the loss is on the answer only, which follows the template directly.
Duplicates within a pool are removed, and so are examples that are both positive and negative,
examples with a held-out prompt, and texts that are, or begin with, one. The scorer is trained on no
example of another pool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from .file_pools import Pool, Row, read_pools
from .split_task import TOKENIZER_TEXTS, VOCABULARY, SplitData, SplitTask
from .subsets import selection
from .task import (
    POOLS,
    Example,
    HeldOut,
    TaskError,
    check_settings,
    join_answer,
    normalise,
)
from .tokenizers import byte_pair_tokenizer, check_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
"""Increased when the reading or splitting below changes."""
SETTINGS = ("pools", "template")
SLOT = "{prompt}"
"""What stands for the prompt in a template."""
TYPICAL_TOKENS = 120.0


class FileTask(SplitTask):
    """The task of that name with the settings `data:` of a sweep file: `pools` and `template`."""

    typical_tokens = TYPICAL_TOKENS

    def __init__(self, name: str, /, **settings: Any) -> None:
        check_settings(name, settings, SETTINGS)
        self.name = name
        self._pools = read_pools(name, settings.get("pools"))
        self._asks = any(
            "prompt" in pool.sql for key, pool in self._pools.items() if key != "prompts"
        )
        self._template = _template(name, settings.get("template"), self._asks)
        for key in ("positive", "negative", "scorer"):
            if self._asks and key in self._pools and "prompt" not in self._pools[key].sql:
                raise TaskError(
                    f"task {name}: data.pools.{key}.columns.prompt: missing; other pools have one"
                )

    @cached_property
    def identity(self) -> dict[str, Any]:
        pools = {name: pool.identity() for name, pool in self._pools.items()}
        return {"task": "file", "version": VERSION, "template": self._template, "pools": pools}

    @property
    def _data(self) -> SplitData:
        pools = tuple(self._pools.values())
        return _split(self.name, pools, self._template, json.dumps(self.identity))

    def scored_text(self, prompt: str, response: str) -> str:
        return f"{prompt}{response.strip()}" if self._asks else join_answer(prompt, response)

    def tokenizer(self, vocab_size: int | None) -> PreTrainedTokenizerFast:
        check_vocabulary(self.name, vocab_size)
        pool = self.pool("pretrain") or [*self.pool("positive"), *self.pool("negative")]
        chosen = selection(len(pool), min(TOKENIZER_TEXTS, len(pool)), seed=0)
        texts = (f"{pool[i].prompt}{pool[i].response}" for i in chosen)
        return byte_pair_tokenizer(texts, vocab_size or VOCABULARY)

    def check_leakage(self) -> None:
        held_out = _HeldOut(self._data.prompts)
        for pool, examples in self._data.pools.items():
            for i, each in enumerate(examples):
                if held_out.holds(each.prompt, each.response):
                    raise TaskError(
                        f"task {self.name}: {pool} example {i} is also held out: "
                        f"{(each.prompt or each.response)[:90]!r}"
                    )


def _template(name: str, given: Any, asks: bool) -> str | None:
    """Return the template; None for a task of plain texts. Raises `TaskError` for a wrong one."""
    where = f"task {name}: data.template: "
    if given is None:
        return SLOT if asks else None
    if not asks:
        raise TaskError(f"{where}found {given!r}; no pool but prompts has a column prompt")
    if not isinstance(given, str) or given.count(SLOT) != 1:
        raise TaskError(f"{where}found {given!r}; a text with {SLOT} in it, once, is needed")
    if other := re.findall(r"\{\w+\}", given.replace(SLOT, "")):
        raise TaskError(f"{where}found {other[0]}; allowed: {SLOT}")
    return given


class _HeldOut:
    """The held-out prompts, to find examples that ask, are, or begin with one of them."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._asked = {normalise(prompt) for prompt in prompts}
        self._texts = HeldOut(self._asked)

    def holds(self, prompt: str, response: str) -> bool:
        if prompt:
            return normalise(prompt) in self._asked
        return self._texts.matches(response)


@lru_cache(maxsize=4)
def _split(task: str, origin: tuple[Pool, ...], template: str | None, identity: str) -> SplitData:
    """Read and split the data, once per process.

    `identity` makes the cache notice changed files.
    """
    read = {pool.name: pool.rows() for pool in origin}
    asked: dict[str, str] = {}
    for row in read["prompts"]:
        asked.setdefault(normalise(row.prompt), row.prompt)
    held_out = _HeldOut(asked.values())
    raw = {name: [_labelled(name, row) for row in read.get(name, ())] for name in POOLS}
    contradictory = _contradictory(row for name in POOLS[1:] for row in raw[name])
    taught: set[tuple[str, str]] = set()
    pools: dict[str, list[Example]] = {}
    for name in POOLS:
        seen = set(taught) if name == "scorer" else set()
        pools[name] = []
        for row in raw[name]:
            key = _key(row)
            if key in seen or key in contradictory or held_out.holds(row.prompt, row.response):
                continue
            seen.add(key)
            prompt = _filled(template, row.prompt) if row.prompt else ""
            pools[name].append(Example(prompt, row.response, row.label))
        taught |= seen
        if raw[name] and not pools[name]:
            raise TaskError(
                f"task {task}: data.pools.{name}: nothing is left of {len(raw[name]):,} rows: "
                "all are held out, in another pool or contradictory; one begins "
                f"{(raw[name][0].prompt or raw[name][0].response)[:60]!r}"
            )
    removed = {name: len(raw[name]) - len(pools[name]) for name in POOLS}
    prompts = [_filled(template, prompt) for prompt in asked.values()]
    return SplitData(prompts, pools, removed)


def _labelled(pool: str, row: Row) -> Row:
    """Return the row with the label of its pool; the scorer's rows have their own."""
    label = {"positive": 1, "negative": 0}.get(pool, row.label)
    return Row(row.prompt, row.response, label)


def _key(row: Row) -> tuple[str, str]:
    return normalise(row.prompt), normalise(row.response)


def _contradictory(rows: Iterable[Row]) -> set[tuple[str, str]]:
    labels: dict[tuple[str, str], int | None] = {}
    return {_key(row) for row in rows if labels.setdefault(_key(row), row.label) != row.label}


def _filled(template: str | None, prompt: str) -> str:
    return prompt if template is None else template.replace(SLOT, prompt)

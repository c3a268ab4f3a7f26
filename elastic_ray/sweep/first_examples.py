"""Shows the first example of each pool as the model will see it, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..tasks.task import POOLS, Example, Task

BEGIN, END = ">>>", "<<<"
"""Marks around what is trained on."""
_SHOWN = 240
"""Characters of a prompt or an answer that are shown: of a prompt its end, of an answer its
start."""


def example_lines(tasks: Mapping[str, Task]) -> Iterator[str]:
    """Yield a line for the first example of each pool of each task, and for the first prompt.

    `tasks` are those whose data could be read.
    """
    for name, task in tasks.items():
        for pool in POOLS:
            if examples := task.pool(pool):
                yield f"first of {len(examples):,} {pool} examples of {name}: {_shown(examples[0])}"
        if count := task.sizes["prompts"]:
            prompt = task.prompts(1)[0]
            yield f"first of {count:,} held-out prompts of {name}: {_end_of(prompt)!r}"
    if tasks:
        yield f"trained on is what stands between {BEGIN} and {END}; texts are shortened"


def _shown(example: Example) -> str:
    response = example.response[:_SHOWN] + ("..." if len(example.response) > _SHOWN else "")
    prompt = f"{_end_of(example.prompt)!r} " if example.prompt else ""
    end = " and the end token" if example.ends else ""
    label = "" if example.label is None else f" (label {example.label})"
    return f"{prompt}{BEGIN}{response!r}{end}{END}{label}"


def _end_of(prompt: str) -> str:
    return f"...{prompt[-_SHOWN:]}" if len(prompt) > _SHOWN else prompt

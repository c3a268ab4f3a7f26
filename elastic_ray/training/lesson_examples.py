"""The examples of a lesson: a state's recorded answers, from which another state learns."""

from __future__ import annotations

import hashlib

from ..plan import Answers, canonical
from ..results.store import Results
from ..tasks.task import Example


def lesson_examples(results: Results, answers: Answers) -> tuple[list[Example], str]:
    """Return the answers as examples, by prompt and sample, and the SHA-256 of their texts.

    An answer that was cut at the token limit becomes an example without an end token. Raises
    `ResultsError` if the answers are not recorded.
    """
    rows = results.read("responses", **answers._asdict()).to_pylist()
    rows.sort(key=lambda row: (row["prompt_index"], row["sample"]))
    examples = [
        Example(row["prompt"], row["response"], ends=row["finish_reason"] == "stop") for row in rows
    ]
    content = canonical([[each.prompt, each.response, each.ends] for each in examples])
    return examples, hashlib.sha256(content.encode("ascii")).hexdigest()

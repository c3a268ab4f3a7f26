"""What a state learns from another one's answers, as they are on record."""

from __future__ import annotations

import hashlib

from ..plan import Answers, canonical
from ..results.store import Results
from ..tasks.task import Example


def taught(results: Results, answers: Answers) -> tuple[list[Example], str]:
    """The answers as examples, by prompt and sample, and the SHA-256 of their texts.

    An answer that was cut, and did not end by itself, teaches no end. `ResultsError` where the
    answers are not on record.
    """
    rows = results.read("responses", **answers._asdict()).to_pylist()
    rows.sort(key=lambda row: (row["prompt_index"], row["sample"]))
    examples = [
        Example(row["prompt"], row["response"], ends=row["finish_reason"] == "stop") for row in rows
    ]
    said = canonical([[each.prompt, each.response, each.ends] for each in examples])
    return examples, hashlib.sha256(said.encode("ascii")).hexdigest()

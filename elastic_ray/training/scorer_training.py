"""A task's own scorer, where there is no hub: a small RoBERTa trained once on labelled texts.

It learns from the task's `scorer` pool, which shares no text with anything else, for as long as it
gets better on a tenth of it, and is judged on another tenth that it never saw. The folder, with its
accuracy in `scorer.json`, appears at once when all is done; one that is there is used as it is.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..checkpoints.files import checkpoint_checksum
from ..results.store import Results
from ..tasks.registry import load_task
from ..tasks.subsets import selection
from ..tasks.task import Example
from .provenance import versions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

HIDDEN, LAYERS, HEADS = 64, 2, 2
POSITIONS = 514
"""RoBERTa numbers positions from the padding id + 1, so 512 tokens at most."""
LONGEST = 256
"""Tokens it learns from; longer texts are cut."""
RECORD = "scorer.json"
"""The file of a scorer's folder that says how good it is; the scorer is there when this is."""
BATCH, RATE, SEED = 32, 1e-3, 0
WARM_UP = 50
"""Steps of growing rate."""
ROUND = 4_000
"""Examples between two looks at how good it has become."""
ROUNDS, PATIENCE = 20, 3
"""Rounds at most, and rounds without getting better after which it stops."""


def train_classifier(
    uri: str, task_name: str, data: Mapping[str, Any], scorer: str
) -> dict[str, Any]:
    """The record of the scorer: `accuracy` on `held_out` texts, `examples`, `checksum`, versions.

    Trains it into `scorers/<scorer>` if it is not there yet.
    """
    results = Results(uri, patient=True)
    place = f"scorers/{scorer}"
    there = results.folder.get(f"{place}/{RECORD}")
    if there is not None:
        return dict(json.loads(there))

    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    began = time.monotonic()
    task = load_task(task_name, data)
    tokenizer = task.tokenizer(None)
    labelled = task.pool("scorer")
    pool = [replace(e, prompt="", response=task.judged(e.prompt, e.response)) for e in labelled]
    shuffled = [pool[i] for i in selection(len(pool), len(pool), SEED)]
    tenth = len(pool) // 10
    held, watched, known = shuffled[:tenth], shuffled[tenth : 2 * tenth], shuffled[2 * tenth :]
    torch.manual_seed(SEED)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    model = RobertaForSequenceClassification(config)
    _learn(model, tokenizer, known, watched)
    record = {
        "accuracy": _accuracy(model, tokenizer, held),
        "held_out": len(held),
        "examples": len(known),
        "seconds": time.monotonic() - began,
        "versions": versions(),
    }
    scratch = results.folder.scratch()
    try:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        record["checksum"] = checkpoint_checksum(scratch)
        (scratch / RECORD).write_text(json.dumps(record), encoding="utf-8")
        results.folder.put_folder(scratch, place, last=RECORD)
    except Exception:
        results.folder.discard(scratch)
        raise
    return record


def _learn(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    known: Sequence[Example],
    watched: Sequence[Example],
) -> None:
    """Train on `known`; the weights are those that were best on `watched`."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    batches = _batches(known)
    best, since, kept = -1.0, 0, {}
    step = 0
    for _ in range(ROUNDS):
        model.train()
        for _ in range(ROUND // BATCH):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, step / WARM_UP)
            inputs, labels = _inputs(tokenizer, next(batches))
            model(**inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        reached = _accuracy(model, tokenizer, watched)
        since += 1
        if reached > best:
            best, since = reached, 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        if since >= PATIENCE:
            break
    model.load_state_dict(kept)


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Batches without end, epoch after epoch; what is left over of an epoch is left out."""
    for epoch in itertools.count():
        order = selection(len(examples), len(examples), SEED + 1, epoch)
        size = min(BATCH, len(order))
        for start in range(0, len(order) - size + 1, size):
            yield [examples[i] for i in order[start : start + size]]


def _accuracy(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> float:
    import torch

    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(examples), 256):
            inputs, labels = _inputs(tokenizer, examples[start : start + 256])
            right += int((model(**inputs).logits.argmax(-1) == labels).sum())
    return right / len(examples)


def _inputs(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> tuple[dict[str, Any], torch.Tensor]:
    import torch

    texts = [e.response for e in examples]
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    return dict(inputs), torch.tensor([e.label for e in examples])

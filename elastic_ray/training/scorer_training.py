"""Trains a task's own scorer, for tasks whose scorer is not on the hub: a small RoBERTa classifier.

It is trained on the task's `scorer` pool, which shares no text with the other pools, until its
accuracy on a validation tenth stops improving; its reported accuracy is on another held-out tenth.
The scorer's folder appears complete, with `scorer.json` last, and is then used as it is.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..checkpoints.files import checkpoint_checksum
from ..plan import TRAINED
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
MAX_TOKENS = 256
"""Tokens of a text that it reads; longer texts are cut."""
RECORD = "scorer.json"
"""File of a scorer's folder that holds its accuracy. The scorer is complete when it exists."""
BATCH, RATE, SEED = 32, 1e-3, 0
WARMUP_STEPS = 50
ROUND_EXAMPLES = 4_000
"""Examples between two measurements of the validation accuracy."""
MAX_ROUNDS = 20
PATIENCE = 3
"""Rounds without a better validation accuracy after which training stops."""


ByLabel = list[tuple[int, int]]
"""Of the labels 0 and 1: texts that were classified correctly, and texts."""


def train_classifier(
    uri: str, task_name: str, data: Mapping[str, Any], scorer: str
) -> Iterator[ByLabel | dict[str, Any]]:
    """Train the scorer into the folder `scorers/<scorer>` of the results, unless it exists.

    Yields how it classifies the validation texts after each round, and at the end its record:
    `accuracy` on `held_out` texts, `by_label` of these, `examples`, `seconds`, `checksum` and
    `versions`.
    """
    results = Results(uri, patient=True)
    name = f"scorers/{scorer}"
    existing = results.folder.get(f"{name}/{RECORD}")
    if existing is not None:
        yield dict(json.loads(existing))
        return

    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    began = time.monotonic()
    task = load_task(task_name, data)
    tokenizer = task.tokenizer(None)
    labelled = task.pool("scorer")
    pool = [
        replace(e, prompt="", response=task.scored_text(e.prompt, e.response)) for e in labelled
    ]
    shuffled = [pool[i] for i in selection(len(pool), len(pool), SEED)]
    tenth = len(pool) // 10
    held_out, validation = shuffled[:tenth], shuffled[tenth : 2 * tenth]
    training = shuffled[2 * tenth :]
    torch.manual_seed(SEED)
    config = RobertaConfig(  # type: ignore[call-arg]  # num_labels goes to the base class
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
        num_labels=len(TRAINED.labels),
        id2label=dict(enumerate(TRAINED.labels)),
        label2id={name: i for i, name in enumerate(TRAINED.labels)},
    )
    model = RobertaForSequenceClassification(config)  # type: ignore[no-untyped-call]  # no annotations
    yield from _fit(model, tokenizer, training, validation)
    by_label = _by_label(model, tokenizer, held_out)
    record = {
        "accuracy": sum(right for right, _ in by_label) / len(held_out),
        "by_label": by_label,
        "held_out": len(held_out),
        "examples": len(training),
        "seconds": time.monotonic() - began,
        "versions": versions(),
    }
    scratch = results.folder.scratch()
    try:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        record["checksum"] = checkpoint_checksum(scratch)
        (scratch / RECORD).write_text(json.dumps(record), encoding="utf-8")
        results.folder.put_folder(scratch, name, last=RECORD)
    except Exception:
        results.folder.discard(scratch)
        raise
    yield record


def _fit(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    training: Sequence[Example],
    validation: Sequence[Example],
) -> Iterator[ByLabel]:
    """Train the model and leave it with the weights that were best on the validation examples.

    Yields how it classifies these after each round.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    batches = _batches(training)
    best_accuracy, rounds_since_best, best_weights = -1.0, 0, {}
    step = 0
    for _ in range(MAX_ROUNDS):
        model.train()
        for _ in range(ROUND_EXAMPLES // BATCH):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, step / WARMUP_STEPS)
            inputs, labels = _inputs(tokenizer, next(batches))
            model(**inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        by_label = _by_label(model, tokenizer, validation)
        yield by_label
        accuracy = sum(right for right, _ in by_label) / len(validation)
        rounds_since_best += 1
        if accuracy > best_accuracy:
            best_accuracy, rounds_since_best = accuracy, 0
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
        if rounds_since_best >= PATIENCE:
            break
    model.load_state_dict(best_weights)


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Yield batches without end, epoch after epoch, without the incomplete batch of an epoch."""
    for epoch in itertools.count():
        order = selection(len(examples), len(examples), SEED + 1, epoch)
        size = min(BATCH, len(order))
        for start in range(0, len(order) - size + 1, size):
            yield [examples[i] for i in order[start : start + size]]


def _by_label(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> ByLabel:
    """Return how the model classifies the examples."""
    import torch

    model.eval()
    right, texts = [0, 0], [0, 0]
    with torch.inference_mode():
        for start in range(0, len(examples), 256):
            inputs, labels = _inputs(tokenizer, examples[start : start + 256])
            correct = model(**inputs).logits.argmax(-1) == labels
            for label in (0, 1):
                right[label] += int(correct[labels == label].sum())
                texts[label] += int((labels == label).sum())
    return list(zip(right, texts, strict=True))


def _inputs(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the model's padded inputs and the labels of some examples."""
    import torch

    texts = [e.response for e in examples]
    inputs = tokenizer(
        texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    return dict(inputs), torch.tensor([e.label for e in examples])

"""Batched forward passes of transformers models: sampled answers, and nats of given tokens.

Each answer has its own random generator, so that it does not depend on the rest of the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from ..types import Sampling
from .code_length import Window


def sample_batch(
    model: Any,
    questions: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    ends: Collection[int],
) -> list[list[int]]:
    """Return the tokens of one sampled answer per question, each drawn with its own seed.

    An answer ends with the first of the tokens `ends`, which is included, or after
    `sampling.max_tokens` tokens.
    """
    next_ids, mask = left_padded(questions)
    next_ids, mask = next_ids.to(model.device), mask.to(model.device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    sampled: list[list[int]] = [[] for _ in questions]
    unfinished = [True] * len(questions)
    cache = None
    with torch.inference_mode():
        for _ in range(sampling.max_tokens):
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -next_ids.shape[1] :]
            out = model(
                input_ids=next_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            logits = out.logits[:, -1].float().cpu()
            tokens = [
                sample_token(logits[i], sampling, generators[i]) if unfinished[i] else 0
                for i in range(len(questions))
            ]
            for i, token in enumerate(tokens):
                if unfinished[i]:
                    sampled[i].append(token)
                    unfinished[i] = token not in ends
            if not any(unfinished):
                break
            next_ids = torch.tensor(tokens, device=model.device)[:, None]
            mask = torch.cat([mask, torch.ones_like(next_ids)], dim=1)
    return sampled


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of shape (rows, longest), padded with 0 on the left.

    The tokenizer's own padding is a setting of an object that threads share: one thread would
    change it while another one tokenizes.
    """
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens, dtype=torch.long)
        mask[row, longest - len(tokens) :] = 1
    return ids, mask


def sample_token(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return one token from logits of shape (vocabulary,): temperature, then top-k, then top-p."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled, order = (logits / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        scaled, order = scaled[: sampling.top_k], order[: sampling.top_k]
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = torch.where(before < sampling.top_p, probabilities, torch.zeros(()))
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def window_nats(model: Any, windows: Sequence[Window]) -> list[float]:
    """Return the negative log-probability (nats) of each window's coded tokens, in one batch."""
    longest = max(len(window.ids) for window in windows)
    ids = torch.zeros((len(windows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        mask[row, : len(window.ids)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        log_probabilities = logits[:, :-1].float().log_softmax(-1)
        taken = log_probabilities.gather(-1, ids[:, 1:, None])[..., 0].double().cpu()
    return [
        -float(taken[row, window.given - 1 : len(window.ids) - 1].sum())
        for row, window in enumerate(windows)
    ]

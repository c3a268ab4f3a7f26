"""Distances between two states' next-token distributions on given texts, over the vocabulary.

At each position where a token is predicted, with p the distribution of the reference state and q
that of the other state, in nats (`tv` has no unit):

    cross_entropy   H(p, q) = -sum p log q     the paper's distance (section 3.3); H(p, p) is the
                                               entropy of p, not zero
    kl              sum p log(p / q)           = H(p, q) - H(p, p)
    js              the mean of KL(p, m) and KL(q, m), m = (p + q) / 2; from 0 to log 2
    tv              half of sum |p - q|; from 0 to 1

The last three are exactly zero between a state and itself. Texts are read in blocks of tokens with
a key-value cache, so that the logits of one block at most are in memory, however long the text and
large the vocabulary. Sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...elasticity import METRICS
from ...tasks.prompt_tokens import prompt_ids
from ..errors import EngineError
from ..types import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64
"""Tokens per block. Per model, 64 x 256,000 logits in float64 are 131 MB."""


@dataclass(frozen=True)
class TokenizedText:
    """A text as token ids. The predictions of the tokens from index `start` on are compared."""

    ids: tuple[int, ...]
    start: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.ids):
            raise EngineError(
                f"a text of {len(self.ids)} tokens: found start {self.start}; at least one token "
                "has to come before it, and one from it on"
            )


def tokenize_answer(tokenizer: Any, answer: Answer, context: int) -> TokenizedText | None:
    """Return the tokens of an answer after its prompt; None if the answer has no token.

    The end token is included if the answer ended by itself. The text is cut at `context` tokens:
    decoded and tokenized again, an answer may take one token more than it had.
    """
    (head,) = prompt_ids(tokenizer, [answer.prompt])
    tail = list(tokenizer(answer.response, add_special_tokens=False).input_ids)
    if answer.finish_reason == "stop" and tokenizer.eos_token_id is not None:
        tail.append(tokenizer.eos_token_id)
    ids = (head + tail)[:context]
    return TokenizedText(tuple(ids), len(head)) if len(head) < len(ids) else None


@dataclass(frozen=True)
class TextDistances:
    """The distances on one text, each the mean over its positions."""

    cross_entropy: float
    kl: float
    js: float
    tv: float
    tokens: int
    """Number of positions."""


def position_distances(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the distances at each position, shape (4, positions) in the order of `METRICS`.

    Both inputs are logits of shape (positions, vocabulary); the result is in float64. Raises
    `EngineError` if the shapes differ.
    """
    if reference.shape != other.shape or reference.dim() != 2:
        raise EngineError(
            f"logits of shapes {tuple(reference.shape)} and {tuple(other.shape)}: the two states "
            "need one vocabulary, in shape (positions, vocabulary)"
        )
    log_p = reference.double().log_softmax(-1)
    log_q = other.double().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    log_ratio = log_q - log_p
    return torch.stack(
        [
            -_expectation(p, log_q),
            -_expectation(p, log_ratio),
            -0.5
            * (
                _expectation(p, _log_mean_ratio(log_ratio))
                + _expectation(q, _log_mean_ratio(-log_ratio))
            ),
            0.5 * (p - q).abs().sum(-1),
        ]
    )


def _expectation(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean of `values` under `p`; tokens of probability 0 count nothing, even where the
    value is infinite."""
    return torch.where(p > 0, p * values, 0.0).sum(-1)


def _log_mean_ratio(log_ratio: torch.Tensor) -> torch.Tensor:
    """Return log((1 + e^x) / 2), exactly 0 at 0: log(m / p) from x = log(q / p)."""
    return torch.logaddexp(torch.zeros_like(log_ratio), log_ratio) - math.log(2.0)


def text_distances(
    reference: PreTrainedModel,
    other: PreTrainedModel,
    texts: Sequence[TokenizedText],
    block: int = BLOCK,
) -> list[TextDistances]:
    """Return the distances on each text between two models with one tokenizer, in order."""
    return [_distances_on(reference, other, text, block) for text in texts]


def _distances_on(
    reference: PreTrainedModel, other: PreTrainedModel, text: TokenizedText, block: int
) -> TextDistances:
    total = torch.zeros(len(METRICS), dtype=torch.float64)
    pairs = zip(
        blockwise_logits(reference, text, block),
        blockwise_logits(other, text, block),
        strict=True,
    )
    for p_logits, q_logits in pairs:
        total += position_distances(p_logits, q_logits.to(p_logits.device)).sum(-1).cpu()
    positions = len(text.ids) - text.start
    means = dict(zip(METRICS, (total / positions).tolist(), strict=True))
    return TextDistances(**means, tokens=positions)


def blockwise_logits(
    model: PreTrainedModel, text: TokenizedText, block: int
) -> Iterator[torch.Tensor]:
    """Yield the logits that predict the tokens from `text.start` on, up to `block` positions at a
    time, each of shape (positions, vocabulary)."""
    ids = torch.tensor([text.ids[:-1]], device=model.device)
    cache = None
    for begin in range(0, ids.shape[1], block):
        with torch.inference_mode():
            out = model(ids[:, begin : begin + block], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        compared = out.logits[0, max(0, text.start - 1 - begin) :]
        if len(compared):
            yield compared

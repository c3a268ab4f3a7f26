"""How far apart two states' token distributions are on given texts, over the whole vocabulary.

At every place of a text where a token is to be predicted, with p the reference's distribution and
q the other's, in nats (`tv` has no unit):

    cross_entropy   H(p, q) = -sum p log q     the paper's distance (section 3.3); H(p, p) is p's
                                               entropy, not zero
    kl              sum p log(p / q)           = H(p, q) - H(p, p)
    js              half of KL(p, m) and KL(q, m) each, m = (p + q) / 2; from 0 to log 2
    tv              half of sum |p - q|; from 0 to 1

The last three are exactly zero of a state against itself. Texts are read in blocks of tokens whose
keys and values are kept, so at most a block's logits are held at once, however long the text and
large the vocabulary; sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...elasticity import METRICS
from ..errors import EngineError
from ..types import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 64
"""Tokens whose logits are held at once, of each model: 64 x 256,000 in float64 are 131 MB."""


@dataclass(frozen=True)
class Tokens:
    """A text as tokens; the distributions that predict those from number `start` are compared."""

    ids: tuple[int, ...]
    start: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.ids):
            raise EngineError(
                f"a text of {len(self.ids)} tokens: found start {self.start}; at least one token "
                "has to come before it, and one from it on"
            )


def tokens_of(tokenizer: Any, answer: Answer, longest: int) -> Tokens | None:
    """An answer after its prompt, with the end token if it ended by itself; None if it is empty.

    `longest` tokens at most: cut from text to tokens again, an answer may take one more than it
    had.
    """
    head = list(tokenizer(answer.prompt).input_ids)
    tail = list(tokenizer(answer.response, add_special_tokens=False).input_ids)
    if answer.finish_reason == "stop" and tokenizer.eos_token_id is not None:
        tail.append(tokenizer.eos_token_id)
    ids = (head + tail)[:longest]
    return Tokens(tuple(ids), len(head)) if len(head) < len(ids) else None


@dataclass(frozen=True)
class Distance:
    """The distances of a text, each the mean over its places; `tokens` places."""

    cross_entropy: float
    kl: float
    js: float
    tv: float
    tokens: int


def between(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The distances of each place, shape (4, places) as in `METRICS`, float64.

    From logits of shape (places, vocabulary), of which only differences count.
    """
    if reference.shape != other.shape or reference.dim() != 2:
        raise EngineError(
            f"logits of shapes {tuple(reference.shape)} and {tuple(other.shape)}: the two states "
            "need one vocabulary, in shape (places, vocabulary)"
        )
    log_p = reference.double().log_softmax(-1)
    log_q = other.double().log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    apart = log_q - log_p
    return torch.stack(
        [
            -_expected(p, log_q),
            -_expected(p, apart),
            -0.5 * (_expected(p, _half(apart)) + _expected(q, _half(-apart))),
            0.5 * (p - q).abs().sum(-1),
        ]
    )


def _expected(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The mean of `values` under `p`; what has no probability counts nothing, infinite or not."""
    return torch.where(p > 0, p * values, 0.0).sum(-1)


def _half(apart: torch.Tensor) -> torch.Tensor:
    """log of (1 + e^x) / 2, exactly 0 at 0: the middle of two distributions over the first."""
    return torch.logaddexp(torch.zeros_like(apart), apart) - math.log(2.0)


def of_texts(
    reference: PreTrainedModel,
    other: PreTrainedModel,
    texts: Sequence[Tokens],
    block: int = BLOCK,
) -> list[Distance]:
    """The distances of each text between two models of one tokenizer, in order."""
    return [_of_text(reference, other, text, block) for text in texts]


def _of_text(
    reference: PreTrainedModel, other: PreTrainedModel, text: Tokens, block: int
) -> Distance:
    total = torch.zeros(len(METRICS), dtype=torch.float64)
    pairs = zip(
        logits_in_blocks(reference, text, block),
        logits_in_blocks(other, text, block),
        strict=True,
    )
    for one, two in pairs:
        total += between(one, two.to(one.device)).sum(-1).cpu()
    places = len(text.ids) - text.start
    return Distance(*(total / places).tolist(), places)


def logits_in_blocks(model: PreTrainedModel, text: Tokens, block: int) -> Iterator[torch.Tensor]:
    """Logits of the places that predict the tokens from `text.start`, at most `block` at once.

    Each of shape (places, vocabulary).
    """
    ids = torch.tensor([text.ids[:-1]], device=model.device)
    kept = None
    for begin in range(0, ids.shape[1], block):
        with torch.inference_mode():
            out = model(ids[:, begin : begin + block], past_key_values=kept, use_cache=True)
        kept = out.past_key_values
        counted = out.logits[0, max(0, text.start - 1 - begin) :]
        if len(counted):
            yield counted

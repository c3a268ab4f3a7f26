"""The engine where vLLM cannot be had: transformers, one answer's randomness apart from another's.

Slower, but the same interface and the same rules: answers repeat, do not depend on what else is in
the batch, and carry the state that was held.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...checkpoints.files import CheckpointError, checkpoint_checksum
from ...elasticity import METRICS
from ..errors import EngineError
from ..types import (
    Answer,
    CodedText,
    CodeLengthResult,
    DistanceResult,
    EngineConfig,
    Sampling,
    Weights,
)
from .code_length import Window, measured, windows
from .context import Prompts, check_fits, longest_text
from .distances import of_texts, tokens_of

ROWS = 64
"""Prompts in one batch."""
READ_ROWS = 8
"""Windows of text in one batch: every token of them has its probabilities."""


class TransformersEngine:
    """transformers' forward pass with its own sampling loop."""

    def __init__(self, config: EngineConfig, notice: str | None = None) -> None:
        import torch
        import transformers

        self._config, self.notice = config, notice
        self._longest = longest_text(config)
        self.version = f"transformers {transformers.__version__}"
        self._device = "cuda" if config.gpus and torch.cuda.is_available() else "cpu"
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            config.checkpoint,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            padding_side="left",
        )
        if (
            self._tokenizer.pad_token_id is None
        ):  # Llama 2 has none; the mask hides what stands there
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._models: dict[str, Any] = {}
        self._held = "none"
        self._reference: tuple[Weights, Any] | None = None
        self._lock = threading.Lock()

    async def load_weights(self, weights: Weights) -> None:
        await asyncio.to_thread(self._take, weights)

    def _take(self, weights: Weights) -> None:
        self._models, self._held = {}, "none"
        self._models["base"] = self._checked(weights)
        self._held = weights.full_state_id

    def _checked(self, weights: Weights) -> Any:
        """The full model of a state, its files as they are on record."""
        if weights.checksum is not None and weights.revision is None:
            try:
                same = checkpoint_checksum(weights.checkpoint) == weights.checksum
            except OSError as e:
                raise CheckpointError(f"state {weights.full_state_id}: {e}") from None
            if not same:
                raise CheckpointError(
                    f"state {weights.full_state_id}: {weights.checkpoint}: its weights are not those on "
                    "record (checksum)"
                )
        return self._load(weights)

    def _load(self, weights: Weights) -> Any:
        from transformers import AutoModelForCausalLM

        try:
            model = AutoModelForCausalLM.from_pretrained(
                weights.checkpoint,
                revision=weights.revision,
                dtype=self._config.dtype,
                use_safetensors=True,
                trust_remote_code=self._config.trust_remote_code,
            )
        except Exception as e:
            raise CheckpointError(
                f"state {weights.full_state_id}: {type(e).__name__}: {e}"
            ) from None
        return model.to(self._device).eval()

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        return await asyncio.to_thread(self._answer, weights, prompts, sampling)

    def _answer(self, weights: Weights, prompts: Prompts, sampling: Sampling) -> list[Answer]:
        rows = [(i, text, s) for i, text in prompts for s in range(sampling.samples)]
        answers: list[Answer] = []
        with self._model(weights) as (model, held):
            for start in range(0, len(rows), ROWS):
                answers += self._batch(model, rows[start : start + ROWS], sampling, held)
        return answers

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], size: int
    ) -> list[CodeLengthResult]:
        return await asyncio.to_thread(self._measure, weights, texts, size)

    def _measure(
        self, weights: Weights, texts: Sequence[CodedText], size: int
    ) -> list[CodeLengthResult]:
        parts = windows(self._tokenizer, texts, size, self._longest)
        read: list[tuple[float, str]] = []
        with self._model(weights) as (model, held):
            for start in range(0, len(parts), READ_ROWS):
                some = parts[start : start + READ_ROWS]
                read += [(nats, held) for nats in self._read(model, some)]
        return measured(texts, parts, read)

    async def distances(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> list[DistanceResult]:
        """The state's distances from `reference` on that one's `answers`, in order; those that
        hold no token are left out. The reference's weights are kept for the next call."""
        return await asyncio.to_thread(self._compare, weights, reference, answers)

    def _compare(
        self, weights: Weights, reference: Weights, answers: Sequence[Answer]
    ) -> list[DistanceResult]:
        texts = [tokens_of(self._tokenizer, answer, self._longest) for answer in answers]
        told = [(answer, text) for answer, text in zip(answers, texts, strict=True) if text]
        with self._model(weights) as (model, held):
            other, known = self._reference_model(reference)
            found = of_texts(other, model, [text for _, text in told])
        return [
            DistanceResult(
                answer.prompt_index,
                answer.sample,
                {metric: getattr(each, metric) for metric in METRICS},
                each.tokens,
                held,
                known,
            )
            for (answer, _), each in zip(told, found, strict=True)
        ]

    def _reference_model(self, reference: Weights) -> tuple[Any, str]:
        """The reference's model, and the state that was loaded."""
        if self._reference is None or self._reference[0] != reference:
            self._reference = None  # two at a time are enough to hold
            model = self._checked(reference)
            if reference.adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, reference.adapter).eval()
            self._reference = (reference, model)
        return self._reference[1], self._reference[0].state_id

    def _read(self, model: Any, parts: Sequence[Window]) -> list[float]:
        """The nats of each window's coded tokens."""
        import torch

        longest = max(len(part.ids) for part in parts)
        ids = torch.zeros((len(parts), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, part in enumerate(parts):
            ids[row, : len(part.ids)] = torch.tensor(part.ids)
            mask[row, : len(part.ids)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            chances = logits[:, :-1].float().log_softmax(-1)
            taken = chances.gather(-1, ids[:, 1:, None])[..., 0].double().cpu()
        return [
            -float(taken[row, part.given - 1 : len(part.ids) - 1].sum())
            for row, part in enumerate(parts)
        ]

    @contextmanager
    def _model(self, weights: Weights) -> Iterator[tuple[Any, str]]:
        """The model, its adapter laid over it, and the state that this makes it."""
        with self._lock:
            if self._held != weights.full_state_id:
                raise EngineError(
                    f"asked of {weights.full_state_id}, but the engine holds {self._held}"
                )
            base = self._models["base"]
            if weights.adapter is None:
                yield base, self._held
                return
            from peft import PeftModel

            laid = PeftModel.from_pretrained(base, weights.adapter).eval()
            try:
                yield laid, weights.state_id
            finally:
                laid.unload()

    def _batch(
        self, model: Any, rows: list[tuple[int, str, int]], sampling: Sampling, held: str
    ) -> list[Answer]:
        import torch

        inputs = self._tokenizer([text for _, text, _ in rows], return_tensors="pt", padding=True)
        check_fits(inputs["input_ids"].shape[1] + sampling.max_tokens, self._longest)
        ids = inputs["input_ids"].to(self._device)
        mask = inputs["attention_mask"].to(self._device)
        seeds = [sampling.request_seed(index, sample) for index, _, sample in rows]
        random = [torch.Generator().manual_seed(seed) for seed in seeds]
        end = self._tokenizer.eos_token_id
        drawn: list[list[int]] = [[] for _ in rows]
        open_rows = [True] * len(rows)
        past, step = None, ids
        with torch.inference_mode():
            for _ in range(sampling.max_tokens):
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
                out = model(
                    input_ids=step,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=past,
                    use_cache=True,
                )
                past = out.past_key_values
                logits = out.logits[:, -1].float().cpu()
                nexts = [
                    draw(logits[i], sampling, random[i]) if open_rows[i] else 0
                    for i in range(len(rows))
                ]
                for i, token in enumerate(nexts):
                    if open_rows[i]:
                        drawn[i].append(token)
                        open_rows[i] = token != end
                if not any(open_rows):
                    break
                step = torch.tensor(nexts, device=self._device)[:, None]
                mask = torch.cat([mask, torch.ones_like(step)], dim=1)
        return [
            Answer(
                index,
                sample,
                text,
                self._tokenizer.decode(tokens, skip_special_tokens=True),
                len(tokens),
                "stop" if tokens and tokens[-1] == end else "length",
                held,
                seed,
                self.version,
            )
            for (index, text, sample), tokens, seed in zip(rows, drawn, seeds, strict=True)
        ]

    async def check_health(self) -> None:
        return None

    async def close(self) -> None:
        self._models, self._held, self._reference = {}, "none", None


def draw(logits: Any, sampling: Sampling, random: Any) -> int:
    """One token from logits of shape (vocabulary,): temperature, then top-k, then top-p."""
    import torch

    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled, order = (logits / sampling.temperature).sort(descending=True, stable=True)
    if sampling.top_k:
        scaled, order = scaled[: sampling.top_k], order[: sampling.top_k]
    chances = scaled.softmax(-1)
    if sampling.top_p < 1:
        before = chances.cumsum(-1) - chances
        chances = torch.where(before < sampling.top_p, chances, torch.zeros(()))
    return int(order[torch.multinomial(chances, 1, generator=random)])

"""Scorers: a sequence classifier behind vLLM's pooling, or transformers; the second seam."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from .engine import check_vllm, longest_text, why_no_vllm
from .values import EngineError, Score, ScorerConfig, to_score


class Judge(Protocol):
    """What a replica needs of a scorer."""

    version: str
    notice: str | None

    async def score(self, texts: Sequence[str]) -> list[Score]: ...

    async def check(self) -> None:
        """Raises if the scorer can score no more."""
        ...

    async def close(self) -> None: ...


def make_judge(config: ScorerConfig) -> Judge:
    """The scorer that the configuration asks for; `EngineError` where it cannot be had."""
    if config.kind == "transformers":
        return PlainJudge(config)
    missing = why_no_vllm()
    if missing is None:
        return VllmJudge(config)
    if config.kind == "vllm":
        raise EngineError(f"scorer {config.name}: vLLM cannot be had here: {missing}")
    return PlainJudge(config, f"vLLM cannot be had here ({missing}); transformers steps in")


class VllmJudge:
    """vLLM's pooling runner; one raw value where the classifier has one output."""

    notice: str | None = None

    def __init__(self, config: ScorerConfig) -> None:
        import vllm
        from transformers import AutoTokenizer
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._config = config
        self.version = f"vllm {vllm.__version__}"
        self._longest = longest_text(config)
        self._tokenizer = AutoTokenizer.from_pretrained(
            config.checkpoint,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
        args: dict[str, Any] = {} if config.gpus else {"distributed_executor_backend": "uni"}
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=config.checkpoint,
                revision=config.revision,
                runner="pooling",
                convert="classify",
                max_model_len=self._longest,
                enforce_eager=True,
                dtype="auto" if config.gpus else "float32",
                trust_remote_code=config.trust_remote_code,
                disable_log_stats=True,
                **args,
            ),
        )
        self._requests = 0

    async def score(self, texts: Sequence[str]) -> list[Score]:
        return list(await asyncio.gather(*(self._one(text) for text in texts)))

    async def _one(self, text: str) -> Score:
        from vllm import PoolingParams

        ids = self._tokenizer(text, truncation=True, max_length=self._longest).input_ids
        self._requests += 1
        last = None
        # A single output is taken raw: vLLM would apply a sigmoid of its own.
        raw = self._llm.model_config.hf_config.num_labels == 1
        async for output in self._llm.encode(
            {"prompt_token_ids": ids},
            PoolingParams(task="classify", use_activation=not raw),
            request_id=str(self._requests),
        ):
            last = output
        if last is None:
            raise EngineError(f"scorer {self._config.name}: no output")
        return to_score([float(x) for x in last.outputs.data.flatten()], self._config)

    async def check(self) -> None:
        await check_vllm(self._llm)

    async def close(self) -> None:
        self._llm.shutdown()


class PlainJudge:
    """transformers' sequence classification."""

    def __init__(self, config: ScorerConfig, notice: str | None = None) -> None:
        import transformers

        self._config, self.notice = config, notice
        self.version = f"transformers {transformers.__version__}"
        self._longest = longest_text(config)
        options = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(config.checkpoint, **options)
        self._model = transformers.AutoModelForSequenceClassification.from_pretrained(
            config.checkpoint, use_safetensors=True, dtype="float32", **options
        ).eval()

    async def score(self, texts: Sequence[str]) -> list[Score]:
        return await asyncio.to_thread(self._score, texts)

    def _score(self, texts: Sequence[str]) -> list[Score]:
        import torch

        found: list[Score] = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                inputs = self._tokenizer(
                    list(texts[start : start + 64]),
                    padding=True,
                    truncation=True,
                    max_length=self._longest,
                    return_tensors="pt",
                )
                inputs.pop("token_type_ids", None)
                logits = self._model(**inputs).logits.float()
                rows = logits if logits.shape[1] == 1 else logits.softmax(-1)
                found += [to_score([float(x) for x in row], self._config) for row in rows]
        return found

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

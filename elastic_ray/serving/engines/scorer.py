"""Scorers: a sequence classifier behind vLLM's pooling, or transformers; the second seam.

A score model of safe-rlhf is served by either as `score_model` has it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ...checkpoints.hub import download_model
from ..errors import EngineError
from ..types import Score, ScorerConfig, score_from_outputs
from .context import longest_text
from .heartbeat import Heartbeat
from .vllm_runtime import check_vllm, vllm_unavailable_reason

BATCH = 64
"""Texts that transformers reads at once."""


class ScorerBackend(Protocol):
    """What a replica needs of a scorer."""

    version: str
    notice: str | None

    async def score(self, texts: Sequence[str]) -> list[Score]: ...

    async def check_health(self) -> None:
        """Raises if the scorer can score no more."""
        ...

    async def close(self) -> None: ...


def make_scorer_backend(config: ScorerConfig) -> ScorerBackend:
    """The scorer that the configuration asks for; `EngineError` where it cannot be had."""
    if config.kind == "transformers":
        return TransformersScorer(config)
    missing = vllm_unavailable_reason()
    if missing is None:
        return VllmScorer(config)
    if config.kind == "vllm":
        raise EngineError(f"scorer {config.name}: vLLM cannot be had here: {missing}")
    return TransformersScorer(config, f"vLLM cannot be had here ({missing}); transformers steps in")


class _Reader:
    """A scorer's tokenizer, and how it cuts and ends texts."""

    def __init__(self, config: ScorerConfig) -> None:
        from transformers import AutoConfig, AutoTokenizer

        from .score_model import is_score_model

        options: dict[str, Any] = {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
        }
        self.is_score_model = is_score_model(
            AutoConfig.from_pretrained(config.checkpoint, **options)
        )
        self.longest = longest_text(config)
        self.tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, **options)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, cut at what the model takes."""
        from .score_model import ended

        if self.is_score_model:
            return ended(self.tokenizer, texts, self.longest)
        found = self.tokenizer(list(texts), truncation=True, max_length=self.longest)
        return list(found.input_ids)


class VllmScorer:
    """vLLM's pooling runner; one raw value where the classifier has one output."""

    notice: str | None = None

    def __init__(self, config: ScorerConfig) -> None:
        import vllm

        from .score_model import as_classifier

        self._config = config
        self.version = f"vllm {vllm.__version__}"
        self._reader = _Reader(config)
        self._requests = 0
        if not self._reader.is_score_model:
            self._llm = self._start(config.checkpoint, config.revision)
        else:
            # vLLM has read the weights when it has started, and needs their folder no more.
            with tempfile.TemporaryDirectory(prefix="elastic_ray-scorer-") as folder:
                as_classifier(_local(config), Path(folder))
                self._llm = self._start(folder, None)
        self._heartbeat = Heartbeat(self._llm.is_sleeping)

    def _start(self, checkpoint: str, revision: str | None) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        config = self._config
        args: dict[str, Any] = {} if config.gpus else {"distributed_executor_backend": "uni"}
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=checkpoint,
                revision=revision,
                runner="pooling",
                convert="classify",
                max_model_len=self._reader.longest,
                enforce_eager=True,
                dtype="auto" if config.gpus else "float32",
                trust_remote_code=config.trust_remote_code,
                load_format="safetensors",
                gpu_memory_utilization=config.gpu_memory_utilization,
                disable_log_stats=True,
                **args,
            ),
        )

    async def score(self, texts: Sequence[str]) -> list[Score]:
        tokens = self._reader.tokens(texts)
        return list(await asyncio.gather(*(self._one(ids) for ids in tokens)))

    async def _one(self, ids: list[int]) -> Score:
        from vllm import PoolingParams

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
        return score_from_outputs([float(x) for x in last.outputs.data.flatten()], self._config)

    async def check_health(self) -> None:
        await check_vllm(self._llm, self._heartbeat)

    async def close(self) -> None:
        self._llm.shutdown()


class TransformersScorer:
    """transformers' sequence classification."""

    def __init__(self, config: ScorerConfig, notice: str | None = None) -> None:
        import transformers

        from .score_model import ScoreModel

        self._config, self.notice = config, notice
        self.version = f"transformers {transformers.__version__}"
        self._reader = _Reader(config)
        if self._reader.tokenizer.pad_token_id is None:
            self._reader.tokenizer.pad_token = self._reader.tokenizer.eos_token
        if self._reader.is_score_model:
            self._model = ScoreModel(_local(config), config.trust_remote_code).eval()
        else:
            self._model = transformers.AutoModelForSequenceClassification.from_pretrained(
                config.checkpoint,
                use_safetensors=True,
                dtype="float32",
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            ).eval()

    async def score(self, texts: Sequence[str]) -> list[Score]:
        return await asyncio.to_thread(self._score, texts)

    def _score(self, texts: Sequence[str]) -> list[Score]:
        import torch

        found: list[Score] = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = self._reader.tokens(texts[start : start + BATCH])
                inputs = self._reader.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
                logits = self._model(
                    input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
                ).logits.float()
                rows = logits if logits.shape[1] == 1 else logits.softmax(-1)
                found += [score_from_outputs([float(x) for x in row], self._config) for row in rows]
        return found

    async def check_health(self) -> None:
        return None

    async def close(self) -> None:
        return None


def _local(config: ScorerConfig) -> str:
    """The folder of a scorer's files, fetched from the hub where they are there."""
    if config.revision is None:
        return config.checkpoint
    return download_model(
        config.checkpoint, config.revision, trust_remote_code=config.trust_remote_code
    )

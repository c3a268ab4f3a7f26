"""The scorer backend on vLLM's pooling runner."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...checkpoints.architecture import check_files
from ..errors import EngineError
from ..types import Score, ScoredText, ScorerConfig
from .heartbeat import Heartbeat
from .local_weights import loaded_files, weight_bytes
from .scorer_tokenizer import ScorerTokenizer, scorer_folder
from .scores import ScoreRule
from .vllm_in_process import start_llm
from .vllm_runtime import batch_arguments, cache_arguments, check_vllm, gpu_bytes


class VllmScorer:
    """One vLLM engine that classifies; on GPUs its model runs in a process of its own."""

    notice: str | None = None

    def __init__(self, config: ScorerConfig) -> None:
        import vllm

        from .score_model import HEAD_TENSORS, write_as_classifier

        self._config = config
        self.version = f"vllm {vllm.__version__}"
        self._tokenizer = ScorerTokenizer(config)
        self._rule = ScoreRule(config, scorer_folder(config))
        self._requests = 0
        source = scorer_folder(config)
        # Once vLLM has started it has read the weights, and does not need the folder any more.
        if not self._tokenizer.is_score_model:
            check_files(source, "classifier", config.trust_remote_code)
            with loaded_files(source) as folder:
                self._llm = self._start(folder)
        else:
            check_files(source, "body", config.trust_remote_code, HEAD_TENSORS)
            with tempfile.TemporaryDirectory(prefix="elastic_ray-scorer-") as folder:
                write_as_classifier(source, Path(folder))
                self._llm = self._start(folder)
        self._heartbeat = Heartbeat(self._llm.is_sleeping)

    def _start(self, folder: str) -> Any:
        from vllm import AsyncEngineArgs

        config = self._config
        arguments: dict[str, Any] = {} if config.gpus else {"distributed_executor_backend": "uni"}
        arguments |= batch_arguments(config.gpus)
        width = "float16" if config.gpus else "float32"
        arguments |= cache_arguments(config, weight_bytes(folder, width), gpu_bytes)
        return start_llm(
            AsyncEngineArgs(
                model=folder,
                runner="pooling",
                convert="classify",
                max_model_len=self._tokenizer.context,
                enforce_eager=True,
                dtype="auto" if config.gpus else "float32",
                trust_remote_code=config.trust_remote_code,
                load_format="safetensors",
                use_tqdm_on_load=False,
                gpu_memory_utilization=config.gpu_memory_utilization,
                disable_log_stats=True,
                **arguments,
            ),
            config.gpus,
        )

    async def score(self, texts: Sequence[ScoredText]) -> list[Score]:
        """As `ScorerBackend.score`."""
        tokens = self._tokenizer.tokenize(texts)
        return list(await asyncio.gather(*(self._score_one(ids) for ids in tokens)))

    async def _score_one(self, ids: list[int]) -> Score:
        from vllm import PoolingParams

        self._requests += 1
        last = None
        async for output in self._llm.encode(
            {"prompt_token_ids": ids},
            PoolingParams(task="classify", use_activation=False),  # `ScoreRule` knows which
            request_id=str(self._requests),
        ):
            last = output
        if last is None:
            raise EngineError(f"scorer {self._config.name}: no output")
        return self._rule.score([float(x) for x in last.outputs.data.flatten()])

    async def check_health(self) -> None:
        """As `ScorerBackend.check_health`."""
        await check_vllm(self._llm, self._heartbeat)

    async def close(self) -> None:
        """As `ScorerBackend.close`."""
        self._llm.shutdown()

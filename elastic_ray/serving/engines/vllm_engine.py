"""The vLLM engine: `AsyncLLM`, with weights that are swapped in place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checkpoints.files import CheckpointError
from ...checkpoints.hub import download_model
from ..errors import EngineError
from ..types import Answer, CodedText, CodeLengthResult, EngineConfig, Sampling, Weights
from .code_length import Window, measured, windows
from .context import Prompts, check_fits, longest_text
from .heartbeat import Heartbeat
from .vllm_runtime import check_vllm, last_line

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


BATCH_TOKENS = 2048
"""Tokens that vLLM reads at once on CPUs, or the context where that is longer: it reads prompts
whole there."""


class VllmEngine:
    """vLLM's `AsyncLLM`, swapping weights in place."""

    notice: str | None = None

    def __init__(self, config: EngineConfig) -> None:
        import vllm
        from transformers import AutoTokenizer
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._config = config
        self.version = f"vllm {vllm.__version__}"
        self._longest = longest_text(config)
        args: dict[str, Any] = {}
        if not config.gpus:
            # One process less than vLLM's default on CPUs; the replica sets OMP_NUM_THREADS.
            args["distributed_executor_backend"] = "uni"
            # A prompt read in parts ends vLLM on CPUs: it would turn back the generator of a seeded
            # request, which PyTorch's generators on CPUs cannot.
            args["enable_chunked_prefill"] = False
            args["max_num_batched_tokens"] = max(BATCH_TOKENS, self._longest)
        if config.max_lora_rank:
            ranks = (8, 16, 32, 64, 128, 256, 320, 512)
            args["enable_lora"] = True
            args["max_lora_rank"] = next(r for r in ranks if r >= config.max_lora_rank)
            args["max_loras"] = 2
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=config.checkpoint,
                revision=config.revision,
                dtype=config.dtype,
                max_model_len=self._longest,
                enforce_eager=not config.gpus,
                tensor_parallel_size=config.tensor_parallel,
                gpu_memory_utilization=config.gpu_memory_utilization,
                trust_remote_code=config.trust_remote_code,
                worker_extension_cls="elastic_ray.serving.engines.vllm_weights.TakesWeights",
                load_format="safetensors",
                seed=0,
                disable_log_stats=True,
                **args,
            ),
        )
        self._heartbeat = Heartbeat(self._llm.is_sleeping)
        self._tokenizer = AutoTokenizer.from_pretrained(
            config.checkpoint,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
        self._adapters: dict[str, int] = {}
        self._requests = 0
        self.checked: list[dict[str, int]] = []
        """What each worker checked at the last swap (`vllm_worker.take_weights`)."""

    async def load_weights(self, weights: Weights) -> None:
        folder = weights.checkpoint
        if weights.revision is not None:
            folder = await asyncio.to_thread(download_model, folder, weights.revision)
        if not Path(folder).is_dir():
            raise CheckpointError(
                f"state {weights.full_state_id}: its checkpoint is missing: {folder}"
            )
        await self._watched(self._swap(weights, folder))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, unless the engine's process dies: its calls would never return then."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=1.0)
            if not task.done() and self._llm.errored:
                task.cancel()
                raise self._llm.dead_error
        task.result()

    async def _swap(self, weights: Weights, folder: str) -> None:
        await self._llm.pause_generation(mode="wait", clear_cache=True)
        try:
            # Until the new weights are proven, whatever answers is nobody's.
            await self._llm.update_weight_version("none")
            try:
                self.checked = await self._llm.collective_rpc(
                    "take_weights", kwargs={"folder": str(folder), "checksum": weights.checksum}
                )
            except Exception as e:
                raise CheckpointError(f"state {weights.full_state_id}: {last_line(e)}") from None
            await self._llm.reset_prefix_cache()
            await self._llm.update_weight_version(weights.full_state_id)
        finally:
            await self._llm.resume_generation()

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        lora = await self._adapter(weights) if weights.adapter else None
        jobs = [
            self._one(index, prompt, sample, sampling, lora)
            for index, prompt in prompts
            for sample in range(sampling.samples)
        ]
        answers = await asyncio.gather(*jobs)
        await self._check_held(weights)
        return list(answers)

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], size: int
    ) -> list[CodeLengthResult]:
        lora = await self._adapter(weights) if weights.adapter else None
        if weights.adapter and "lm_head" in _adapted(weights.adapter):
            raise EngineError(
                f"state {weights.state_id}: vLLM cannot read texts under an adapter of the output "
                "layer; leave lm_head out of lora.target_modules, or set "
                "resources.engines.engine to transformers"
            )
        parts = windows(self._tokenizer, texts, size, self._longest)
        read = await asyncio.gather(*(self._read(part, lora) for part in parts))
        await self._check_held(weights)
        return measured(texts, parts, read)

    async def _check_held(self, weights: Weights) -> None:
        held = await self._llm.get_weight_version()
        if held != weights.full_state_id:
            raise EngineError(f"asked of {weights.full_state_id}, but the engine holds {held}")

    async def _read(self, part: Window, lora: Any) -> tuple[float, str]:
        """The nats of a window's coded tokens, and the state that read them."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,  # of the tokens themselves only
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        last = await self._last({"prompt_token_ids": part.ids}, parameters, lora)
        told = last.prompt_logprobs
        if told is None or len(told) != len(part.ids):
            raise EngineError("the engine gave no probabilities for a text")
        nats = 0.0
        for place in range(part.given, len(part.ids)):
            at = told[place]
            assert at is not None  # only the first token's is left out, and that is given
            nats -= at[part.ids[place]].logprob
        return nats, _held(last, lora)

    async def _one(
        self, index: int, prompt: str, sample: int, sampling: Sampling, lora: Any
    ) -> Answer:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        seed = sampling.request_seed(index, sample)
        parameters = SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        last = await self._last(prompt, parameters, lora)
        # vLLM cuts the answer where the context ends, without a word.
        check_fits(len(last.prompt_token_ids or ()) + sampling.max_tokens, self._longest)
        answer = last.outputs[0]
        return Answer(
            index,
            sample,
            prompt,
            answer.text,
            len(answer.token_ids),
            str(answer.finish_reason),
            _held(last, lora),
            seed,
            self.version,
        )

    async def _last(self, prompt: Any, parameters: SamplingParams, lora: Any) -> RequestOutput:
        """The engine's final output for a prompt (text, or token ids)."""
        self._requests += 1
        last: RequestOutput | None = None
        async for output in self._llm.generate(
            prompt, parameters, request_id=str(self._requests), lora_request=lora
        ):
            last = output
        if last is None or not last.finished:
            raise EngineError("the engine gave no answer")
        return last

    async def _adapter(self, weights: Weights) -> Any:
        """The adapter's request; ids are given once per state, vLLM does not check them."""
        from vllm.lora.request import LoRARequest

        assert weights.adapter is not None
        number = self._adapters.setdefault(weights.state_id, len(self._adapters) + 1)
        return LoRARequest(weights.state_id, number, weights.adapter)

    async def check_health(self) -> None:
        await check_vllm(self._llm, self._heartbeat)

    async def close(self) -> None:
        self._llm.shutdown()


def _held(output: RequestOutput, lora: Any) -> str:
    """The state that an output came from, by its weight versions and its adapter."""
    versions = {span.version for span in output.outputs[0].weight_versions or ()}
    if len(versions) > 1:
        raise EngineError(f"an answer spans two states: {', '.join(sorted(versions))}")
    base = versions.pop() if versions else "none"
    if lora is None:
        return base
    named = output.lora_request.lora_name if output.lora_request else "none"
    return str(named) if base != "none" else base


def _adapted(adapter: str) -> str:
    """The modules that an adapter changes, as its configuration names them."""
    config = json.loads(Path(adapter, "adapter_config.json").read_text(encoding="utf-8"))
    return str(config["target_modules"])

"""The engine on vLLM, whose weights are swapped in place (docs/concepts.md#rule-4).

Each output carries a weight version, which vLLM sets when the request is processed. It is the id of
the full state that was held, so results name the state that really answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checkpoints.architecture import check_files
from ...checkpoints.files import CheckpointError
from ..errors import EngineError
from ..types import Answer, CodedText, CodeLengthResult, EngineConfig, Sampling, Weights
from .answer_tokens import AnswerTokens
from .code_length import Window, split_windows, sum_windows
from .context import Prompts
from .heartbeat import Heartbeat
from .local_weights import checked_stamp, loaded_files, on_disk, weight_bytes
from .vllm_in_process import start_llm
from .vllm_layout import not_covered
from .vllm_runtime import (
    batch_arguments,
    cache_arguments,
    check_batch_invariance,
    check_vllm,
    gpu_bytes,
    last_line,
    unless_dead,
)

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


BATCH_TOKENS = 2048
"""Tokens that vLLM reads at a time on CPUs, or the context where that is longer, as prompts are
not split there."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Maximal ranks that vLLM supports."""
NO_STATE = "none"
"""Weight version while no state's weights are verified to be loaded."""


class VllmEngine:
    """One vLLM engine; on GPUs its model runs in a process of its own."""

    notice: str | None = None

    def __init__(self, config: EngineConfig) -> None:
        import vllm

        check_batch_invariance(config)
        self.version = f"vllm {vllm.__version__}"
        if config.deterministic:
            self.version += " batch-invariant"
        self._tokens = AnswerTokens(config)
        first = on_disk(
            Weights(config.state_id, config.checkpoint, config.revision), config.trust_remote_code
        )
        # vLLM starts without a tensor that the files lack, and tells others at length.
        check_files(first.checkpoint, "language", config.trust_remote_code)
        with loaded_files(first.checkpoint) as folder:
            arguments = engine_arguments(config, self._tokens.context, folder, gpu_bytes)
            self._llm = start_llm(arguments, config.gpus)
        self._heartbeat = Heartbeat(self._llm.is_sleeping)
        self._broken: str | None = None
        """Why the engine cannot be used any more."""
        self._adapter_ids: dict[str, int] = {}
        self._requests = 0
        self._trust_remote_code = config.trust_remote_code
        self.checked: list[dict[str, Any]] = []
        """What each worker checked at the last swap (`vllm_weights.VerifiedLoading`)."""

    async def load_weights(self, weights: Weights) -> None:
        """As `Engine.load_weights`; a hub checkpoint is downloaded first."""
        local = await asyncio.to_thread(on_disk, weights, self._trust_remote_code)
        stamp = await asyncio.to_thread(checked_stamp, local)
        await unless_dead(self._llm, self._swap(local, stamp))

    async def _swap(self, weights: Weights, stamp: str) -> None:
        await self._llm.pause_generation(mode="wait", clear_cache=True)
        try:
            await self._llm.update_weight_version(NO_STATE)
            try:
                self.checked = await self._llm.collective_rpc(
                    "load_verified_weights",
                    kwargs={"folder": weights.checkpoint, "stamp": stamp},
                )
            except Exception as e:
                raise CheckpointError(f"state {weights.full_state_id}: {last_line(e)}") from None
            if broken := [rank["broken"] for rank in self.checked if "broken" in rank]:
                self._broken = f"its weights could not be replaced: {broken[0]}"
                raise EngineError(f"the engine is unusable: {self._broken}")
            if missing := not_covered([rank["covered"] for rank in self.checked]):
                raise CheckpointError(
                    f"state {weights.full_state_id}: no worker holds all of {missing[0]}"
                )
            await self._llm.reset_prefix_cache()
            await self._llm.update_weight_version(weights.full_state_id)
        finally:
            await self._llm.resume_generation()

    async def generate(
        self, weights: Weights, prompts: Prompts, sampling: Sampling
    ) -> list[Answer]:
        """As `Engine.generate`."""
        lora = self._lora_request(weights)
        questions = self._tokens.questions(prompts, sampling.max_tokens)
        requests = [
            self._answer((index, sample, prompt), question, sampling, lora)
            for (index, prompt), question in zip(prompts, questions, strict=True)
            for sample in range(sampling.samples)
        ]
        answers = await asyncio.gather(*requests)
        await self._check_held(weights)
        return list(answers)

    async def _answer(
        self, place: tuple[int, int, str], question: list[int], sampling: Sampling, lora: Any
    ) -> Answer:
        """Return the answer to a question; `place` as in `AnswerTokens.answer`."""
        seed = sampling.request_seed(place[0], place[1])
        parameters = _answer_parameters(sampling, seed, self._tokens.ends)
        output = await self._run({"prompt_token_ids": question}, parameters, lora)
        completion = output.outputs[0]
        source = (_held_state(output, lora), seed, self.version)
        answer = self._tokens.answer(place, question, list(completion.token_ids), source)
        if answer.finish_reason != completion.finish_reason:
            raise EngineError(
                f"prompt {place[0]}: the engine ended the answer ({completion.finish_reason}) "
                f"where it should not ({answer.finish_reason})"
            )
        return answer

    async def code_lengths(
        self, weights: Weights, texts: Sequence[CodedText], window: int
    ) -> list[CodeLengthResult]:
        """As `Engine.code_lengths`; `EngineError` if an adapter changes the output layer."""
        lora = self._lora_request(weights)
        if weights.adapter and "lm_head" in _target_modules(weights.adapter):
            raise EngineError(
                f"state {weights.state_id}: vLLM cannot read texts under an adapter of the output "
                "layer; leave lm_head out of lora.target_modules, or set "
                "resources.engines.engine to transformers"
            )
        windows = split_windows(self._tokens.tokenizer, texts, window, self._tokens.context)
        readings = await asyncio.gather(*(self._read(part, lora) for part in windows))
        await self._check_held(weights)
        return sum_windows(texts, windows, readings)

    async def _read(self, window: Window, lora: Any) -> tuple[float, str]:
        """Return the nats of a window's coded tokens, and the id of the state that read them."""
        output = await self._run({"prompt_token_ids": window.ids}, _reading_parameters(), lora)
        return _window_nats(output, window), _held_state(output, lora)

    async def _run(self, prompt: Any, parameters: SamplingParams, lora: Any) -> RequestOutput:
        """Return the engine's final output for a prompt's token ids."""
        self._requests += 1
        last: RequestOutput | None = None
        async for output in self._llm.generate(
            prompt, parameters, request_id=str(self._requests), lora_request=lora
        ):
            last = output
        if last is None or not last.finished:
            raise EngineError("the engine returned no answer")
        return last

    async def _check_held(self, weights: Weights) -> None:
        held = await self._llm.get_weight_version()
        if held != weights.full_state_id:
            raise EngineError(
                f"the request is for state {weights.full_state_id}, but the engine holds {held}"
            )

    def _lora_request(self, weights: Weights) -> Any:
        """Return vLLM's reference to the state's adapter, None without one. Each state gets an id
        of its own: vLLM recognises adapters by id alone."""
        if weights.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        number = self._adapter_ids.setdefault(weights.state_id, len(self._adapter_ids) + 1)
        return LoRARequest(weights.state_id, number, weights.adapter)

    async def check_health(self) -> None:
        """As `Engine.check_health`."""
        if self._broken is not None:
            raise EngineError(self._broken)
        await check_vllm(self._llm, self._heartbeat)

    async def close(self) -> None:
        """As `Engine.close`."""
        self._llm.shutdown()


def engine_arguments(
    config: EngineConfig, context: int, folder: str, total_bytes: Callable[[], int]
) -> Any:
    """Return vLLM's arguments for an engine whose first weights are in `folder`, a local one.

    `total_bytes` returns the memory of its GPU. Raises `EngineError` if the engine's share is too
    small.
    """
    from vllm import AsyncEngineArgs

    arguments: dict[str, Any] = {"dtype": config.dtype}
    arguments |= batch_arguments(config.gpus)
    arguments |= cache_arguments(config, weight_bytes(folder, config.dtype), total_bytes)
    if not config.gpus:
        # Runs the model in the engine's process; the replica sets OMP_NUM_THREADS.
        arguments["distributed_executor_backend"] = "uni"
        # A prompt that is read in parts crashes vLLM on CPUs: it would rewind the generator of a
        # seeded request, which PyTorch's CPU generators do not support.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(BATCH_TOKENS, context)
    if config.max_lora_rank:
        arguments["enable_lora"] = True
        arguments["max_lora_rank"] = next(r for r in LORA_RANKS if r >= config.max_lora_rank)
        arguments["max_loras"] = 2
    return AsyncEngineArgs(
        model=folder,
        max_model_len=context,
        enforce_eager=not config.gpus,
        tensor_parallel_size=config.tensor_parallel,
        gpu_memory_utilization=config.gpu_memory_utilization,
        trust_remote_code=config.trust_remote_code,
        worker_extension_cls="elastic_ray.serving.engines.vllm_weights.VerifiedLoading",
        load_format="safetensors",
        skip_tokenizer_init=True,  # `answer_tokens` is the only owner of texts and end tokens
        generation_config="vllm",  # none: its end tokens are given with each request
        use_tqdm_on_load=False,
        seed=0,
        disable_log_stats=True,
        **arguments,
    )


def _answer_parameters(sampling: Sampling, seed: int, ends: Collection[int]) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        seed=seed,
        stop_token_ids=sorted(ends),
        ignore_eos=True,  # the end token is among `ends`
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _reading_parameters() -> SamplingParams:
    """Return the parameters that have vLLM report the log-probability of each prompt token."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,  # of the prompt's own tokens only
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _window_nats(output: RequestOutput, window: Window) -> float:
    logprobs = output.prompt_logprobs
    if logprobs is None or len(logprobs) != len(window.ids):
        raise EngineError("the engine returned no log-probabilities for a text")
    nats = 0.0
    for position in range(window.given, len(window.ids)):
        at_position = logprobs[position]
        assert at_position is not None  # only the first token has none, and it is never coded
        nats -= at_position[window.ids[position]].logprob
    return nats


def _held_state(output: RequestOutput, lora: Any) -> str:
    """Return the id of the state that an output came from: its weight version and its adapter."""
    versions = {span.version for span in output.outputs[0].weight_versions or ()}
    if len(versions) > 1:
        raise EngineError(f"an answer spans two states: {', '.join(sorted(versions))}")
    base = versions.pop() if versions else NO_STATE
    if lora is None or base == NO_STATE:
        return base
    return str(output.lora_request.lora_name) if output.lora_request else NO_STATE


def _target_modules(adapter: str) -> str:
    """Return the modules that an adapter changes, as its configuration names them."""
    config = json.loads(Path(adapter, "adapter_config.json").read_text(encoding="utf-8"))
    return str(config["target_modules"])

"""Peak GPU memory of a training worker, predicted from the model's shape and the settings. Pure.

What is held all the time follows from ZeRO's partitions (Rajbhandari et al. 2020, "ZeRO", section
5) as DeepSpeed 0.19 carries them out with torch's AdamW and gradients summed in float32. What the
forward pass keeps is counted tensor by tensor in transformers' Llama layer. A test compares the sum
with a simulation of torch's own allocations for every model of the bundled sweep files.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan import ModelShape
from ..spec import Recipe, Runtime

REDUCE_BUCKET = 50_000_000
"""Gradients that DeepSpeed reduces at a time."""
LIVE_PARAMETERS = 500_000_000
"""Parameters that ZeRO-3 keeps gathered at most, besides those in use."""
CHUNK_LOGITS = 2**26
"""Logits that the loss computes at a time: 128 MiB in bf16."""
LOGIT_BYTES = 16
"""Bytes that the loss takes for each logit of a chunk: the logit, its log-probability, and the
gradients of both, in float32 where torch computes in it."""
PROCESS_GIB = 2.0
"""GPU memory besides torch's tensors: CUDA context, NCCL, cuBLAS, gaps between tensors."""


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of one worker by what holds them; `peak_bytes` is the most at any time."""

    weights: float
    """Weights, with what ZeRO-3 keeps gathered."""
    gradients: float
    """Gradient sums, and the buckets in which they are reduced."""
    optimizer: float
    """AdamW's moments, and its float32 copy of the weights where they are not that already."""
    activations: float
    """What the forward pass keeps for the backward pass, and the loss of a chunk."""
    step: float
    """What the optimiser's step takes besides; the activations are freed by then."""
    loading: float
    """What the weights take while DeepSpeed takes them over."""

    @property
    def peak_bytes(self) -> float:
        """The most bytes of tensors at any time."""
        held = self.weights + self.gradients + self.optimizer
        return max(held + max(self.activations, self.step), self.loading)

    @property
    def gib(self) -> float:
        """GPU memory of the worker's process in GiB."""
        return self.peak_bytes / 2**30 + PROCESS_GIB


def training_memory(
    shape: ModelShape, recipe: Recipe, runtime: Runtime, workers: int
) -> TrainingMemory:
    """Return the memory of each of `workers` that train a model; no setting may be `auto`."""
    assert isinstance(runtime.micro_batch, int), "decided before, by placement.settings"
    stage = runtime.stage_of(recipe)
    lora, half = recipe.lora, recipe.precision == "bf16"
    width = 2 if half else 4
    trained = float(
        shape.adapter_parameters(lora.rank, lora.target_modules) if lora else shape.parameters
    )
    total = shape.parameters + (trained if lora else 0.0)
    part, offloaded = trained / workers, runtime.offload == "optimizer"

    weights = width * (total / workers if stage == 3 else total)
    if stage == 3:
        weights += width * min(total, LIVE_PARAMETERS)
    # From stage 2 on a worker keeps its part of the sums only; under stage 3 offloading takes it.
    gradients = 4 * (part if stage >= 2 else trained)
    if stage == 3 and offloaded:
        gradients = 0.0
    if stage >= 2:
        gradients += 2 * (width + 4) * min(REDUCE_BUCKET, trained)
    optimizer = 0.0 if offloaded else 8 * part if not half and stage == 0 else 12 * part
    step = 4 * part if not half and stage in (1, 2) else 0.0
    # Stage 3 moves the whole model to the GPU before it is parted; the others copy its weights.
    copied = trained if stage else 0.0
    loading = (
        width * total + (4 * part if not offloaded else 0.0)
        if stage == 3
        else (width * (total + copied))
    )

    rows = min(runtime.micro_batch, -(-recipe.global_batch // workers))
    activations = activation_bytes(
        shape, rows * recipe.max_length, width, runtime.checkpointing, head_trained=lora is None
    )
    return TrainingMemory(weights, gradients, optimizer, activations, step, loading)


def activation_bytes(
    shape: ModelShape, tokens: int, width: int, checkpointing: bool, head_trained: bool = True
) -> float:
    """Return the peak bytes of activations of a forward and backward pass over `tokens`.

    `width` is that of the model's values in bytes. LoRA is counted as if its frozen layers kept
    their inputs, as the adapters beside them do.
    """
    h, a, inner = shape.hidden, shape.attention, shape.intermediate
    # Twice: the norm's input in float32, its result before the weight, and after it. Then query,
    # key and value (repeated for grouped heads) and the attention's result; the four of a gated
    # feed-forward layer; the attention's normaliser per head.
    layer = 2 * (4 + 2 * width) * h + 4 * width * a + 4 * width * inner + 4 * shape.heads
    passing = (2 * inner + h) * width  # gradients on their way through a layer
    kept = shape.layers * (width * h if checkpointing else layer)
    final = (4 + 3 * width + 2) * h  # the last norm; the loss's input and its gradient

    head = shape.vocabulary * h * (1 if head_trained else 0)
    chunk = min(CHUNK_LOGITS, tokens * shape.vocabulary)
    # First the softmax of a chunk; then its logits, their gradient, and what the weight gets of it.
    loss = max(LOGIT_BYTES * chunk, 2 * width * chunk + width * head)
    forward = tokens * (kept + final) + 4 * head + loss
    backward = tokens * (kept + passing + (layer if checkpointing else 0))
    # The gradient of a tied weight waits for that of the embeddings, then for their sum.
    waiting = width * head if shape.tied else 0
    return max(forward, backward + waiting, 3.0 * waiting)

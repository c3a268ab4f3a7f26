"""DeepSpeed's configuration of one ladder. Pure.

AdamW is torch's, in one fused kernel per step. Gradients of micro batches add up in float32, also
those of a bf16 model, so the result depends on the micro batch by rounding only. Buffer sizes are
given rather than left at DeepSpeed's defaults: `placement.training_memory` counts them.
"""

from __future__ import annotations

from typing import Any

from ..placement.training_memory import LIVE_PARAMETERS, REDUCE_BUCKET
from ..spec import Recipe, Runtime


def deepspeed_config(recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """Return the configuration for a ladder of that recipe; `runtime` has no `auto` left."""
    assert isinstance(runtime.micro_batch, int), "decided before, by placement.settings"
    stage = runtime.stage_of(recipe)
    zero: dict[str, Any] = {
        "stage": stage,
        "reduce_bucket_size": REDUCE_BUCKET,
        "allgather_bucket_size": REDUCE_BUCKET,
        "stage3_max_live_parameters": LIVE_PARAMETERS,
        "stage3_max_reuse_distance": LIVE_PARAMETERS,
    }
    if runtime.offload == "optimizer":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": bool(runtime.gpus_per_worker)}
    config = {
        # Micro batches vary in size and number: `Trainer.train_step` says which is a step's last.
        "train_micro_batch_size_per_gpu": runtime.micro_batch,
        "gradient_clipping": recipe.max_grad_norm,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": recipe.learning_rate,
                "betas": list(recipe.betas),
                "eps": recipe.epsilon,
                "weight_decay": recipe.weight_decay,
                "torch_adam": True,
                "adam_w_mode": True,
                "fused": True,
            },
        },
        "zero_optimization": zero,
        # Offloading expects DeepSpeed's own CPU AdamW, which is compiled at its first use.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if recipe.precision == "bf16":
        config["bf16"] = {"enabled": True, "immediate_grad_update": True}
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config

"""Where vLLM computes another function than the architecture does."""

from __future__ import annotations

from typing import Any


def correct_bloom() -> None:
    """Give vLLM's Bloom the activation of the architecture: GELU by tanh, not by erf (vLLM 0.32).

    They differ by up to 5e-4 in each activation. Call it in the worker before it builds the model.
    """
    from vllm.model_executor.layers.activation import get_act_fn
    from vllm.model_executor.models.bloom import BloomMLP

    build = BloomMLP.__init__
    if getattr(build, "corrected", False):
        return

    def build_corrected(self: Any, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        self.gelu_impl = get_act_fn("gelu_new")

    build_corrected.corrected = True  # type: ignore[attr-defined]  # an attribute of the function
    BloomMLP.__init__ = build_corrected  # type: ignore[method-assign]

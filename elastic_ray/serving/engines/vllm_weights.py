"""Verified loading of a checkpoint's weights, inside vLLM's worker process.

vLLM's own reload only warns if a checkpoint lacks weights, and a reload without errors does not
prove that the weights were replaced (vllm issues 48312, 32718). On CPUs, with tied embeddings, the
output layer continues to compute with the *old* weights. It uses a packed copy of them, and vLLM
does not repack it, because the checkpoint has no weights under the layer's own name (vLLM 0.32,
`layerwise.py`). Therefore:

1. the files must have the stamp that they had when their checksum was verified, before the reload
   and after it;
2. tied output layers are repacked;
3. every tensor of the files is compared, bit for bit, with the slices of the parameters that hold
   it (`vllm_layout`, `vllm_proof`); nothing is left over on either side;
4. on CPUs, where vLLM packs the matrices of linear layers and drops the originals, step 3 compares
   each matrix just before it is packed. Afterwards the layer must have been packed anew; it is run
   on random vectors, and outputs from all over the matrix must match it.
"""

from __future__ import annotations

from typing import Any

from elastic_ray.serving.engines.vllm_corrections import correct_bloom

correct_bloom()  # vLLM imports this module in each worker, before the model is built


class VerifiedLoading:
    """Mixin for vLLM's worker (`worker_extension_cls`); `self` is the worker."""

    def load_verified_weights(self, folder: str, stamp: str) -> dict[str, Any]:
        """Replace the model's weights by the safetensors of `folder`, and verify them.

        `stamp` is `files.weights_stamp` of the files whose checksum was verified. Returns the
        number of `tensors` and `bytes` of the files that were compared, of the model's
        `parameters`, of layers `probed` (step 4), of `constants` in the files, and what of each
        tensor this rank compared (`covered`, see `vllm_layout`). If vLLM's reload fails midway,
        the model is unusable, and `broken` is the reason, alone. Raises `CheckpointError` for
        missing or changed files. Raises `RuntimeError` if the engine's weights differ from the
        files, or cannot be compared with them; the latter before anything is changed.
        """
        from elastic_ray.checkpoints.files import CheckpointError, weights_stamp
        from elastic_ray.checkpoints.model_files import model_files
        from elastic_ray.serving.engines.vllm_layout import covered, model_slices
        from elastic_ray.serving.engines.vllm_proof import FileTensors, WeightProof

        def check_stamp() -> None:
            if weights_stamp(folder) != stamp:
                raise CheckpointError(
                    f"{folder}: its weights were written after their checksum was verified"
                )

        check_stamp()
        runner: Any = self.model_runner  # type: ignore[attr-defined]  # an attribute of the worker
        model = runner.get_model()
        tensors = FileTensors(model_files(folder))
        config = self.model_config.hf_config  # type: ignore[attr-defined]  # as above
        slices = model_slices(model, tensors.shapes, config.model_type)
        proof = WeightProof(model, slices, tensors)
        try:
            with proof.watching():
                # Not `weights_path`: of that folder vLLM would read every safetensors file.
                runner.reload_weights(weights_iterator=tensors.items())
        except Exception as e:
            # vLLM has taken layers apart by then, and cannot load into them again.
            return {"broken": f"{type(e).__name__}: {e}"}
        _pack_tied_layers(model)
        _fix_prompt_logprobs(model)
        counts = proof.finish()
        check_stamp()
        return {**counts, "covered": covered(slices, tensors.shapes)}


def _pack_tied_layers(model: Any) -> None:
    """Repack output layers that share another layer's weights (see the module docstring)."""
    owner: dict[int, Any] = {}
    for module in model.modules():
        method: Any = getattr(module, "quant_method", None)
        if type(method).__name__ != "UnquantizedEmbeddingMethod":
            continue
        if owner.setdefault(id(module.weight), module) is not module:
            method.process_weights_after_loading(module)


def _fix_prompt_logprobs(model: Any) -> None:
    """Make prompt log-probabilities work while adapters are enabled.

    vLLM looks up the output layer's adapter once per sequence, but for prompt log-probabilities it
    computes that layer for every token. The adapter is then dropped (vllm issue 51594), and on CPUs
    the engine crashes. `VllmEngine` never scores a prompt with an adapter on the output layer, so
    the lookup is skipped here.
    """
    for module in model.modules():
        wrapper: Any = getattr(module, "punica_wrapper", None)
        if type(module).__name__ != "LogitsProcessorWithLoRA" or hasattr(wrapper, "by_sequence"):
            continue
        wrapper.by_sequence = wrapper.add_lora_logits

        def add(y: Any, x: Any, *args: Any, _wrapper: Any = wrapper, **kwargs: Any) -> Any:
            if len(x) != len(_wrapper.sampler_indices):
                return y
            return _wrapper.by_sequence(y, x, *args, **kwargs)

        wrapper.add_lora_logits = add

"""Inside vLLM's worker process: taking a checkpoint's weights, and making sure that it did.

vLLM's own reload only warns about weights that a checkpoint lacks, and its success was seen to be
no proof (vllm issues 48312, 32718). Here the files are hashed against the record before they are
read, every parameter must have been loaded, and those that vLLM keeps as they are (norms,
embeddings; CPU builds repack the others) must equal the file's.
"""

from __future__ import annotations

from typing import Any


class TakesWeights:
    """Mixed into vLLM's worker (`worker_extension_cls`); `self` is the worker."""

    def take_weights(self, folder: str, checksum: str | None) -> dict[str, int]:
        """Load the folder's safetensors in place of what is held; counts of what was checked.

        Raises `CheckpointError`, before anything is changed, for missing or damaged files, and
        `RuntimeError` where a parameter was not loaded or differs from the file.
        """
        from elastic_ray.checkpoints import CheckpointError, checkpoint_checksum, weight_files

        files = weight_files(folder)
        if checksum is not None and checkpoint_checksum(folder) != checksum:
            raise CheckpointError(f"{folder}: its weights are not those on record (checksum)")
        runner: Any = self.model_runner  # type: ignore[attr-defined]
        model = runner.get_model()
        plain = _find_plain(model, files)
        expected = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters()}
        loaded: set[str] = set()
        load = model.load_weights

        def recording(weights: Any) -> Any:
            names = load(weights)
            loaded.update(names or ())
            return names

        model.load_weights = recording
        try:
            runner.reload_weights(weights_path=folder)
        finally:
            del model.load_weights
        missing = {name for name in expected if "lora_" not in name} - loaded
        if loaded and missing:
            raise RuntimeError(f"{folder}: parameters not loaded: {', '.join(sorted(missing)[:5])}")
        return {"loaded": len(loaded), "compared": _compare(model, files, plain)}


def _find_plain(model: Any, files: list[Any]) -> set[str]:
    """Parameters that have the name, and the shape or more rows, of a tensor in the files."""
    from safetensors import safe_open

    shapes = {
        name.replace(".base_layer.", "."): tuple(p.shape) for name, p in model.named_parameters()
    }
    found = set()
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                held, stored = shapes.get(name), tuple(file.get_slice(name).get_shape())
                # The vocabulary is padded: more rows than the file has.
                if held and held[1:] == stored[1:] and held[0] >= stored[0]:
                    found.add(name)
    return found


def _compare(model: Any, files: list[Any], plain: set[str]) -> int:
    """How many of the `plain` parameters equal the files'; `RuntimeError` at the first other."""
    import torch
    from safetensors import safe_open

    held = {name.replace(".base_layer.", "."): p for name, p in model.named_parameters()}
    count = 0
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                if name not in plain:
                    continue
                stored = file.get_tensor(name)
                parameter = held[name].detach()[: stored.shape[0]].cpu()
                if not torch.equal(parameter, stored.to(parameter.dtype)):
                    raise RuntimeError(f"{path}: {name} differs from what the engine holds")
                count += 1
    return count

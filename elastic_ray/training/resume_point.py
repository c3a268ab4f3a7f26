"""Where an interrupted ladder goes on: optimiser state beside a recorded state, as safetensors.

A point is made at every snapshot, and between two of them where a node is about to be taken away.
It is of one step: `resume/<ladder>/<step>-<base>/`, where `base` is the last state of the ladder
that is on record (its parent before the first), whose weights are loaded before the point is set.

One file per rank, of that rank's part of the state, so it fits the same number of workers and the
same ZeRO stage only; under any other, the ladder is trained again from its parent, with the same
outcome. Only the newest point of a ladder is kept, and none once it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..results.store import Results


@dataclass(frozen=True)
class Optimizer:
    """Of a torch optimiser the parameters that this rank steps, and what it knows of each."""

    parameters: Sequence[Any]
    state: Any

    @classmethod
    def of(cls, wrapped: Any) -> Optimizer:
        """The one at the bottom of DeepSpeed's wrappers.

        ZeRO-3 lends it a part of the parameters for each step, and takes them back: between steps
        it has none.
        """
        parted = None
        while hasattr(wrapped, "optimizer"):
            parted = getattr(wrapped, "fp32_partitioned_groups_flat", parted)
            wrapped = wrapped.optimizer
        own = [p for group in wrapped.param_groups for p in group["params"]]
        return cls(own if parted is None else parted, wrapped.state)


@dataclass(frozen=True)
class ResumePoint:
    """A ladder after some step, beyond the state `base`: one rank's tensors, and the story so far.

    The tensors are the optimiser's and, where the model is not what `base` is, the model's.
    """

    base: str
    losses: tuple[float, ...]
    tokens: int
    seconds: float
    tensors: dict[str, Any]

    @classmethod
    def of(
        cls,
        optimizer: Optimizer,
        model: Any | None,
        base: str,
        losses: Sequence[float],
        tokens: int,
        seconds: float,
    ) -> ResumePoint:
        """The point of an optimiser: its own copies of the weights, and Adam's moments; and of a
        model that has moved on from `base`."""
        import torch

        tensors = {}
        for i, parameter in enumerate(optimizer.parameters):
            tensors[f"{i}.value"] = _copy(parameter)
            for name, value in optimizer.state[parameter].items():
                whole = value if torch.is_tensor(value) else torch.tensor(float(value))
                tensors[f"{i}.{name}"] = _copy(whole)
        for i, part in enumerate(_trained(model) if model is not None else ()):
            tensors[f"model.{i}"] = _copy(part)
        return cls(base, tuple(losses), tokens, seconds, tensors)

    def restore(self, optimizer: Optimizer, model: Any) -> None:
        """Set a fresh optimiser of the same model, workers and ZeRO stage to this point, and the
        model, which holds the weights of `base`."""
        for i, parameter in enumerate(optimizer.parameters):
            parameter.data.copy_(self.tensors[f"{i}.value"])
            state = optimizer.state[parameter]
            for key, value in self.tensors.items():
                place, _, name = key.partition(".")
                if place == str(i) and name != "value":
                    # torch keeps Adam's step on the CPU
                    state[name] = value.clone() if name == "step" else value.to(parameter.device)
        for i, part in enumerate(_trained(model)):
            value = self.tensors.get(f"model.{i}")
            # What ZeRO-3 has not gathered yet it will gather from its parts.
            if value is not None and value.shape == part.shape:
                part.copy_(value)


def _copy(tensor: Any) -> Any:
    return tensor.detach().cpu().clone().contiguous()


def _trained(model: Any) -> list[Any]:
    """The trained parameters as this rank holds them: with ZeRO-3 its part of each, and the whole
    of a small one, which stays gathered."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        each.data
        for p in trained
        for each in (getattr(p, "ds_tensor", None), p)
        if each is not None
    ]


def _file(rank: int, workers: int, zero_stage: int) -> str:
    return f"{rank}-of-{workers}-zero{zero_stage}.safetensors"


def save_point(
    results: Results, ladder: str, point: ResumePoint, rank: int, workers: int, zero_stage: int
) -> None:
    """Write this rank's file; `ResultsError` on a full disk."""
    from safetensors.torch import save

    story = {
        "losses": json.dumps(point.losses),
        "tokens": str(point.tokens),
        "seconds": str(point.seconds),
    }
    data = save(point.tensors, metadata=story)
    folder = f"resume/{ladder}/{len(point.losses):08d}-{point.base}"
    results.folder.put(f"{folder}/{_file(rank, workers, zero_stage)}", data)


def remove_older(results: Results, ladder: str, step: int) -> None:
    """Remove the points before that step, of which every rank has written its file."""
    for name in results.folder.names(f"resume/{ladder}"):
        if _step(name) != step:
            results.folder.delete_folder(f"resume/{ladder}/{name}")


def load_point(
    results: Results, ladder: str, rank: int, workers: int, zero_stage: int
) -> ResumePoint | None:
    """The newest point whose base is recorded with its checkpoint, complete for these workers."""
    from safetensors import safe_open

    for name in sorted(results.folder.names(f"resume/{ladder}"), key=_step, reverse=True):
        base = name.partition("-")[2]
        row = results.state(base) if base else None
        if row is None or row["status"] != "done" or row["checkpoint"] is None:
            continue
        folder = f"resume/{ladder}/{name}"
        files = [_file(each, workers, zero_stage) for each in range(workers)]
        if not all(results.folder.exists(f"{folder}/{file}") for file in files):
            continue
        with (
            results.folder.local_folder(folder) as place,
            safe_open(place / files[rank], framework="pt") as file,
        ):
            story = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        losses = tuple(json.loads(story["losses"]))
        return ResumePoint(base, losses, int(story["tokens"]), float(story["seconds"]), tensors)
    return None


def _step(name: str) -> int:
    step = name.partition("-")[0]
    return int(step) if step.isdigit() else -1


def remove_point(results: Results, ladder: str) -> None:
    """Remove the points of a ladder that has ended."""
    results.folder.delete_folder(f"resume/{ladder}")

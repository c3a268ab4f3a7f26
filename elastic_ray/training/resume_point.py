"""Where an interrupted ladder goes on: optimiser state beside the last snapshot, as safetensors.

One file per rank, of that rank's part of the state, so it fits the same number of workers and the
same ZeRO stage only; under any other, the ladder is trained again from its parent, with the same
outcome. Only the newest point of a ladder is kept, and none once it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..results import Results


@dataclass(frozen=True)
class ResumePoint:
    """A ladder after the rung `state_id`: one rank's optimiser tensors, and the story so far."""

    state_id: str
    losses: tuple[float, ...]
    tokens: int
    seconds: float
    tensors: dict[str, Any]

    @classmethod
    def of(
        cls, optimizer: Any, state_id: str, losses: Sequence[float], tokens: int, seconds: float
    ) -> ResumePoint:
        """The point of a torch optimiser: its own copies of the weights, and Adam's moments."""
        import torch

        tensors = {}
        for i, parameter in enumerate(_parameters(optimizer)):
            tensors[f"{i}.value"] = parameter.detach().cpu().clone().contiguous()
            for name, value in optimizer.state[parameter].items():
                whole = value if torch.is_tensor(value) else torch.tensor(float(value))
                tensors[f"{i}.{name}"] = whole.detach().cpu().clone().contiguous()
        return cls(state_id, tuple(losses), tokens, seconds, tensors)

    def restore(self, optimizer: Any) -> None:
        """Set a fresh optimiser of the same model, workers and ZeRO stage to this point."""
        for i, parameter in enumerate(_parameters(optimizer)):
            parameter.data.copy_(self.tensors[f"{i}.value"])
            state = optimizer.state[parameter]
            for key, value in self.tensors.items():
                place, _, name = key.partition(".")
                if place == str(i) and name != "value":
                    # torch keeps Adam's step on the CPU
                    state[name] = value.clone() if name == "step" else value.to(parameter.device)


def _parameters(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _name(ladder: str, state: str, rank: int, workers: int, zero_stage: int) -> str:
    return f"resume/{ladder}/{state}/{rank}-of-{workers}-zero{zero_stage}.safetensors"


def save_point(
    results: Results, ladder: str, point: ResumePoint, rank: int, workers: int, zero_stage: int
) -> None:
    """Write this rank's file; rank 0 then removes older points. `ResultsError` on a full disk."""
    from safetensors.torch import save

    story = {
        "losses": json.dumps(point.losses),
        "tokens": str(point.tokens),
        "seconds": str(point.seconds),
    }
    data = save(point.tensors, metadata=story)
    results.folder.put(_name(ladder, point.state_id, rank, workers, zero_stage), data)
    if rank == 0:
        for state in results.folder.names(f"resume/{ladder}"):
            if state != point.state_id:
                results.folder.delete_folder(f"resume/{ladder}/{state}")


def load_point(
    results: Results, ladder: str, rank: int, workers: int, zero_stage: int
) -> ResumePoint | None:
    """The newest point whose state is recorded with its checkpoint, complete for these workers."""
    from safetensors import safe_open

    for state in results.folder.names(f"resume/{ladder}"):
        row = results.state(state)
        if row is None or row["status"] != "done" or row["checkpoint"] is None:
            continue
        names = [_name(ladder, state, each, workers, zero_stage) for each in range(workers)]
        if not all(results.folder.exists(name) for name in names):
            continue
        file_name = names[rank].rpartition("/")[2]
        with (
            results.folder.local_folder(f"resume/{ladder}/{state}") as folder,
            safe_open(folder / file_name, framework="pt") as file,
        ):
            story = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        losses = tuple(json.loads(story["losses"]))
        return ResumePoint(state, losses, int(story["tokens"]), float(story["seconds"]), tensors)
    return None


def remove_point(results: Results, ladder: str) -> None:
    """Remove the points of a ladder that has ended."""
    results.folder.delete_folder(f"resume/{ladder}")

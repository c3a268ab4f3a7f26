"""Resume points: the state from which an interrupted ladder continues bit for bit, as safetensors.

A point belongs to one step and is stored in `resume/<ladder>/<step>/`. It holds the optimiser's
weights and Adam moments and the model's trained weights: 14 bytes a parameter in bf16. It is
written where that is expected to cost less than to train again (`placement.point_policy`), and when
a node is about to be preempted.

Each rank writes one file with its shard of the state, so a point fits the same number of workers
and the same ZeRO stage only. Under any other, and without a point, the ladder is trained again from
its parent, with the same outcome. Only the newest point of a ladder is kept, and none once the
ladder has ended. Folders `<step>-<state>` are points of an earlier version; they are not read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checkpoints.files import CheckpointError

if TYPE_CHECKING:
    from ..results.store import Results

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW keeps of a parameter."""


@dataclass(frozen=True)
class OptimizerShard:
    """The parameters of a torch optimiser that this rank updates, and its state of each."""

    parameters: Sequence[Any]
    state: Any

    @classmethod
    def unwrap(cls, optimizer: Any) -> OptimizerShard:
        """Return the shard of the torch optimiser inside DeepSpeed's wrappers.

        ZeRO-3 passes the torch optimiser its parameter partitions for the duration of a step only,
        so they are read from the wrapper.
        """
        partitions = None
        while hasattr(optimizer, "optimizer"):
            partitions = getattr(optimizer, "fp32_partitioned_groups_flat", partitions)
            optimizer = optimizer.optimizer
        own = [p for group in optimizer.param_groups for p in group["params"]]
        return cls(own if partitions is None else partitions, optimizer.state)


@dataclass(frozen=True)
class ResumePoint:
    """A ladder after some step: one rank's tensors, and the history.

    The tensors are the optimiser's and the model's. `losses` holds one value per step, `tokens` and
    `seconds` are totals since the ladder began, and so is `lost`: examples that were cut, and those
    of them that lost their whole answer.
    """

    losses: tuple[float, ...]
    tokens: int
    seconds: float
    tensors: dict[str, Any]
    lost: tuple[int, int] = (0, 0)

    @classmethod
    def capture(
        cls,
        optimizer: OptimizerShard,
        model: Any,
        losses: Sequence[float],
        tokens: int,
        seconds: float,
        lost: tuple[int, int] = (0, 0),
    ) -> ResumePoint:
        """Copy the optimiser's weights and Adam moments, and the model's trained weights."""
        import torch

        tensors = {}
        for i, parameter in enumerate(optimizer.parameters):
            tensors[f"{i}.value"] = _copy(parameter)
            for name, value in optimizer.state[parameter].items():
                tensor = value if torch.is_tensor(value) else torch.tensor(float(value))
                tensors[f"{i}.{name}"] = _copy(tensor)
        for i, part in _model_tensors(model, optimizer).items():
            tensors[f"model.{i}"] = _copy(part)
        return cls(tuple(losses), tokens, seconds, tensors, lost)

    def restore(self, optimizer: OptimizerShard, model: Any) -> None:
        """Set an optimiser and a model to this point.

        The optimiser is fresh, of the same model, number of workers and ZeRO stage. Raises
        `CheckpointError`, before anything is changed, unless the point holds exactly the tensors
        that `capture` would hold of them.
        """
        self._check(optimizer, model)
        for i, parameter in enumerate(optimizer.parameters):
            parameter.data.copy_(self.tensors[f"{i}.value"])
            state = optimizer.state[parameter]
            for key, value in self.tensors.items():
                owner, _, name = key.partition(".")
                if owner == str(i) and name != "value":
                    # The fused AdamW keeps its step counter beside the parameter, too.
                    state[name] = value.to(parameter.device)
        for i, part in _model_tensors(model, optimizer).items():
            value = self.tensors[f"model.{i}"]
            # A parameter that ZeRO-3 has not gathered yet has another shape; it will be gathered
            # from its partitions, which are restored.
            if value.shape == part.shape:
                part.copy_(value)

    def _check(self, optimizer: OptimizerShard, model: Any) -> None:
        """Raise `CheckpointError` for a missing, unexpected or misshapen tensor."""
        values = {f"{i}.value": p for i, p in enumerate(optimizer.parameters)}
        parts = {f"model.{i}": p for i, p in _model_tensors(model, optimizer).items()}
        moments = {f"{i}.{name}" for i in range(len(values)) for name in MOMENTS}
        expected = values.keys() | parts.keys() | moments
        wrong = sorted(expected ^ self.tensors.keys())
        if not wrong:
            wrong = [n for n, p in values.items() if self.tensors[n].shape != p.shape]
            wrong += [
                name
                for name in moments
                if not name.endswith(".step")
                and self.tensors[name].shape != values[f"{name.partition('.')[0]}.value"].shape
            ]
        if wrong:
            raise CheckpointError(
                f"the resume point does not fit the model: {', '.join(wrong[:3])} "
                f"({len(wrong)} tensors); delete the ladder's folder below resume/ in the results"
            )


def point_bytes(optimizer: OptimizerShard, model: Any) -> int:
    """Return the bytes of this rank's part of a point, before or after the first step."""
    values: int = sum(p.numel() * p.element_size() for p in optimizer.parameters)
    parts = _model_tensors(model, optimizer).values()
    return 3 * values + int(sum(p.numel() * p.element_size() for p in parts))


def _copy(tensor: Any) -> Any:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _model_tensors(model: Any, optimizer: OptimizerShard) -> dict[int, Any]:
    """Return the trained parameters as this rank holds them, without those the optimiser updates.

    With ZeRO-3 these are its partition of each, and the whole of small ones, which stay gathered.
    Without ZeRO and in float32, the optimiser updates the model's own parameters.
    """
    updated = {(p.data_ptr(), p.numel()) for p in optimizer.parameters}
    held = [
        each.data
        for p in model.parameters()
        if p.requires_grad
        for each in (getattr(p, "ds_tensor", None), p)
        if each is not None
    ]
    return {
        i: part for i, part in enumerate(held) if (part.data_ptr(), part.numel()) not in updated
    }


def _file_name(rank: int, workers: int, zero_stage: int) -> str:
    return f"{rank}-of-{workers}-zero{zero_stage}.safetensors"


def save_resume_point(
    results: Results, ladder: str, point: ResumePoint, rank: int, workers: int, zero_stage: int
) -> None:
    """Write this rank's file of a point. Raises `ResultsError` on a full disk."""
    from safetensors.torch import save

    history = {
        "losses": json.dumps(point.losses),
        "tokens": str(point.tokens),
        "seconds": str(point.seconds),
        "lost": json.dumps(point.lost),
    }
    data = save(point.tensors, metadata=history)
    folder = f"resume/{ladder}/{len(point.losses):08d}"
    results.folder.put(f"{folder}/{_file_name(rank, workers, zero_stage)}", data)


def load_resume_point(
    results: Results, ladder: str, rank: int, workers: int, zero_stage: int, before: int
) -> ResumePoint | None:
    """Return this rank's part of the ladder's newest usable point before a step, or None.

    A point is usable if the files of all ranks for this number of workers and ZeRO stage are
    present. `before` is the step of the first snapshot that is still missing.
    """
    from safetensors import safe_open

    names = [name for name in results.folder.names(f"resume/{ladder}") if name.isdigit()]
    for name in sorted(names, reverse=True):
        if int(name) >= before:
            continue
        folder = f"resume/{ladder}/{name}"
        files = [_file_name(each, workers, zero_stage) for each in range(workers)]
        if not all(results.folder.exists(f"{folder}/{file}") for file in files):
            continue
        with (
            results.folder.local_folder(folder) as local,
            safe_open(local / files[rank], framework="pt") as file,
        ):
            history = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        losses = tuple(json.loads(history["losses"]))
        tokens, seconds = int(history["tokens"]), float(history["seconds"])
        cut, untaught = json.loads(history.get("lost", "[0, 0]"))  # earlier versions had none
        return ResumePoint(losses, tokens, seconds, tensors, (cut, untaught))
    return None


def remove_older_points(results: Results, ladder: str, step: int) -> None:
    """Remove the ladder's points of other steps, once every rank has written that of `step`."""
    for name in results.folder.names(f"resume/{ladder}"):
        if name != f"{step:08d}":
            results.folder.delete_folder(f"resume/{ladder}/{name}")


def remove_points(results: Results, ladder: str) -> None:
    """Remove all points of a ladder that has ended."""
    results.folder.delete_folder(f"resume/{ladder}")

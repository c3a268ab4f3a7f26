"""The transformers models in memory: the held state, and a reference state to compare it with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...checkpoints.adapter import load_adapter
from ...checkpoints.architecture import load_model
from ...checkpoints.files import CheckpointError, weights_stamp
from ..errors import EngineError
from ..types import EngineConfig, Weights
from .local_weights import checked_stamp, on_disk


@dataclass(frozen=True)
class StateModel:
    """A model in memory, and the id of the state that it is."""

    state: str
    model: Any


class ModelHolder:
    """Loads models with verified weights. Threads may share a holder."""

    def __init__(self, config: EngineConfig) -> None:
        import torch

        self._config = config
        self._device = "cuda" if config.gpus and torch.cuda.is_available() else "cpu"
        self._held: StateModel | None = None
        self._reference: tuple[Weights, StateModel] | None = None
        """The last reference state that was compared with, and its model."""
        self._lock = threading.Lock()

    def load(self, weights: Weights) -> None:
        """Hold a state's full model in place of the one held.

        Raises `CheckpointError` if its weights are missing, damaged, or differ from their
        checksum; no state is held then.
        """
        self._held = None  # frees the old model before the new one is loaded
        self._held = StateModel(weights.full_state_id, self._verified_model(weights))

    def close(self) -> None:
        """Free the models."""
        self._held, self._reference = None, None

    @contextmanager
    def use(self, weights: Weights) -> Iterator[StateModel]:
        """Give the held model, alone for the block, with the state's adapter on top if it has one.

        Raises `EngineError` if another state is held.
        """
        with self._lock:
            held = self._held
            if held is None or held.state != weights.full_state_id:
                raise EngineError(
                    f"the request is for state {weights.full_state_id}, but the engine holds "
                    f"{held.state if held else 'none'}"
                )
            if weights.adapter is None:
                yield held
                return
            adapted = load_adapter(held.model, weights.adapter)
            try:
                yield StateModel(weights.state_id, adapted)
            finally:
                adapted.unload()

    def reference(self, weights: Weights) -> StateModel:
        """Return the model of a reference state, which stays in memory for the next call.

        Raises `CheckpointError` as `load` does.
        """
        if self._reference is None or self._reference[0] != weights:
            self._reference = None  # memory holds two models at most
            model = self._verified_model(weights)
            if weights.adapter is not None:
                model = load_adapter(model, weights.adapter)
            self._reference = (weights, StateModel(weights.state_id, model))
        return self._reference[1]

    def _verified_model(self, weights: Weights) -> Any:
        """Return a state's full model, after its files were compared with their checksum."""
        local = on_disk(weights, self._config.trust_remote_code)
        stamp = checked_stamp(local)
        model = self._read_model(local)
        if weights_stamp(local.checkpoint) != stamp:
            raise CheckpointError(
                f"state {weights.full_state_id}: {local.checkpoint}: its weights were written "
                "while they were loaded"
            )
        return model

    def _read_model(self, weights: Weights) -> Any:
        config = self._config
        try:
            model = load_model(
                weights.checkpoint, "language", config.dtype, config.trust_remote_code
            )
        except CheckpointError as e:
            raise CheckpointError(f"state {weights.full_state_id}: {e}") from None
        return model.to(self._device)

"""How a classifier's raw outputs become a score; the same for every scorer backend.

Backends return raw outputs (logits). Which probabilities they are is the model's own configuration
to say (`checkpoints.classifier`), never the backend's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...checkpoints.classifier import ClassifierError, Outputs, read_config, read_outputs
from ...checkpoints.classifier import scored_output as find_output
from ..errors import EngineError
from ..types import Score, ScorerConfig


class ScoreRule:
    """A scorer's outputs, and the one that is scored."""

    def __init__(self, config: ScorerConfig, folder: str) -> None:
        """Read the configuration in `folder`; raise `EngineError` if it does not fit `config`."""
        self._config = config
        try:
            self._outputs: Outputs = read_outputs(read_config(folder), config.trust_remote_code)
            self._index = find_output(self._outputs, config.label, config.mode)
        except ClassifierError as e:
            raise EngineError(f"scorer {config.name}: {e}") from None

    def score(self, raw: Sequence[float]) -> Score:
        """Return the score of a text from the model's raw outputs.

        Raises `EngineError` if there are not as many as the configuration names, or if one is not
        finite.
        """
        config, labels = self._config, self._outputs.labels
        if len(raw) != len(labels):
            raise EngineError(
                f"scorer {config.name}: the model has {len(raw)} outputs; its config.json names "
                f"{len(labels)}: {self._outputs.listed()}"
            )
        if not all(map(math.isfinite, raw)):
            raise EngineError(f"scorer {config.name}: an output is not finite: {list(raw)}")
        value = raw[self._index]
        if self._outputs.activation == "none":
            if config.mode == "share":
                return Score(float(config.sign * value > 0), None)
            return Score(config.sign * value, None)
        if self._outputs.activation == "sigmoid":
            probability = 0.5 * (1 + math.tanh(value / 2))
            called = value > 0
        else:
            highest = max(raw)
            probability = math.exp(value - highest) / sum(math.exp(x - highest) for x in raw)
            called = value == highest
        if config.mode == "share":
            return Score(float(called), probability)
        return Score(config.sign * probability, probability)

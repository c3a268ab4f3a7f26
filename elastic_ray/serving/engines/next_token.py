"""A recorded state as what it expects next, token by token: `theory.compressor.Expects`.

It has to expect the same when it is asked again, to the last bit, so it computes on one thread, in
single precision, one token after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checkpoints.files import CheckpointError
from ...checkpoints.reference import CheckpointReference
from ...results.storage.folder import fetched
from ...results.store import Results

WINDOW = 256
"""As the probe's default; smaller where the model has fewer positions."""


class Predictor:
    """The state of that id in `results`; `CheckpointError` where its weights are not there."""

    def __init__(self, results: Results, state: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(1)
        with contextlib.ExitStack() as held:
            base, revision, adapter = _places(results, state, held)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(base, revision=revision)
            model: Any = AutoModelForCausalLM.from_pretrained(
                base, revision=revision, dtype="float32", use_safetensors=True
            )
            if adapter is not None:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, adapter)
        self._model = model.eval()
        ends = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        self._first = next((token for token in ends if token is not None), None)
        if self._first is None:
            raise CheckpointError(f"state {state}: its tokenizer has no first and no end token")
        self._special = set(self._tokenizer.all_special_ids)
        self.window = min(WINDOW, int(model.config.max_position_embeddings))
        self._past: Any = None

    def begin(self) -> NDArray[np.float64]:
        self._past = None
        return self.take(int(self._first))

    def take(self, token: int) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([[token]]), past_key_values=self._past, use_cache=True
            )
            self._past = out.past_key_values
            chances: NDArray[np.float64] = out.logits[0, -1].double().softmax(-1).numpy()
        return chances

    def encode(self, text: str) -> list[int] | None:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        same = not self._special.intersection(tokens) and self.decode(tokens) == text
        return tokens if same else None

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text


def _places(
    results: Results, state: str, held: contextlib.ExitStack
) -> tuple[str, str | None, str | None]:
    """(folder or hub id, revision) of the state's whole weights, and its adapter's folder: there
    until `held` is closed."""
    adapter: str | None = None
    at: str | None = state
    while at is not None:
        row = results.state(at)
        if row is None:
            raise CheckpointError(f"no state {at} is recorded in {results.uri}")
        checkpoint = row["checkpoint"]
        if checkpoint is None:
            raise CheckpointError(
                f"state {at}: its checkpoint is not there (a sweep's `keep` says which stay)"
            )
        reference = CheckpointReference.parse(checkpoint)
        folder, revision = reference.source(results.location)
        if reference.hub is not None:
            return folder, revision, adapter
        if reference.stored is not None:
            folder = held.enter_context(fetched(folder))
        if not Path(folder, "adapter_config.json").exists():
            return folder, None, adapter
        adapter = adapter or folder
        at = row["parent_id"]
    raise CheckpointError(f"state {state}: adapters, and no weights that they lie on")

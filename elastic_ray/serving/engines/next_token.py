"""A recorded state as a next-token predictor, for the compressor in `theory`.

Compressor and decompressor need equal probabilities to the last bit. So the model computes on one
thread, in single precision, one token after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checkpoints.adapter import load_adapter
from ...checkpoints.architecture import load_model
from ...checkpoints.files import CheckpointError
from ...checkpoints.hub import download_model
from ...checkpoints.model_files import ADAPTER
from ...checkpoints.reference import CheckpointReference
from ...results.storage.folder import local_folder_at
from ...results.store import Results

WINDOW = 256
"""Tokens that are seen at a time, as in the probe's default; fewer where the model has fewer
positions."""


class Predictor:
    """Implements the protocol of `theory.compressor` with a state's model.

    Raises `CheckpointError` if the state is not recorded, its weights are not available, or its
    tokenizer has neither a first nor an end token.
    """

    def __init__(self, results: Results, state: str) -> None:
        import torch
        from transformers import AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' logging is untyped
        torch.set_num_threads(1)
        with contextlib.ExitStack() as downloads:
            base, revision, adapter = _weights(results, state, downloads)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(base, revision=revision)
            folder = base if revision is None else download_model(base, revision)
            model: Any = load_model(folder, "language", "float32")
            if adapter is not None:
                model = load_adapter(model, adapter)
        self._model = model.eval()
        ends = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id)
        first = next((token for token in ends if token is not None), None)
        if first is None:
            raise CheckpointError(f"state {state}: its tokenizer has no first and no end token")
        self._first_token = int(first)
        self._special = set(self._tokenizer.all_special_ids)
        self.window = min(WINDOW, int(model.config.max_position_embeddings))
        self._cache: Any = None

    def begin(self) -> NDArray[np.float64]:
        """Forget what was seen, see the first token; return probabilities as `take` does."""
        self._cache = None
        return self.take(self._first_token)

    def take(self, token: int) -> NDArray[np.float64]:
        """See one more token; return the probabilities of the next, shape (vocabulary,)."""
        import torch

        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([[token]]), past_key_values=self._cache, use_cache=True
            )
            self._cache = out.past_key_values
            probabilities: NDArray[np.float64] = out.logits[0, -1].double().softmax(-1).numpy()
        return probabilities

    def encode(self, text: str) -> list[int] | None:
        """Return the tokens of a text; None where `decode` would not restore it exactly."""
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        same = not self._special.intersection(tokens) and self.decode(tokens) == text
        return tokens if same else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text


def _weights(
    results: Results, state: str, downloads: contextlib.ExitStack
) -> tuple[str, str | None, str | None]:
    """Return (folder or hub id, revision) of a state's full weights, and its adapter's folder.

    Folders downloaded from an object store stay until `downloads` is closed.
    """
    adapter: str | None = None
    ancestor: str | None = state
    while ancestor is not None:
        row = results.state(ancestor)
        if row is None:
            raise CheckpointError(f"no state {ancestor} is recorded in {results.uri}")
        checkpoint = row["checkpoint"]
        if checkpoint is None:
            raise CheckpointError(
                f"state {ancestor}: its checkpoint was deleted (`keep` in the sweep file says "
                "which checkpoints stay)"
            )
        reference = CheckpointReference.parse(checkpoint)
        folder, revision = reference.source(results.location)
        if reference.hub is not None:
            return folder, revision, adapter
        if reference.stored is not None:
            folder = downloads.enter_context(local_folder_at(folder))
        if not Path(folder, ADAPTER).exists() or Path(folder, "config.json").exists():
            return folder, None, adapter
        adapter = adapter or folder
        ancestor = row["parent_id"]
    raise CheckpointError(f"state {state}: it has adapters only, and no full weights below them")

"""Makes start states: initialises random models, and records checkpoints of the hub or a folder."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..checkpoints.architecture import check_finite
from ..checkpoints.files import (
    CheckpointError,
    checkpoint_bytes,
    checkpoint_checksum,
    content_hash,
)
from ..checkpoints.hub import download_model
from ..checkpoints.model_check import check_model
from ..checkpoints.reference import CheckpointReference
from ..plan import Start
from ..results.state_rows import PlannedState, Provenance, SavedCheckpoint, Training, done_row
from ..results.store import Results
from ..spec import Init
from ..tasks.registry import load_task
from ..tasks.task import Task
from . import checkpoint_io
from .job import TrainingError
from .provenance import hardware, versions

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def prepare_start(
    uri: str,
    state: str,
    start: Start,
    task: str,
    data: Mapping[str, Any],
    sweep: str,
    lineage: Mapping[str, Any],
    git_revision: str | None,
) -> None:
    """Make a start state and record it, unless it is recorded with its checkpoint.

    `uri` is the results', `data` the task's settings in the sweep file. Raises `CheckpointError`
    where the hub or the folder does not provide the model.
    """
    results = Results(uri, patient=True)
    row = results.state(state)
    if row is not None and row["status"] == "done" and row["checkpoint"] is not None:
        return
    began = dt.datetime.now(dt.UTC)
    if start.init is not None:
        saved, parameters = _initialise(results, state, start.init, load_task(task, data))
    elif start.kind == "hub":
        assert start.repo is not None and start.revision is not None
        saved, parameters = _from_hub(start.repo, start.revision, start.trust_remote_code)
    else:
        assert start.path is not None
        if content_hash(start.path) != start.identity["content"]:
            raise CheckpointError(
                f"{start.path}: its files changed after the sweep was planned; start it again"
            )
        saved, parameters = _from_folder(start.path, start.trust_remote_code)
    if row is not None and row["status"] == "done":
        results.restore_checkpoint(state, saved.checkpoint, saved.checksum)
        return
    finished = dt.datetime.now(dt.UTC)
    planned = PlannedState(state, None, "start", examples=0, lineage=lineage, sweep=sweep)
    training = Training(
        parameters=parameters,
        tokens=0,
        pretrain_tokens=0,
        seconds=(finished - began).total_seconds(),
        started_at=began,
        finished_at=finished,
    )
    provenance = Provenance(git_revision, versions(), hardware())
    results.write("states", [done_row(planned, saved, training, provenance)])


def _initialise(
    results: Results, state: str, init: Init, task: Task
) -> tuple[SavedCheckpoint, int]:
    """Save a randomly initialised model; return its checkpoint and number of parameters."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = task.tokenizer(init.vocabulary)
    config = model_config(init, tokenizer)
    torch.manual_seed(init.seed)
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # no annotations
    weights = checkpoint_io.gather_weights(model, trained_only=False)
    checkpoint_io.check_shapes(weights, checkpoint_io.parameter_shapes(model))
    saved = checkpoint_io.save_checkpoint(results, state, model, tokenizer, weights)
    _check_tokenizer(results, saved.checkpoint, tokenizer, task)
    return saved, sum(p.numel() for p in model.parameters())


def _check_tokenizer(
    results: Results, checkpoint: str, original: PreTrainedTokenizerBase, task: Task
) -> None:
    """Raise `TrainingError` unless the saved tokenizer splits texts as the original does.

    transformers picks the class by architecture, and some classes split texts in their own way.
    """
    with checkpoint_io.local_copy(results, checkpoint) as (source, _):
        loaded = checkpoint_io.load_tokenizer(source, None, trust=False)
    for example in task.pool("positive")[:20]:
        if loaded(example.response).input_ids != original(example.response).input_ids:
            raise TrainingError(
                f"the tokenizer of {checkpoint} splits texts differently once it is loaded again "
                f"({type(loaded).__name__}): choose another architecture"
            )


def model_config(init: Init, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Return the transformers configuration of a model with random weights."""
    from transformers import AutoConfig

    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": init.tied,
    }
    if init.architecture == "gpt2":
        return AutoConfig.for_model(
            "gpt2",
            n_embd=init.hidden_size,
            n_layer=init.layers,
            n_head=init.heads_used,
            n_inner=init.intermediate_used,
            n_positions=init.positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **tokens,
        )
    return AutoConfig.for_model(
        init.architecture,
        hidden_size=init.hidden_size,
        num_hidden_layers=init.layers,
        num_attention_heads=init.heads_used,
        num_key_value_heads=init.kv_heads or init.heads_used,
        head_dim=init.hidden_size // init.heads_used,
        intermediate_size=init.intermediate_used,
        max_position_embeddings=init.positions,
        **tokens,
    )


def _from_hub(repo: str, revision: str, trust: bool) -> tuple[SavedCheckpoint, int]:
    folder = download_model(repo, revision, trust_remote_code=trust)
    return _existing(folder, str(CheckpointReference(hub=repo, revision=revision)), trust)


def _from_folder(path: str, trust: bool) -> tuple[SavedCheckpoint, int]:
    return _existing(path, path, trust)


def _existing(folder: str, checkpoint: str, trust: bool) -> tuple[SavedCheckpoint, int]:
    """Describe the checkpoint files in `folder`, recorded as `checkpoint`; count its parameters.

    Raises `CheckpointError` if it is no language model that can be trained and saved.
    """
    parameters = check_model(folder, trust).parameters
    check_finite(folder)
    saved = SavedCheckpoint(checkpoint, checkpoint_bytes(folder), checkpoint_checksum(folder))
    return saved, parameters

"""What a local model or scorer must be for a sweep to run: told before anything starts.

A model must load, be trainable, and be saved and read again as it was; its tokenizer's ids must be
rows of its embeddings. A scorer must load with its classification head. Reads headers,
configurations and tokenizers, no weights. `python -m elastic_ray.checkpoints.model_check` does it
in a process of its own (see `check_all`), which keeps torch and the libraries' messages out of the
caller's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from .architecture import Architecture, check_files, generation_config, quiet
from .files import CheckpointError
from .model_files import read_config, read_headers

SAMPLES = (
    "The film was good, and I'd see it again: 10/10!",
    "  Two spaces, a tab\tand\na new line.\n\n",
    "Être ou ne pas être; 你好世界; день добрый 🙂 <br /> user@example.com",
)
"""Texts that a tokenizer must split in the same way after it was saved."""
_SAVE_AGAIN = (
    "load it with AutoModelForCausalLM and save it again, or set resources.engines.engine to "
    "transformers"
)
_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Endings of the names of architectures that continue texts."""
SCORE_HEADS = ("LlamaForScore", "LlamaModelForScore")
SCORE_TENSORS = ("score_head.", "normalizer.")
"""Architectures, and beginnings of names of tensors, of safe-rlhf's score models."""
PREFIX_OPTIONAL = ("gpt2", "bloom", "opt", "gpt_neox", "phi", "olmo", "olmo2", "smollm3")
"""Types of models whose tensors vLLM finds without the architecture's prefix ("transformer.")."""


@dataclass(frozen=True)
class LocalModel:
    """A folder to check: a model, or a scorer (`is_scorer`).

    `adapted` are the modules that LoRA stages adapt, "all-linear" or names; `vllm` is whether vLLM
    may load it.
    """

    folder: str
    is_scorer: bool = False
    trust_remote_code: bool = False
    adapted: tuple[str, ...] = ()
    vllm: bool = True


def check_all(models: Sequence[LocalModel]) -> list[str | None] | None:
    """Return for each model why it cannot be used, or None; None if nothing can be checked here.

    Without the libraries that load models, as on a machine that only plans, nothing is checked.
    """
    if not models:
        return []
    if any(find_spec(library) is None for library in ("torch", "transformers", "safetensors")):
        return None
    done = subprocess.run(
        [sys.executable, "-m", "elastic_ray.checkpoints.model_check"],
        input=json.dumps([asdict(model) for model in models]),
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise CheckpointError(
            f"the check of local models ended with code {done.returncode}: {last}"
        )
    found: list[str | None] = json.loads(lines[-1])
    return found


def problem(model: LocalModel) -> str | None:
    """Return why a local model or scorer cannot be used, in one line; None if it can."""
    try:
        if model.is_scorer:
            _check_scorer(model)
        else:
            check_model(model.folder, model.trust_remote_code, model.adapted, for_vllm=model.vllm)
    except CheckpointError as e:
        return " ".join(str(e).split())
    return None


def check_model(
    folder: str,
    trust_remote_code: bool,
    adapted: Sequence[str] = (),
    for_vllm: bool = False,
) -> Architecture:
    """Return the architecture of a language model that can be trained, saved and read again.

    `adapted` are the modules that LoRA stages adapt. Raises `CheckpointError` with the reason.
    """
    found = check_files(folder, "language", trust_remote_code)
    if for_vllm:
        _check_names(found, folder)
    _check_adapted(found, adapted, folder)
    tokenizer = _tokenizer(folder, trust_remote_code)
    rows = found.model.get_input_embeddings().weight.shape[0]
    used = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
    ids = set(tokenizer.convert_tokens_to_ids(sorted(used)))
    ids |= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    if (largest := max(ids, default=0)) >= rows:
        text = tokenizer.convert_ids_to_tokens(largest)
        raise CheckpointError(
            f"{folder}: its tokenizer has the token {text!r} with id {largest}, but the model has "
            f"{rows} embeddings; give the tokenizer of this model, or resize its embeddings"
        )
    _check_saved(found, tokenizer, folder, trust_remote_code)
    return found


def _check_names(found: Architecture, folder: str) -> None:
    """Raise `CheckpointError` for names that transformers understands, but vLLM does not."""
    named = read_config(folder).get("architectures") or []
    if not any(str(name).endswith(_LANGUAGE_MODELS) for name in named):
        raise CheckpointError(
            f"{folder}: config.json: architectures: found {', '.join(map(str, named)) or 'none'}; "
            f"vLLM loads what is named there, which should be {found.name}; {_SAVE_AGAIN}"
        )
    headers = read_headers(folder)
    tied = getattr(found.model, "all_tied_weights_keys", None) or {}
    for copy, original in tied.items():
        if copy in headers and original not in headers:
            raise CheckpointError(
                f"{folder}: the tied embeddings are stored as {copy}, but vLLM reads {original}; "
                f"{_SAVE_AGAIN}"
            )
    if found.config.model_type in PREFIX_OPTIONAL:
        return
    prefix = f"{found.model.base_model_prefix}."
    own = found.model.state_dict().keys()
    for name in headers:
        if name not in own and f"{prefix}{name}" in own:
            raise CheckpointError(
                f"{folder}: {name} should be {prefix}{name} for vLLM to load it; {_SAVE_AGAIN}"
            )


def _check_adapted(found: Architecture, adapted: Sequence[str], folder: str) -> None:
    """Raise `CheckpointError` for modules that the model does not have; peft skips them."""
    modules = [name for name, _ in found.model.named_modules()]
    for target in adapted:
        if target == "all-linear" or any(f".{name}".endswith(f".{target}") for name in modules):
            continue
        last = sorted(
            {
                n.rpartition(".")[2]
                for n, m in found.model.named_modules()
                if n and not list(m.children()) and hasattr(m, "weight") and m.weight.ndim == 2
            }
        )
        raise CheckpointError(
            f"{folder}: lora.target_modules: {found.name} has no {target}; it has {', '.join(last)}"
        )


def _tokenizer(folder: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as e:
        reason = " ".join(str(e).split())[:200]
        raise CheckpointError(
            f"{folder}: its tokenizer cannot be loaded ({type(e).__name__}: {reason}); save it "
            "beside the model: tokenizer.save_pretrained(folder)"
        ) from None


def _check_saved(found: Architecture, tokenizer: Any, folder: str, trust_remote_code: bool) -> None:
    """Raise `CheckpointError` unless configuration and tokenizer can be saved and read again."""
    from transformers import AutoConfig

    found.model.generation_config = generation_config(folder, found.model)
    with tempfile.TemporaryDirectory(prefix="elastic_ray-check-") as copy:
        try:
            with quiet():
                found.model.config.save_pretrained(copy)
                found.model.generation_config.save_pretrained(copy)
                tokenizer.save_pretrained(copy)
                AutoConfig.from_pretrained(copy, trust_remote_code=trust_remote_code)
        except Exception as e:
            reason = " ".join(str(e).split())[:300]
            raise CheckpointError(
                f"{folder}: its configuration or tokenizer cannot be saved with a trained state: "
                f"{type(e).__name__}: {reason}"
            ) from None
        if trust_remote_code:  # the code is not part of the copy
            return
        again = _tokenizer(copy, trust_remote_code)
    for text in SAMPLES:
        before, after = tokenizer(text).input_ids, again(text).input_ids
        if before != after:
            raise CheckpointError(
                f"{folder}: its tokenizer ({type(tokenizer).__name__}) splits texts differently "
                f"once it is saved and loaded again: {text[:20]!r} gives {before[:8]}, then "
                f"{after[:8]}; trained states would be asked in other tokens than the base line"
            )


def _check_scorer(model: LocalModel) -> None:
    is_score = any(
        name in SCORE_HEADS for name in read_config(model.folder).get("architectures") or ()
    )
    if is_score:
        check_files(model.folder, "body", model.trust_remote_code, SCORE_TENSORS)
        if "score_head.weight" not in read_headers(model.folder):
            raise CheckpointError(
                f"{model.folder}: no tensor score_head.weight, which a score model has"
            )
    else:
        check_files(model.folder, "classifier", model.trust_remote_code)
    _tokenizer(model.folder, model.trust_remote_code)


def _main() -> None:
    """Read models from stdin; print one line: a list of problems, as JSON."""
    models = [
        LocalModel(**{**each, "adapted": tuple(each["adapted"])}) for each in json.load(sys.stdin)
    ]
    print(json.dumps([problem(model) for model in models]))


if __name__ == "__main__":
    _main()

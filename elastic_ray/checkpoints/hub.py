"""Models on the Hugging Face hub: availability checks, downloads and error messages.

`download_model` fetches a model, `model_problem` checks before a sweep starts that it can be
fetched, and `download_error` explains a failure with a suggested fix. The library `huggingface_hub`
is imported only when it is needed.
"""

from __future__ import annotations

import contextlib
import os
from typing import Literal

from .files import CheckpointError

_MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")
"""Weights, configuration and tokenizer. Weights in other formats are not fetched: loading some of
them runs code."""

RepoKind = Literal["model", "dataset"]

_TIMEOUT = 20.0
"""Seconds the hub may take to answer."""
_LOGIN = "`hf auth login`, or HF_TOKEN"
_NOT_INSTALLED = "reading from the hub needs the `huggingface_hub` package (extra `train`)"


def download_error(kind: RepoKind, repo: str, revision: str, error: Exception) -> str:
    """Return the message for a failed hub download, with a suggested fix.

    The fix is accepting a licence, logging in, correcting the id or commit, or going online; the
    caller may append an alternative.
    """
    reason = " ".join(str(error).split())[:200]
    return (
        f"{repo}@{revision[:12]} is not available from the hub "
        f"({type(error).__name__}: {reason}); {_advice(kind, repo, error)}"
    )


def _advice(kind: RepoKind, repo: str, error: Exception) -> str:
    # By name: the classes belong to optional libraries.
    names = {cls.__name__ for each in _causes(error) for cls in type(each).__mro__}
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    if "GatedRepoError" in names or "gated" in str(error).lower():
        return f"accept its licence at {page} and log in ({_LOGIN})"
    if "RevisionNotFoundError" in names:
        return f"it has no such commit: see {page}/commits/main"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return f"check the id; if it is private, log in ({_LOGIN})"
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE is set, and it is not in this machine's cache"
    return "check the network"


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and its chain of causes."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def model_problem(repo: str, revision: str) -> str | None:
    """Return why a model's configuration and safetensors files cannot be downloaded, or None.

    Checks this machine's cache first, then the hub. Downloads nothing but the configuration.
    """
    try:
        import huggingface_hub
    except ImportError:
        return _NOT_INSTALLED
    try:
        cached = huggingface_hub.snapshot_download(
            repo,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors"],
            local_files_only=True,
        )
        if _complete(cached):
            return None
    except Exception:  # not in the cache, or damaged: the check with the hub below decides
        pass
    try:
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT)
        # `model_info` also answers for gated repositories without access; a file download does not.
        huggingface_hub.hf_hub_download(repo, "config.json", revision=revision)
    except Exception as e:
        return download_error("model", repo, revision, e)
    if not any(file.rfilename.endswith(".safetensors") for file in info.siblings or ()):
        return (
            f"{repo}@{revision[:12]} holds no *.safetensors, and other formats may run code when "
            "they are read; choose a commit that has them, or convert it"
        )
    return None


def cache_settings(repo: str, revision: str) -> None:
    """Download a model's configuration and tokenizer settings, a few kB, into the cache.

    What cannot be downloaded is left to the download of the model.
    """
    with contextlib.suppress(Exception):
        from huggingface_hub import snapshot_download

        small = ["config.json", "tokenizer_config.json", "chat_template.*"]
        snapshot_download(repo, revision=revision, allow_patterns=small)


def cached_config(repo: str, revision: str) -> str | None:
    """Return the path of a model's `config.json` in this machine's cache, None if it is not there.

    Never asks the hub.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return found if isinstance(found, str) else None


def cached_folder(repo: str, revision: str) -> str | None:
    """Return the folder of a model in this machine's cache, None unless all its files are there.

    Never asks the hub.
    """
    config = cached_config(repo, revision)
    folder = os.path.dirname(config) if config else None
    return folder if folder and _complete(folder) else None


def _complete(folder: str) -> bool:
    """Return whether a cached snapshot holds a configuration and all weight files of its index."""
    import json
    from pathlib import Path

    root = Path(folder)
    index = root / "model.safetensors.index.json"
    if not (root / "config.json").is_file():
        return False
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((root / name).is_file() for name in named)
    return any(root.glob("*.safetensors"))


def download_model(repo: str, revision: str, *, trust_remote_code: bool = False) -> str:
    """Return the folder of a hub model, downloading what this machine's cache lacks.

    Fetches the safetensors files, the configuration and the tokenizer, and the Python files of the
    repository where its code is trusted. Raises `CheckpointError` if the hub does not provide
    them.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(f"{repo}: {_NOT_INSTALLED}") from None
    code = ["*.py"] if trust_remote_code else []
    try:
        return snapshot_download(repo, revision=revision, allow_patterns=[*_MODEL_FILES, *code])
    except Exception as e:
        message = download_error("model", repo, revision, e)
        raise CheckpointError(f"{message}; or give path, a local folder, in its place") from None

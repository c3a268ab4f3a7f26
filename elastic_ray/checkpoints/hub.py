"""What to do where the Hugging Face hub does not give what is asked for, in words. Pure.

`refusal` words an error of the hub's libraries; `why_no_model` looks, before anything starts,
whether a model's files can be had.
"""

from __future__ import annotations

from typing import Literal

NOT_READ = ["*.bin", "*.pth", "*.pt", "*.gguf", "*.onnx", "*.h5", "*.msgpack"]
"""Weights in other formats than safetensors: they are not fetched."""

Kind = Literal["model", "dataset"]

SECONDS = 20.0
"""How long the hub may take to answer."""
LOGIN = "`hf auth login`, or HF_TOKEN"


def refusal(kind: Kind, repo: str, revision: str, error: Exception) -> str:
    """Why `repo` at a commit cannot be had, and what may help; the caller says what else may."""
    said = " ".join(str(error).split())[:200]
    return (
        f"{repo}@{revision[:12]} cannot be had from the hub ({type(error).__name__}: {said}); "
        f"{_advice(kind, repo, error)}"
    )


def _advice(kind: Kind, repo: str, error: Exception) -> str:
    names = {cls.__name__ for each in _chain(error) for cls in type(each).__mro__}
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    if "GatedRepoError" in names or "gated" in str(error).lower():
        return f"accept its licence at {page} and log in ({LOGIN})"
    if "RevisionNotFoundError" in names:
        return f"it has no such commit: see {page}/commits/main"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return f"check the id; if it is private, log in ({LOGIN})"
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE is set, and it is not in this machine's cache"
    return "check the network"


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from."""
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) and cause not in found:
        found.append(cause)
    return found


def why_no_model(repo: str, revision: str) -> str | None:
    """Why a model's config and safetensors cannot be had at that commit; None where they can.

    Asks this machine's cache first, then the hub; downloads no more than the config.
    """
    try:
        import huggingface_hub
    except ImportError:
        return "reading from the hub needs the `huggingface_hub` package (extra `train`)"
    wanted = ["*.json", "*.safetensors"]
    try:
        cached = huggingface_hub.snapshot_download(
            repo, revision=revision, allow_patterns=wanted, local_files_only=True
        )
        if _complete(cached):
            return None
    except Exception:  # not there, or not whole: the hub will say
        pass
    try:
        found = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=SECONDS)
        huggingface_hub.hf_hub_download(repo, "config.json", revision=revision)  # gated?
    except Exception as e:
        return refusal("model", repo, revision, e)
    if not any(file.rfilename.endswith(".safetensors") for file in found.siblings or ()):
        return (
            f"{repo}@{revision[:12]} holds no *.safetensors, and other formats may run code when "
            "they are read; choose a commit that has them, or convert it"
        )
    return None


def _complete(folder: str) -> bool:
    """Whether a cached snapshot holds a config and every weight file that its index names."""
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


def downloaded(repo: str, revision: str) -> str:
    """The folder of a hub checkpoint, fetched if need be."""
    from huggingface_hub import snapshot_download

    return snapshot_download(repo, revision=revision, ignore_patterns=NOT_READ)

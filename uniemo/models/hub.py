"""Weights on the Hugging Face hub: found in the local cache, fetched where a network may be used, else asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from uniemo.errors import UniEmoError

RANDOM = "random:"  # before a name: the architecture without its weights
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_PATIENCE = 10  # seconds for an answer of the hub
_TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true


def is_hub_name(name: str) -> bool:
    """Whether a name has the form ``owner/repository``, and not that of a file."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_FILES)


def random_name(name: str) -> str:
    """Return the name of a network's architecture with random weights."""
    return RANDOM + name.removeprefix(RANDOM)


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network, now or when huggingface_hub was imported."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def hub_folder(repo: str, files: Sequence[str], what: str, size: str = "", optional: Sequence[str] = ()) -> Path:
    """Return the folder in the hub's cache that holds files of a repository, fetching them where that may be done.

    Args:
        repo: ``owner/repository``.
        files: paths in it, all needed; of ``a|b`` one is enough.
        what: the argument that named the repository, for the error.
        size: of all files, in words, for the error; empty where it is not known.
        optional: further paths, fetched where the repository has them.

    Raises:
        UniEmoError: files are missing and cannot be fetched; one line with the command that fetches them.
    """
    from huggingface_hub import snapshot_download

    folder = _cached(repo, files)
    missing = _lacking(folder, files)
    reason = "HF_HUB_OFFLINE is set"
    if missing and not offline():
        wanted = [path for entry in files for path in entry.split("|")] + list(optional)
        try:
            folder = Path(snapshot_download(repo, allow_patterns=wanted))
            reason = "the repository has none"
        except Exception as error:  # no network, no such repository, a licence to accept, a full disk
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        missing = _lacking(folder, files)
    if missing or folder is None:
        lost = [entry.partition("|")[0] for entry in missing]
        raise UniEmoError(missing_weights(what, repo, lost, size, reason, optional))
    return folder


def missing_weights(
    what: str, repo: str, files: Sequence[str], size: str, reason: str, optional: Sequence[str] = ()
) -> str:
    """Return the one line that says which files are missing and how to fetch them."""
    heavy = next((file for file in files if file.endswith((".safetensors", ".bin"))), files[0])
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    large = f", about {size} in all" if size else ""
    return (
        f"{what} must be on this machine or on the hub; {heavy}{more} of {repo} not found here ({reason}){large}: "
        f"fetch with `hf download {repo} {' '.join([*files, *optional])}`, give a local folder, or dry-run with "
        f"--weights random"
    )


def reach(repo: str) -> None:
    """Raise whatever keeps a repository on the hub from being reached, at once; a download would try for a minute."""
    from huggingface_hub import HfApi

    HfApi().model_info(repo, timeout=_PATIENCE)


def in_cache(repo: str, files: Sequence[str]) -> bool:
    """Whether the hub's cache holds any one of several files of a repository."""
    return _cached(repo, files) is not None


def _cached(repo: str, files: Sequence[str]) -> Path | None:
    """Return the folder of the hub's cache that holds at least one of a repository's files."""
    from huggingface_hub import try_to_load_from_cache

    for path in [path for entry in files for path in entry.split("|")]:
        found = try_to_load_from_cache(repo, path)
        if isinstance(found, str):
            return Path(found).parents[path.count("/")]
    return None


def _lacking(folder: Path | None, files: Sequence[str]) -> list[str]:
    """Return the entries of ``files`` none of whose paths is there."""
    if folder is None:
        return list(files)
    return [entry for entry in files if not any((folder / path).is_file() for path in entry.split("|"))]

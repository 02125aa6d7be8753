"""Weights on the Hugging Face hub: taken from the local cache, downloaded where a network may be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from uniemo.errors import UniEmoError, first_line

RANDOM = "random:"  # before a name: the architecture without its weights
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def is_hub_name(name: str) -> bool:
    """Whether a name has the form ``owner/repository``, and not that of a file."""
    return _NAME.fullmatch(name) is not None and not name.endswith(_FILES)


def is_here(repo: str) -> bool:
    """Whether files of a repository of the hub were fetched before, all of them or some."""
    from huggingface_hub import constants, file_download

    folder = file_download.repo_folder_name(repo_id=repo, repo_type="model")
    return any(Path(constants.HF_HUB_CACHE, folder, "snapshots").glob("*/*"))


def random_name(name: str) -> str:
    """Return the name of a network's architecture with random weights."""
    return RANDOM + name.removeprefix(RANDOM)


def hub_folder(
    repo: str,
    patterns: Sequence[str],
    missing: Callable[[Path], str | None],
    what: str,
    size: str = "",
    download: Callable[[], str] | None = None,
) -> Path:
    """Return the folder in the hub's cache that holds these files, downloaded unless ``HF_HUB_OFFLINE`` is set.

    Args:
        repo: ``owner/repository``.
        patterns: files to download; the first is the name of one at the top.
        missing: the first file that a folder lacks, None where it is complete.
        what: the argument that named the repository, for the error.
        size: of all files, such as 4.3 GB, for the error; empty where it is not known.
        download: downloads the files and returns their folder; None takes huggingface_hub's ``snapshot_download``.

    Raises:
        UniEmoError: files are missing and cannot be downloaded; one line with the command that downloads them.
    """
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    found = try_to_load_from_cache(repo, patterns[0])
    lost: str | None = patterns[0]
    if isinstance(found, str):
        lost = missing(Path(found).parent)
        if lost is None:
            return Path(found).parent
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            folder = Path(snapshot_download(repo, allow_patterns=[*patterns]) if download is None else download())
            lost = missing(folder)
            if lost is None:
                return folder
            reason = "the repository has none"
        except UniEmoError:
            raise
        except Exception as error:  # no network, no such repository, a licence to accept, a full disk
            reason = first_line(error)
    large = f", about {size} in all" if size else ""
    command = " ".join(["hf download", repo, *(f"--include '{pattern}'" for pattern in patterns)])
    raise UniEmoError(
        f"{what} must be on this machine or on the hub; {lost} of {repo} not found here ({reason}){large}: "
        f"fetch with `{command}`, give a local folder, or dry-run with --weights random"
    )

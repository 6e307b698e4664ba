"""Where huggingface_hub keeps what it has downloaded."""

from __future__ import annotations

from pathlib import Path


def cache_folder(repository: str) -> Path:
    """Return the folder that a model's repository has in the cache, or would have.

    Spelt out here: asking huggingface_hub for its name imports most of it, which takes 0.3 s.
    """
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"


def is_cached(repository: str) -> bool:
    """Return whether the cache holds anything of a repository."""
    return cache_folder(repository).is_dir()

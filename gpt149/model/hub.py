"""Models on the Hugging Face hub: a repository's name becomes a local directory."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import CheckpointError, MissingDependency
from ..system.paths import shipped
from .formats.gpt2 import has_weights

NAME = re.compile(r"[\w.-]+/[\w.-]+|(distil)?gpt2(-medium|-large|-xl)?")
LONGEST_NAME = 96
FILES = ["*.json", "*.safetensors", "merges.txt", "vocab.bpe"]
PICKLED = ["pytorch_model.bin", "pytorch_model-*.bin"]  # where there is no safetensors


def snapshot(name: str) -> Path:
    """The local directory of a hub repository: the cached one, else downloaded.

    Raises:
        CheckpointError: there is no such repository, or it cannot be fetched.
        MissingDependency: huggingface-hub is not installed.
    """
    known = sorted(p.parent.name for p in shipped("weights").glob("*/config.json"))
    if not NAME.fullmatch(name):
        raise CheckpointError(
            f"no model {name!r:.100}: it is no directory, no ckpt.pt and no name that ships "
            f"({', '.join(known) or 'none'}). Give a path, a hub name such as "
            "openai-community/gpt2, or random:gpt2."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise MissingDependency(
            f"no model {name!r:.100} here (shipped: {', '.join(known)}), and reading the Hugging "
            "Face hub needs huggingface-hub: pip install 'gpt149[hub]'."
        ) from e
    repository = name if "/" in name else f"openai-community/{name}"
    try:
        path = Path(snapshot_download(repository, local_files_only=True))
        if (path / "config.json").is_file() and has_weights(path):
            return path
    except Exception:  # not in the cache; every way of saying so ends in the download
        pass
    try:
        path = Path(snapshot_download(repository, allow_patterns=FILES))
        if (path / "config.json").is_file() and not has_weights(path):
            path = Path(snapshot_download(repository, allow_patterns=[*FILES, *PICKLED]))
        return path
    except Exception as e:  # the client's and the network's many kinds
        reason = str(e).strip().split("\n")[0]
        raise CheckpointError(
            f"cannot get '{repository}' from the Hugging Face hub "
            f"({reason.rstrip('.') or type(e).__name__}), and it is not in the local cache. "
            f"Shipped models: {', '.join(known)}."
        ) from e

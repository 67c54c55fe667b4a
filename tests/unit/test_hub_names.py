"""A hub name is read from the cache, else downloaded; the hub itself is a stand-in."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from modelfiles.tiny import logits, random_model, refusal

from gpt149.errors import MissingDependency
from gpt149.model.checkpoint import Checkpoint, load
from gpt149.model.formats.gpt2 import save_gpt2


class Hub:
    """Stands in for huggingface_hub.snapshot_download."""

    def __init__(self, *, cached: Path | None = None, online: Path | None = None) -> None:
        self.cached, self.online = cached, online
        self.calls: list[tuple[str, bool]] = []
        self.patterns: list[str] = []

    def __call__(
        self,
        repository: str,
        *,
        local_files_only: bool = False,
        allow_patterns: list[str] | None = None,
    ) -> str:
        self.calls.append((repository, local_files_only))
        self.patterns += allow_patterns or []
        found = self.cached if local_files_only else self.online
        if found is None:
            raise OSError("Network is unreachable\nand more lines")
        return str(found)


def load_from(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> Checkpoint:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return load(name)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("distilgpt2", "openai-community/distilgpt2"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("someone/some-model_1.5", "someone/some-model_1.5"),
    ],
)
def test_a_cached_hub_model_is_read_without_the_network(
    saved: Path, monkeypatch: pytest.MonkeyPatch, name: str, repository: str
) -> None:
    hub = Hub(cached=saved)
    checkpoint = load_from(hub, monkeypatch, name)
    assert hub.calls == [(repository, True)]
    assert checkpoint.name == name
    assert torch.equal(logits(checkpoint.model), logits(load(str(saved)).model))


def test_a_hub_name_without_network_or_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub())
    message = refusal("gpt2")
    assert "cannot get 'openai-community/gpt2' from the Hugging Face hub" in message
    assert "Network is unreachable" in message
    assert "not in the local cache" in message


@pytest.mark.parametrize("cached", ["nothing", "no config", "no weights"])
def test_what_the_cache_lacks_is_downloaded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: str
) -> None:
    partial = tmp_path / "partial"
    save_gpt2(random_model(), partial)
    (partial / ("config.json" if cached == "no config" else "model.safetensors")).unlink()
    hub = Hub(cached=None if cached == "nothing" else partial, online=saved)
    load_from(hub, monkeypatch, "someone/model")
    assert hub.calls == [("someone/model", True), ("someone/model", False)]


def test_a_download_asks_for_what_is_read_and_for_no_pickle(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(online=saved)
    load_from(hub, monkeypatch, "gpt2")

    def asked(file: str) -> bool:
        return any(fnmatch.fnmatch(file, pattern) for pattern in hub.patterns)

    read = ["config.json", "model.safetensors", "model.safetensors.index.json", "vocab.json"]
    read += ["merges.txt", "tokenizer.json", "encoder.json", "vocab.bpe"]
    assert all(asked(file) for file in read)
    assert not any(asked(file) for file in ("pytorch_model.bin", "ckpt.pt", "x.pkl", "tf_model.h5"))


def test_a_hub_name_without_the_hub_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'gpt149[hub]'" in refusal("gpt2", MissingDependency)

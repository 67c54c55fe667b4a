"""gpt149/engine/packed.py: a start from packed weights is one like any other, to the bit."""

from __future__ import annotations

import os
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from modelfiles import tiny
from numpy.typing import NDArray

from gpt149.engine import packed
from gpt149.engine.choices import DTYPES
from gpt149.engine.native import NativeEngine
from gpt149.engine.packed import Entry
from gpt149.engine.torch import TorchEngine
from gpt149.errors import InputError
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.loaders.contract import ContractKernel
from gpt149.kernels.registry import resolve
from gpt149.model.checkpoint import Checkpoint, load
from gpt149.model.formats.gpt2 import save_gpt2

ODD = {"n_layer": 2, "n_head": 3, "n_embd": 51, "n_ctx": 70, "vocab_size": 131, "n_inner": 77}
IDS = [5, 6, 7, 100, 130, 0]

F32 = NDArray[np.float32]


class Starts:
    """Engines of one model, and of each whether its weights were mapped."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.mapped = folder, model, list[bool]()

    def logits(self, checkpoint: Checkpoint | None = None, dtype: str = "float32") -> F32:
        """What follows each of the ids, and then a token alone; behind it, all is kept."""
        kernel = resolve("simd")
        assert isinstance(kernel, ContractKernel)
        checkpoint = checkpoint or load(self.model)
        engine = NativeEngine(checkpoint, kernel, n_threads=2, dtype=dtype, screened=True)
        self.settle()
        return np.concatenate([engine.logits(IDS), engine.feed([[1]])])

    @staticmethod
    def settle() -> None:
        while any(thread.name == "gpt149-packed" for thread in threading.enumerate()):
            time.sleep(0.002)  # one that another engine is about to start cannot be joined

    def entries(self) -> list[Path]:
        """All that is there besides the lock."""
        return sorted(p for p in self.folder.glob("*") if p.name != "lock")


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    save_gpt2(tiny.random_model(**ODD), tmp_path / "model")
    monkeypatch.setattr(packed, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(packed, "SMALLEST", 0)
    monkeypatch.setattr(packed, "SETTLED", 0.0)
    monkeypatch.setattr(packed, "FIRST_BYTES", 8)  # of so small a file they would be all
    monkeypatch.delenv(packed.LIMIT, raising=False)
    made = Starts(tmp_path / "packed", tmp_path / "model")
    fill = Entry.fill

    def filled(*arguments: object) -> bool:
        made.mapped.append(fill(*arguments))  # type: ignore[arg-type]
        return made.mapped[-1]

    monkeypatch.setattr(Entry, "fill", filled)
    return made


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_second_start_maps_the_same_bits(starts: Starts, dtype: str) -> None:
    first = starts.logits(dtype=dtype)
    [entry] = starts.entries()
    second = starts.logits(dtype=dtype)
    assert starts.mapped == [False, True]
    assert starts.entries() == [entry]
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_mapped_is_the_model(starts: Starts, tied: bool) -> None:
    model = tiny.random_model(**ODD, tie_word_embeddings=tied)
    save_gpt2(model, starts.model)
    starts.logits()
    got = starts.logits()
    theirs = TorchEngine(load(starts.model).model, Attention("reference"))
    want = np.concatenate([theirs.feed([[i]]) for i in [*IDS, 1]])
    assert starts.mapped == [False, True]
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_each_type_and_context_and_screen(starts: Starts) -> None:
    """A shorter context has no entry of its own; a head without a screen has."""
    kernel = resolve("simd")
    assert isinstance(kernel, ContractKernel)
    for dtype, n_ctx, screened in (
        ("float32", None, True),
        ("float32", 20, True),
        ("float32", None, False),
        ("int8", None, True),
    ):
        NativeEngine(load(starts.model), kernel, dtype=dtype, n_ctx=n_ctx, screened=screened)
        starts.settle()
    assert starts.mapped == [False, True, False, False]
    assert len(starts.entries()) == 3


def test_a_file_that_was_modified_is_packed_again(starts: Starts) -> None:
    """In place, its size and its time of modification as they were."""
    first = starts.logits()
    file = starts.model / "model.safetensors"
    before = file.stat()
    time.sleep(0.02)  # a tick of the clock of files
    overwrite(file, -400, np.array([3, -3] * 50, np.float32).tobytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = starts.logits()
    assert starts.mapped == [False, False]
    assert first.tobytes() != second.tobytes()
    assert starts.logits().tobytes() == second.tobytes()


def test_a_copy_of_the_files_is_another_model(starts: Starts, tmp_path: Path) -> None:
    starts.logits()
    shutil.copytree(starts.model, tmp_path / "copy")
    starts.logits(load(tmp_path / "copy"))
    assert starts.mapped == [False, False]


def test_a_file_that_changes_while_it_is_packed_leaves_nothing(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = NativeEngine._pack

    def touched(*arguments: object) -> None:
        seal(*arguments)  # type: ignore[arg-type]
        os.utime(starts.model / "model.safetensors")

    monkeypatch.setattr(NativeEngine, "_pack", touched)
    starts.logits()
    assert starts.entries() == []


def test_a_file_that_was_just_written_is_not_believed(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "SETTLED", 60.0)
    starts.logits()
    assert not starts.mapped
    assert not starts.entries()


def test_weights_that_were_edited_in_memory_are_the_ones(starts: Starts) -> None:
    first = starts.logits()
    edited = load(starts.model)
    edited.weights["h.1.mlp.c_proj.weight"][3] += 1
    second = starts.logits(edited)
    assert starts.mapped == [False]
    assert first.tobytes() != second.tobytes()
    assert starts.logits(edited).tobytes() == second.tobytes()  # and are still there


def test_weights_that_were_exchanged_in_memory_are_others(starts: Starts) -> None:
    first = starts.logits()
    name, other = "h.0.mlp.c_fc.weight", "h.1.mlp.c_fc.weight"
    exchanged = load(starts.model)
    exchanged.weights[name] = exchanged.weights[other]
    assert starts.logits(exchanged).tobytes() != first.tobytes()
    assert starts.mapped == [False, False]
    own = load(starts.model)
    own.weights[name] = own.weights[name].copy()
    assert starts.logits(own).tobytes() == first.tobytes()
    assert starts.mapped == [False, False]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: overwrite(path, 12345, b"\x55"),
        lambda path: overwrite(path, -1, b"\x55"),
        lambda path: overwrite(path, -packed.TRAILER.size, bytes(packed.TRAILER.size)),
        lambda path: os.truncate(path, path.stat().st_size - 4096),
        lambda path: os.truncate(path, 10),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(path.read_bytes() * 2),
        lambda path: path.write_bytes(path.read_bytes()[64:]),
    ],
)
def test_a_damaged_entry_is_written_anew(starts: Starts, damage: Callable[[Path], None]) -> None:
    first = starts.logits()
    [entry] = starts.entries()
    whole = entry.read_bytes()
    damage(entry)
    second = starts.logits()
    assert starts.mapped == [False, False]
    assert entry.read_bytes() == whole
    assert first.tobytes() == second.tobytes()


def test_blocks_in_another_order_are_damage(starts: Starts) -> None:
    starts.logits()
    [entry] = starts.entries()
    data = entry.read_bytes()
    entry.write_bytes(data[64:128] + data[:64] + data[128:])
    starts.logits()
    assert starts.mapped == [False, False]


@pytest.mark.parametrize("said", ["0", "0.0"])
def test_switched_off(starts: Starts, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    starts.logits()
    monkeypatch.setenv(packed.LIMIT, said)
    starts.logits()
    assert starts.mapped == [False]


@pytest.mark.parametrize("said", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number(
    starts: Starts, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(packed.LIMIT, said)
    with pytest.raises(InputError, match=rf"GPT149_PACKED_GB is '{said}'"):
        starts.logits()


def test_small_models_have_no_entry(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SMALLEST", 1 << 20)
    starts.logits()
    assert not starts.mapped
    assert not starts.entries()


def test_what_was_not_used_for_longest_goes(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts.logits()
    [oldest] = starts.entries()
    starts.logits(dtype="bf16")
    [other] = set(starts.entries()) - {oldest}
    os.utime(oldest, (1, 1))
    os.utime(other, (2, 2))
    starts.logits()  # used
    room = sum(path.stat().st_size for path in (oldest, other)) + 1000
    monkeypatch.setenv(packed.LIMIT, str(room / 1e9))
    starts.logits(dtype="int8")
    assert oldest in starts.entries()
    assert other not in starts.entries()
    assert len(starts.entries()) == 2
    monkeypatch.setenv(packed.LIMIT, "0.000001")  # less than one takes
    starts.logits(dtype="int4")
    assert oldest in starts.entries()
    assert len(starts.entries()) == 2


def test_a_full_disk_has_no_entry(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(starts.model)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    starts.logits()
    assert starts.entries() == []


def test_a_disk_that_fills_up_leaves_nothing(starts: Starts) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        starts.logits()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert starts.entries() == []


def test_a_cache_that_cannot_be_written(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    starts.folder.write_text("a file in its place")
    first = starts.logits()
    starts.folder.unlink()
    starts.logits()

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    assert starts.logits().tobytes() == first.tobytes()
    [entry] = starts.entries()
    overwrite(entry, 100, b"\x55" * 8)
    assert starts.logits().tobytes() == first.tobytes()
    assert starts.mapped == [False, False, True, False]


def test_several_at_once(starts: Starts) -> None:
    starts.folder.mkdir()
    (starts.folder / "float32-left.tmp").write_bytes(b"by who was killed")
    results = list[F32]()
    threads = [threading.Thread(target=lambda: results.append(starts.logits())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.tobytes() for result in results}) == 1
    assert len(starts.entries()) == 1
    starts.logits()
    assert starts.mapped[-1]

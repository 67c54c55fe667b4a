"""What is no file of the kind that it should be ends in a sentence, soon, and names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt149.errors import CheckpointError, InputError
from gpt149.system import files


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fifo, "is not a regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: None, "No such file"),
    ],
    ids=["pipe", "directory", "device", "loop", "missing"],
)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "config.json"
    make(path)
    for read in (files.check_regular, files.read_bytes, files.read_text, files.read_json):
        with pytest.raises(CheckpointError, match=message) as e:
            read(path, CheckpointError)
        assert f"cannot read {path}: " in str(e.value)


def test_what_is_not_permitted_is_said_with_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    (tmp_path / "a").write_text("{}")
    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(Path, "stat", denied)
    for read in (files.exists, files.check_regular, files.read_json):
        with pytest.raises(InputError, match=r"cannot read .*/a: Permission denied\."):
            read(tmp_path / "a")


@pytest.mark.parametrize("size", [9, 11, 1 << 20])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, size: int) -> None:
    file = tmp_path / "a"
    with file.open("wb") as f:
        f.truncate(size)
    if size <= 10:
        assert files.read_bytes(file, largest=10) == bytes(size)
        return
    with pytest.raises(InputError, match="too large: it has more than 10 bytes"):
        files.read_bytes(file, largest=10)


def test_a_pipe_is_read_where_a_text_is_given_and_no_further_than_it_may(tmp_path: Path) -> None:
    receives, sends = os.pipe()
    os.write(sends, b"text")
    os.close(sends)
    assert files.read_bytes(Path(f"/dev/fd/{receives}"), pipes=True) == b"text"
    os.close(receives)
    with pytest.raises(InputError, match="too large"):
        files.read_bytes(Path("/dev/zero"), pipes=True, largest=1 << 22)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nests too deep"),
        (b'{"a":' * 100_000, "nests too deep"),
        (b"{", "is not JSON"),
        (b"[1]", "wrong type: a list, not a dict"),
        (b"9" * 10_000, "is not JSON"),
        (b'{"a": "\xff"}', r"is not UTF-8 \(byte 0xff at offset 7\)"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as e:
        files.read_json(file)
    assert str(file) in str(e.value)
    assert len(str(e.value)) < 400

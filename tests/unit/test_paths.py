"""Files are written whole, and what is there keeps its kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpt149.errors import InputError
from gpt149.system.paths import write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("a longer text from before")
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    for data in (b"first", b"second"):
        write_whole(link, data)
        assert link.is_symlink()
        assert file.read_bytes() == data


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"data")
    assert os.read(reader, 100) == b"data"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "a"):
        with pytest.raises(InputError, match="cannot write"):
            write_whole(path, b"")
    assert os.listdir(tmp_path) == []

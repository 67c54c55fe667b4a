"""The compilation database beside a kernel: its file, its flags, and other files' entries."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.kernels.editor import NAME, write_compile_commands
from gpt149.system.paths import shipped

KERNEL = shipped("csrc") / "kernels" / "naive.cpp"
MODULE = Path(__file__).parents[1] / "cs149" / "module.cpp"


@pytest.mark.parametrize("text", [KERNEL.read_text(), MODULE.read_text()], ids=["kernel", "module"])
def test_the_command_compiles_the_file_itself(tmp_path: Path, text: str) -> None:
    file = tmp_path / "my kernel.cpp"
    file.write_text(text)
    database = write_compile_commands(file)
    assert database == tmp_path / NAME
    [entry] = json.loads(database.read_text())
    assert entry["file"] == str(file)
    command = shlex.split(entry["command"])
    command[command.index("-o") :] = ["-fsyntax-only"]
    subprocess.run(command, cwd=entry["directory"], check=True)


def test_entries_of_other_files_stay(tmp_path: Path) -> None:
    other = {"directory": "/elsewhere", "command": "cc -c other.c", "file": "other.c"}
    (tmp_path / NAME).write_text(json.dumps([other]))
    for name in ("a.cpp", "b.cpp", "a.cpp"):
        (tmp_path / name).write_text(KERNEL.read_text())
        write_compile_commands(tmp_path / name)
    entries = json.loads((tmp_path / NAME).read_text())
    assert entries[0] == other
    assert [Path(entry["file"]).name for entry in entries[1:]] == ["b.cpp", "a.cpp"]


@pytest.mark.parametrize("content", ["{}", "[1]", "no JSON"])
def test_what_is_no_database_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.cpp").write_text(KERNEL.read_text())
    (tmp_path / NAME).write_text(content)
    with pytest.raises(InputError, match=r"is no compilation database\. Move it away"):
        write_compile_commands(tmp_path / "a.cpp")
    assert (tmp_path / NAME).read_text() == content


def test_a_python_kernel_is_not_compiled(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    with pytest.raises(InputError, match="is not compiled"):
        write_compile_commands(tmp_path / "a.py")


def test_new_tells_editors_and_so_does_editor_of_a_file_that_is_there(tmp_path: Path) -> None:
    file, database = tmp_path / "mine.cpp", tmp_path / NAME
    runner = CliRunner()
    done = runner.invoke(main, ["new", str(file)])
    assert done.exit_code == 0
    assert str(database) in done.stderr
    database.unlink()
    text = file.read_text()
    done = runner.invoke(main, ["new", str(file), "--editor"])
    assert (done.exit_code, done.stderr) == (0, f"wrote {database}\n")
    assert file.read_text() == text
    for arguments, words in (
        ((tmp_path / "none.cpp", "--editor"), "no kernel file"),
        ((file, "--editor", "--from", "flash"), "--from does not go with it"),
    ):
        done = runner.invoke(main, ["new", *map(str, arguments)])
        assert done.exit_code == 2
        assert words in done.stderr


def test_new_works_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    done = CliRunner().invoke(main, ["new", str(tmp_path / "mine.cpp")])
    assert done.exit_code == 0
    assert "Editors are not told how to compile it: no C++ compiler found" in done.stderr
    assert not (tmp_path / NAME).exists()

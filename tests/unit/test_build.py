"""A kernel is compiled when, and only when, something that it is made of has changed."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt149.errors import BuildError, InputError, MachineFault, MissingDependency
from gpt149.kernels import build as build_module
from gpt149.kernels.build import Target, build, build_all, commands, made_of
from gpt149.kernels.compiler import find_compiler
from gpt149.kernels.registry import resolve
from gpt149.system.paths import shipped

SOURCE = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
BUILD = (
    "import sys; from pathlib import Path; from gpt149.kernels.build import build; "
    "build(Path(sys.argv[1]))"
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel source with a header of its own, and an empty cache."""
    monkeypatch.setenv("GPT149_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "O'Brien's $1 #2"  # what make and the shell read as their own
    folder.mkdir()
    (folder / "tile size.h").write_text("#define TILE 4\n")
    path = folder / "mine.cpp"
    path.write_text(f'#include "tile size.h"\n{SOURCE}')
    return path


@pytest.fixture
def compilations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes a line to this file whenever it compiles; COMPILE_DELAY slows it.

    Linking and saying its version are not counted.
    """
    log = tmp_path / "compilations"
    log.write_text("")
    wrapper = tmp_path / "cxx"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *" -c "*);; *) exec {find_compiler()[0]} "$@";; esac\n'
        f"echo compiled >> '{log}'\nsleep ${{COMPILE_DELAY:-0}}\n"
        f'exec {find_compiler()[0]} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    return log


def count(compilations: Path) -> int:
    return len(compilations.read_text().splitlines())


def test_second_build_compiles_nothing(source: Path, compilations: Path) -> None:
    first = build(source)
    assert first.is_file()
    assert build(source) == first
    assert count(compilations) == 1


def test_changed_source_or_header_compiles_again(source: Path, compilations: Path) -> None:
    first = build(source)
    (source.parent / "tile size.h").write_text("#define TILE 8\n")
    second = build(source)
    assert second != first
    source.write_text(source.read_text() + "// more\n")
    assert build(source) != second
    assert count(compilations) == 3


def test_touching_without_changing_compiles_nothing(source: Path, compilations: Path) -> None:
    build(source)
    os.utime(source)
    os.utime(source.parent / "tile size.h")
    build(source)
    assert count(compilations) == 1


def test_other_instruction_set_or_cpu_is_another_library(
    source: Path, compilations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {build(source)}
    monkeypatch.setattr(build_module, "cpu", lambda: "another CPU")
    libraries.add(build(source))
    monkeypatch.setattr(build_module, "version_of", lambda _: "another compiler")
    libraries.add(build(source))
    assert len(libraries) == count(compilations) == 3


def test_march_override_reaches_the_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT149_MARCH", "no-such-cpu")
    with pytest.raises(BuildError, match="no-such-cpu"):
        build(source)


def test_two_processes_at_once_compile_once(
    source: Path, compilations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPILE_DELAY", "0.5")
    command = [sys.executable, "-c", BUILD, str(source)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    assert count(compilations) == 1


def test_killed_in_the_middle_the_next_build_succeeds(
    source: Path, compilations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPILE_DELAY", "30")
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(source)], start_new_session=True)
    while count(compilations) == 0:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.delenv("COMPILE_DELAY")
    assert build(source).is_file()
    assert count(compilations) == 2


def test_a_header_saved_during_the_compilation_is_compiled_next_time(
    source: Path, compilations: Path
) -> None:
    header = source.parent / "tile size.h"
    wrapper = Path(os.environ["CXX"])
    last = wrapper.read_text().splitlines()[-1].removeprefix("exec ")
    saves = f"""echo '#define TILE 9' > "{str(header).replace("$", chr(92) + "$")}"\n"""
    wrapper.write_text(wrapper.read_text().replace(f"exec {last}", f"{last}; r=$?; {saves}exit $r"))
    build(source)
    assert "9" in header.read_text()
    build(source)
    assert count(compilations) == 2


def test_half_a_library_or_manifest_is_not_used(source: Path, compilations: Path) -> None:
    library = build(source)
    (library.parent / "manifest.json").write_text('{"library": ')
    build(source)
    library.unlink()
    assert build(source).is_file()
    assert count(compilations) == 3


@pytest.mark.parametrize(
    "manifest",
    ["[]", "3", "null", '"a"', "{}", '{"library": 3, "digest": "", "headers": {}}',
     '{"library": "a.so", "digest": "", "headers": []}', "[" * 100_000, "\xff", "\0"],
    ids=range(10),
)  # fmt: skip
def test_a_manifest_of_another_kind_is_written_again(
    source: Path, compilations: Path, manifest: str
) -> None:
    library = build(source)
    (library.parent / "manifest.json").write_text(manifest, encoding="latin1")
    assert made_of(library) == []
    assert build(source).is_file()
    assert source in made_of(library)
    assert count(compilations) == 2


def test_folders_in_the_place_of_the_caches_files_are_removed(
    source: Path, compilations: Path
) -> None:
    library = build(source)
    names = [p.name for p in library.parent.iterdir() if p.name != "lock"]
    for n, name in enumerate([*names, "output.tmp", "0.tmp.o", "manifest.json.tmp"], 2):
        (library.parent / "manifest.json").unlink()
        (library.parent / name).unlink(missing_ok=True)
        (library.parent / name / "more").mkdir(parents=True)
        assert build(source).is_file()
        assert count(compilations) == n
    (library.parent / "lock").unlink()
    (library.parent / "lock").mkdir()
    library.unlink()
    with pytest.raises(InputError, match=r"Is a directory \(.*/lock\)\. Point GPT149_CACHE to"):
        build(source)


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-funsafe-math-optimizations"])
def test_no_flag_of_the_users_flushes_denormals_in_our_process(
    source: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setenv("CXX", f"{find_compiler()[0]} {flag}")
    program = (
        f"{BUILD}; import ctypes, numpy as np; small = np.float32(1e-40);"
        "ctypes.CDLL(str(build(Path(sys.argv[1])))); assert small * np.float32(1) > 0"
    )
    subprocess.run([sys.executable, "-c", program, str(source)], check=True)


@pytest.mark.parametrize("said", ["g++ 'x", 'g++ "-O2', "g++ \\"])
def test_a_cxx_that_is_no_command_line(
    source: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    compiler = find_compiler()[0]
    monkeypatch.setenv("CXX", said)
    with pytest.raises(InputError, match=r"^CXX is .*, which is no command line: no .*Mend it"):
        build(source)
    monkeypatch.setenv("CXX", f'{compiler} ""')
    assert build(source).is_file()
    monkeypatch.setenv("CXX", "g+++ -O2")
    with pytest.raises(MissingDependency, match=r"^CXX names the compiler 'g\+\+\+', and"):
        build(source)


def test_compile_error_shows_command_and_whole_output(source: Path) -> None:
    source.write_text("int f() { return missing_name; }\nint g() { return other_name; }\n")
    with pytest.raises(BuildError) as caught:
        build(source)
    message = str(caught.value)
    assert "missing_name" in message
    assert "other_name" in message
    assert f"$ {find_compiler()[0]} " in message
    assert "ninja" not in message
    assert not list((source.parents[1] / "cache").glob("**/*.so"))


def test_no_compiler_says_what_to_install_and_tensor_kernels_need_none(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingDependency, match=r"no C\+\+ compiler.*Install one"):
        build(source)
    assert resolve("torch").name == "torch"
    assert resolve("reference").name == "reference"


def test_on_macos_the_hint_names_openmp(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingDependency, match="brew install libomp"):
        build(source)


def test_unwritable_cache_says_how_to_move_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("GPT149_CACHE", str(tmp_path / "a file"))
    with pytest.raises(InputError, match=r"cannot write .*GPT149_CACHE"):
        build(source)


def test_full_disk_is_one_sentence(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"No space left on device.*GPT149_CACHE"):
        build(source)


def test_a_file_system_without_locks_is_one_sentence(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(InputError, match=r"Operation not supported.*GPT149_CACHE"):
        build(source)


@pytest.mark.parametrize(
    "said",
    ["mine.cpp:1:10: fatal error: 'omp.h' file not found", "/usr/bin/ld: cannot find -lomp: No",
     "ld: library not found for -lomp", "ld: library 'omp' not found"],
)  # fmt: skip
def test_a_clang_without_openmp_says_what_to_install(
    source: Path, compilations: Path, said: str
) -> None:
    wrapper = Path(os.environ["CXX"])
    lines = wrapper.read_text().splitlines()
    lines[-1] = f'echo "{said}" >&2; exit 1'
    wrapper.write_text("\n".join(lines) + "\n")
    with pytest.raises(BuildError, match=r"without OpenMP.*: `sudo apt install libomp-dev`"):
        build(source)


def test_a_disk_that_fills_up_is_not_the_sources_fault(source: Path, compilations: Path) -> None:
    wrapper = Path(os.environ["CXX"])
    lines = wrapper.read_text().splitlines()
    lines[-1] = "echo 'as: No space left on device' >&2; exit 1"
    wrapper.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"cannot write the kernel cache.*No space left"):
        build(source)


def test_compiler_with_flags_and_one_that_is_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", f"{find_compiler()[0]} -DCHOSEN=1")
    source.write_text(source.read_text() + "static_assert(CHOSEN == 1);\n")
    assert build(source).is_file()
    (tmp_path / "nonsense").write_text("not a program")
    (tmp_path / "nonsense").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "nonsense"))
    with pytest.raises(MachineFault, match="cannot run the compiler"):
        build(source)
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(BuildError, match="does not compile"):
        build(source)


def test_unreadable_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the kernel source"):
        build(tmp_path / "none.cpp")


def test_a_damaged_library_is_compiled_again(tmp_path: Path) -> None:
    source = tmp_path / "f.cpp"
    source.write_text('extern "C" int f() { return 149; }\n')
    library = build(source)
    whole = library.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1] + b"?"):
        library.write_bytes(damaged)
        assert build(source).read_bytes() == whole
    manifest = library.parent / "manifest.json"
    manifest.write_text("{}")
    assert build(source).read_bytes() == whole


def sources_of_two(tmp_path: Path) -> list[Target]:
    """A library of two files, and one of one."""
    for name, value in (("one", 1), ("two", 2), ("three", 3)):
        (tmp_path / f"{name}.cpp").write_text(f'extern "C" int {name}() {{ return {value}; }}\n')
    return [
        Target((tmp_path / "one.cpp", tmp_path / "two.cpp")),
        Target((tmp_path / "three.cpp",)),
    ]


def test_several_are_compiled_side_by_side(tmp_path: Path, compilations: Path) -> None:
    """Each compilation waits for another one to begin."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor compiles one file at a time")
    wrapper = Path(os.environ["CXX"])
    waits = f"for i in $(seq 200); do [ $(wc -l < '{compilations}') -ge 2 ] && break; sleep 0.1; "
    lines = wrapper.read_text().splitlines()
    lines[-1:] = [f"{waits}done; [ $i -lt 200 ] || exit 1", lines[-1]]
    wrapper.write_text("\n".join(lines) + "\n")
    first, second = build_all(sources_of_two(tmp_path))
    library = ctypes.CDLL(str(first))
    assert (library.one(), library.two(), ctypes.CDLL(str(second)).three()) == (1, 2, 3)
    assert count(compilations) == 3
    assert build_all(sources_of_two(tmp_path)) == [first, second]
    assert count(compilations) == 3


def test_what_fails_does_not_keep_the_others_from_the_cache(
    tmp_path: Path, compilations: Path
) -> None:
    broken, whole = sources_of_two(tmp_path)
    broken.sources[1].write_text("no such thing;\n")
    with pytest.raises(BuildError, match=r"one\.cpp does not compile.\n\$ .*two\.cpp") as caught:
        build_all([broken, whole])
    assert "three" not in str(caught.value)
    assert count(compilations) == 3
    build_all([whole])
    assert count(compilations) == 3


def test_no_ninja_says_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", find_compiler()[0])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"no ninja found.*pip install ninja"):
        build(source)


def test_a_path_that_ninja_cannot_say_is_refused(source: Path) -> None:
    odd = source.with_name("a\nb.cpp")
    odd.write_text(source.read_text())
    with pytest.raises(InputError, match="cannot be compiled: there is a line break in it"):
        build(odd)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of another process is set there")
def test_a_compiler_that_finds_no_end_is_stopped(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt149.kernels.ninja.MOST_SECONDS", 1)
    source.write_text(
        "template <int N, int M> struct F {\n"
        "    static constexpr long v = F<N - 1, 2 * M>::v + F<N - 1, 2 * M + 1>::v;\n"
        "};\n"
        "template <int M> struct F<0, M> { static constexpr long v = M; };\n"
        "long v = F<24, 0>::v;\n"
    )
    with pytest.raises(BuildError, match=r"CPU time limit exceeded(.*\n)*A compiler is stopped"):
        build(source)


def test_warnings_are_shown(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    source.write_text(source.read_text() + "static int forgotten;\n")
    assert build(source).is_file()
    assert "forgotten" in caplog.text


def test_the_compilation_database_names_the_file_and_its_flags(
    source: Path, compilations: Path
) -> None:
    [entry] = json.loads(commands(Target((source,))))
    assert entry["file"] == str(source)
    assert f"-I{shipped('csrc')}" in entry["command"]
    assert count(compilations) == 0

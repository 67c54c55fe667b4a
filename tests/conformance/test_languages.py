"""Kernels in C, Rust, Zig, Numba and Triton, and built libraries: written, judged, called."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from contract import WORDS, written
from languages import LANGUAGES, Language, link

import gpt149
from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.cli import main
from gpt149.errors import BuildError, CannotSanitize, MissingDependency
from gpt149.kernels import abi
from gpt149.kernels.build import build, made_of
from gpt149.kernels.compiler import find_compiler
from gpt149.kernels.languages import read_by_zig
from gpt149.kernels.loaders.contract import ContractKernel
from gpt149.kernels.registry import resolve
from gpt149.system.paths import shipped

BY_NAME = {language.name: language for language in LANGUAGES}
OTHERS = [one for one in LANGUAGES if one.name not in ("C++", "torch")]  # which all tests are of
CASES = [case for case in quick() if case.name in ("n17", "n33", "decode", "grouped")]
HEADER = shipped("csrc") / "gpt149.h"


def kernel(name: str, folder: Path) -> Path:
    """The right kernel in a language; skips where it cannot be compiled here."""
    language = BY_NAME[name]
    if language.missing:
        pytest.skip(f"there is no {language.missing}")
    return language.write(folder)


@pytest.mark.parametrize("language", OTHERS, ids=lambda language: language.name)
def test_right_and_wrong(language: Language, tmp_path: Path, tiny_model_dir: Path) -> None:
    path = kernel(language.name, tmp_path)
    cases = CASES[:2] if language.name == "Triton" else CASES
    report = check(str(path), cases, timeout=30.0)
    assert report.right, report.findings
    told = [note.cause for note in report.notes]
    assert told == (["interpreted"] if language.name == "Triton" else [])
    if language.name != "Triton":  # in a process of its own alone, for it changes that
        assert isinstance(resolve(path), ContractKernel)
        checkpoint = gpt149.load(str(tiny_model_dir))
        texts = [
            "".join(piece.text for piece in gpt149.generate(checkpoint, "ab", n=12, kernel=one))
            for one in ("reference", str(path))
        ]
        assert texts[0] == texts[1]
    language.spoil(path)
    report = check(str(path), cases, timeout=30.0)
    assert not report.right
    assert report.findings[0].cause == language.cause


def test_a_kernel_compiled_by_python_needs_no_torch(tmp_path: Path) -> None:
    path = kernel("Numba", tmp_path)
    program = (
        "import sys; from gpt149.kernels.registry import resolve; resolve(sys.argv[1]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True)
    path.write_text("gpt149_kernels = [print]\n")
    with pytest.raises(BuildError, match="must be a list of gpt149"):
        resolve(path)


def test_a_kernel_of_numba_may_claim_kv_begin(tmp_path: Path) -> None:
    path = kernel("Numba", tmp_path)
    text = path.read_text()
    for old, new in (
        ("Kernel, floats, row", "Feature, Kernel, floats, ints, row"),
        ("    for b in range(a.batch):\n", "    for b in range(a.batch):\n"
         "        lo = ints(a.kv_begin)[b] if a.kv_begin else 0\n"),
        ("range(n)", "range(lo, n)"),
        ("bytes, run)", "bytes, run, Feature.KV_BEGIN)"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    report = check(str(path), [case for case in quick() if case.name.startswith("kv_begin-")])
    assert report.right, report.findings
    assert report.claimed


@pytest.mark.parametrize(
    "compiler", ["gcc -std=c11", "clang -std=c11", "g++ -std=c++17", "clang++ -std=c++17"]
)
def test_the_header_is_c11_and_cpp17(compiler: str, tmp_path: Path) -> None:
    words = compiler.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"there is no {words[0]}")
    file = tmp_path / ("a.cpp" if "++" in words[0] else "a.c")
    file.write_text(
        f'#include "{HEADER}"\n'
        "static int64_t bytes(const gpt149_args *a) { return a->n_kv; }\n"
        "static const char *run(const gpt149_args *a) { return gpt149_only_float32(a); }\n"
        'GPT149_KERNEL({"a", "b", "c", bytes, run, GPT149_LSE | GPT149_SINKS},'
        ' {"d", "b", "c", bytes, run, 0})\n'
    )
    strict = ("-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-fsyntax-only")
    subprocess.run([*words, *strict, file], check=True)


@pytest.mark.parametrize("ending", WORDS)
def test_structs_are_those_of_the_mirror(ending: str) -> None:
    path, text = written(ending)
    assert path.read_text() == text, "run python scripts/contract.py"


RUST_OFFSETS = """
#[no_mangle]
pub unsafe extern "C" fn offsets(out: *mut u64) {
    let mut at = out;
    %s
}
"""
ZIG_OFFSETS = """
export fn offsets(out: [*]u64) void {
    var n: usize = 0;
    %s
}
"""


@pytest.mark.parametrize("name", ["Rust", "Zig"])
def test_sizes_and_offsets_are_the_headers(name: str, tmp_path: Path) -> None:
    """As the compiler of the language sees them; test_abi.py holds the mirror to the header."""
    path = kernel(name, tmp_path)
    mirrors = {"Args": abi.Args, "Kernel": abi.KernelEntry, "Table": abi.Table}
    wanted, lines = list[int](), list[str]()
    for struct, mirror in mirrors.items():
        wanted.append(ctypes.sizeof(mirror))
        lines.append(
            f"*at = std::mem::size_of::<gpt149::{struct}>() as u64; at = at.add(1);"
            if name == "Rust"
            else f"out[n] = @sizeOf(gpt149.{struct}); n += 1;"
        )
        for field in mirror._fields_:
            wanted.append(getattr(mirror, field[0]).offset)
            lines.append(
                f"{{ let s = std::mem::MaybeUninit::<gpt149::{struct}>::uninit(); let p = "
                f"s.as_ptr(); *at = std::ptr::addr_of!((*p).{field[0]}) as u64 - p as u64; "
                "at = at.add(1); }"
                if name == "Rust"
                else f'out[n] = @offsetOf(gpt149.{struct}, "{field[0]}"); n += 1;'
            )
    frame = RUST_OFFSETS if name == "Rust" else ZIG_OFFSETS
    path.write_text(path.read_text() + frame % "\n    ".join(lines))
    found = (ctypes.c_uint64 * len(wanted))()
    library = build(path)
    ctypes.CDLL(str(library)).offsets(found)
    assert list(found) == wanted
    assert {path, shipped("csrc") / f"gpt149{path.suffix}"} == set(made_of(library))


TABLES = {
    "": "",
    "{2, sizeof(gpt149_args), sizeof(gpt149_kernel), 1, one, GPT149_ISA}": "for version 2",
    "{3, 8, sizeof(gpt149_kernel), 1, one, GPT149_ISA}": "says that gpt149_args has 8 bytes",
    "{3, sizeof(gpt149_args), 8, 1, one, GPT149_ISA}": r"and gpt149_kernel 8, and they have",
    "{3, sizeof(gpt149_args), sizeof(gpt149_kernel), 999, one, GPT149_ISA}": "holds 999 kernels",
    "{3, sizeof(gpt149_args), sizeof(gpt149_kernel), 1, 0, GPT149_ISA}": r"\(NULL\): kernels",
    "{3, sizeof(gpt149_args), sizeof(gpt149_kernel), 1, one, 0}": r"\(NULL\): isa",
    "{3, sizeof(gpt149_args), sizeof(gpt149_kernel), 1, (void *)4096, GPT149_ISA}": (
        "kernels of its table is 0x1000, where there is no memory"
    ),
    "{3, sizeof(gpt149_args), sizeof(gpt149_kernel), 2, one, GPT149_ISA}": (
        "run of kernel 1 of its table is 0x1234, where there is no memory"
    ),
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: TABLES[table] or "none")
def test_a_built_library_is_looked_at_before_it_is_called(table: str, tmp_path: Path) -> None:
    library = tmp_path / "libodd.so"
    start = f"GPT149_EXPORT const gpt149_table gpt149_kernels = {table};" if table else "int x;"
    library.with_suffix(".c").write_text(
        '#include "gpt149.h"\n'
        "static int64_t bytes(const gpt149_args *a) { return a->n_kv; }\n"
        "static const char *run(const gpt149_args *a) { return gpt149_only_float32(a); }\n"
        'const gpt149_kernel one[] = {{"a", "b", "c", bytes, run, 0},'
        '{"d", "b", "c", bytes, (const char *(*)(const gpt149_args *))0x1234, 0}};\n' + start
    )
    link(library)
    with pytest.raises(BuildError, match=TABLES[table] or "exports no table of kernels"):
        resolve(library)


def test_what_is_no_library_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "no.so").write_text("text")
    with pytest.raises(BuildError, match=r"no\.so does not load"):
        resolve(tmp_path / "no.so")


@pytest.mark.parametrize(
    ("name", "right", "wrong", "says"),
    [
        ("Rust", "let q = a.q(b, h, i);", "let q = nothing;", "E0425"),
        ("Zig", "const q = gpt149.q(a, b, h, i);", "const q = nothing;", "undeclared identifier"),
        ("C", "const float *q", "const flaot *q", "unknown type name"),
    ],
)
def test_what_the_compiler_says_is_told(
    name: str, right: str, wrong: str, says: str, tmp_path: Path
) -> None:
    path = kernel(name, tmp_path)
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(BuildError) as told:
        build(path)
    assert f"{path} does not compile.\n$ " in str(told.value)
    assert says in str(told.value)
    assert path.name in told.value.output


@pytest.mark.parametrize(
    ("ending", "says"),
    [("rs", "no rustc found, .* `sudo apt install rustc`"), ("zig", "no zig found, .* ziglang")],
)
def test_a_compiler_that_is_missing(
    ending: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"mine.{ending}").write_text("")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=says):
        resolve(tmp_path / f"mine.{ending}")


def test_a_package_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise ModuleNotFoundError(name='numba')\n")
    with pytest.raises(MissingDependency, match=r"needs the package numba, .*: pip install numba"):
        resolve(tmp_path / "mine.py")


def test_sanitizers_name_the_line_of_c(tmp_path: Path) -> None:
    path = kernel("C", tmp_path)
    text = path.read_text().replace("s[j] = a->scale * dot;", "s[j + 1] = a->scale * dot;")
    path.write_text(text)
    line = text[: text.index("s[j + 1]")].count("\n") + 1
    report = check(str(path), CASES[:1], sanitizers="address")
    assert report.fault is not None
    assert report.fault.place == f"mine.c:{line}"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("mine.rs", "nightly builds alone"),
        ("mine.zig", "@setRuntimeSafety"),
        ("mine.so", "which is built already: check its source"),
        ("mine.py", "is Python"),
    ],
)
def test_where_there_are_no_sanitizers_a_sentence_says_so(
    file: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text("")
    with pytest.raises(CannotSanitize, match=says):
        check(str(tmp_path / file), CASES, sanitizers="address")


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("Rust", "s = &mut scores[..a.visible(i)]", "s = &mut scores[..a.visible(i) + 9999]"),
        ("Zig", "s = scores[0..gpt149.visible(a, i)]", "s = scores[0 .. scores.len + 9999]"),
    ],
)
def test_a_panic_is_told(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    path = kernel(name, tmp_path)
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    report = check(str(path), CASES[:1], explained=False)
    detail = report.failed[0].answer.detail
    assert detail.startswith("it panics: ")
    assert re.search("index [0-9]+ out of range for slice|index out of bounds: index", detail)
    if name == "Rust":
        line = text[: text.index(right)].count("\n") + 1
        assert f", at mine.rs:{line}, in run" in detail


def test_files_that_zig_imports_are_those_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "a.zig").write_text('const b = @import("b.zig");\nconst s = @import("std");\n')
    (tmp_path / "b.zig").write_text('const a = @import("a.zig");\n')
    ours = shipped("csrc") / "gpt149.zig"
    assert set(read_by_zig(tmp_path / "a.zig")) == {tmp_path / "a.zig", tmp_path / "b.zig", ours}


def test_editors_are_told_how_c_is_compiled(tmp_path: Path) -> None:
    kernel("C", tmp_path)
    [entry] = json.loads((tmp_path / "compile_commands.json").read_text())
    assert " -std=gnu11 " in entry["command"]
    assert find_compiler()[0] in entry["command"]
    done = CliRunner().invoke(main, ["new", str(tmp_path / "mine.rs")])
    assert "compile_commands" not in done.stderr

"""The ctypes mirror has the layout that the compiler gives the header."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from gpt149.kernels import abi
from gpt149.kernels.compiler import find_compiler
from gpt149.system.paths import shipped

STRUCTS: dict[str, type[ctypes.Structure]] = {
    "gpt149_args": abi.Args,
    "gpt149_kernel": abi.KernelEntry,
    "gpt149_table": abi.Table,
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes of the structs and offsets of their fields, as the C++ compiler sees them."""
    names = [
        f"{struct}.{field[0]}" for struct, mirror in STRUCTS.items() for field in mirror._fields_
    ]
    lines = [f'std::printf("{s} %zu\\n", sizeof({s}));' for s in STRUCTS]
    for name in names:
        struct, field = name.split(".")
        lines.append(f'std::printf("{name} %zu\\n", offsetof({struct}, {field}));')
    path = tmp_path_factory.mktemp("abi")
    source = path / "layout.cpp"
    body = "\n".join(lines)
    source.write_text(
        '#include "gpt149.h"\n#include <cstddef>\n#include <cstdio>\n'
        f'int main() {{\nstd::printf("version %d\\n", GPT149_ABI_VERSION);\n{body}\n}}\n'
    )
    command = [*find_compiler(), f"-I{shipped('csrc')}", str(source), "-o", str(path / "layout")]
    subprocess.run(command, check=True)
    out = subprocess.run([path / "layout"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


def test_version(layout: dict[str, int]) -> None:
    assert layout["version"] == abi.ABI_VERSION


@pytest.mark.parametrize("struct", STRUCTS)
def test_sizes_and_offsets(layout: dict[str, int], struct: str) -> None:
    mirror = STRUCTS[struct]
    assert layout[struct] == ctypes.sizeof(mirror)
    for field in mirror._fields_:
        assert layout[f"{struct}.{field[0]}"] == getattr(mirror, field[0]).offset, field[0]


def test_every_field_of_the_header_is_mirrored() -> None:
    """The last field ends where the struct ends, but for what aligns it: none is behind it."""
    for mirror in STRUCTS.values():
        last = getattr(mirror, mirror._fields_[-1][0])
        unused = ctypes.sizeof(mirror) - (last.offset + last.size)
        assert 0 <= unused < ctypes.alignment(mirror)


def test_without_headers_it_includes_only_stdint() -> None:
    header = Path(shipped("csrc") / "gpt149.h").read_text()
    assert [line for line in header.splitlines() if line.startswith("#include")] == [
        "#include <stdint.h>"
    ]

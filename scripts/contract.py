"""The structs of the contract, for Rust and Zig: rewrites them in csrc/gpt149.rs and gpt149.zig.

    python scripts/contract.py

They come from gpt149/kernels/abi.py, which a test holds against csrc/gpt149.h. What lies between
the lines `// structs` and `// end of structs` is written here, all else by hand.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from gpt149.kernels import abi

CSRC = Path(__file__).resolve().parents[1] / "csrc"
STRUCTS = {"Args": abi.Args, "Kernel": abi.KernelEntry, "Table": abi.Table}
SIMPLE = {ctypes.c_int32: "i32", ctypes.c_uint32: "u32", ctypes.c_int64: "i64",
          ctypes.c_float: "f32"}  # fmt: skip
# What pointers of gpt149_args point to, and whether it is to be written.
POINTERS = {"out": ("void", True), "workspace": ("void", True), "stream": ("void", True),
            "alibi_slopes": ("f32", False), "sinks": ("f32", False), "kv_begin": ("i32", False),
            "lse": ("f32", True)}  # fmt: skip
BLOCK = re.compile(r"(?<=// structs\n).*(?=// end of structs\n)", re.DOTALL)

WORDS: dict[str, dict[Any, str]] = {
    "rs": {
        ctypes.c_char_p: "*const c_char",
        abi.WorkspaceBytes: 'extern "C" fn(*const Args) -> i64',
        abi.Run: 'extern "C" fn(*const Args) -> *const c_char',
        ctypes.POINTER(abi.KernelEntry): "*const Kernel",
    },
    "zig": {
        ctypes.c_char_p: "[*:0]const u8",
        abi.WorkspaceBytes: "*const fn (*const Args) callconv(.c) i64",
        abi.Run: "*const fn (*const Args) callconv(.c) ?[*:0]const u8",
        ctypes.POINTER(abi.KernelEntry): "[*]const Kernel",
    },
}


def constants(ending: str) -> list[str]:
    """The version, the types and what a kernel may claim."""
    numbers = {"ABI_VERSION": ("i32", abi.ABI_VERSION), "FLOAT32": ("i32", abi.FLOAT32),
               "BFLOAT16": ("i32", abi.BFLOAT16)}  # fmt: skip
    numbers |= {str(feature.name): ("u32", feature.value) for feature in abi.Feature}
    return [f"pub const {name}: {kind} = {value};" for name, (kind, value) in numbers.items()]


def structs(ending: str) -> str:
    """Constants and structs, in the language of files that end so: rs or zig."""
    lines = constants(ending)
    for name, mirror in STRUCTS.items():
        start = f"#[repr(C)]\n#[derive(Clone, Copy)]\npub struct {name} {{" if ending == "rs" else (
            f"pub const {name} = extern struct {{"
        )  # fmt: skip
        lines += ["", start]
        for field in mirror._fields_:
            public = "pub " if ending == "rs" else ""
            lines.append(f"    {public}{field[0]}: {kind(field[0], field[1], ending)},")
        lines.append("}" if ending == "rs" else "};")
    return "\n".join(lines) + "\n"


def kind(name: str, mirror: Any, ending: str) -> str:
    """A field's type in that language."""
    if mirror in SIMPLE:
        return SIMPLE[mirror]
    if mirror is ctypes.c_void_p:
        target, written = POINTERS.get(name, ("void", False))
        if ending == "rs":
            return f"*{'mut' if written else 'const'} {target.replace('void', 'c_void')}"
        many = "*" if target == "void" else "[*]"
        return f"?{many}{'' if written else 'const '}{target.replace('void', 'anyopaque')}"
    if mirror in WORDS[ending]:
        return WORDS[ending][mirror]
    element, n = SIMPLE[mirror._type_], mirror._length_
    return f"[{element}; {n}]" if ending == "rs" else f"[{n}]{element}"


def written(ending: str) -> tuple[Path, str]:
    """A file of the contract, and its text with the structs as they are to be."""
    path = CSRC / f"gpt149.{ending}"
    return path, BLOCK.sub(lambda _: structs(ending), path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for ending in WORDS:
        path, text = written(ending)
        path.write_text(text, encoding="utf-8")

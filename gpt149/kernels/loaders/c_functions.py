"""Kernels that are plain functions of C or C++, such as `attention(q, k, v, out, B, H, N, d)`.

`csrc/functions/adapter.cpp` offers the function as a kernel of the contract: C++ is included by
it, C is compiled by itself and declared to it. What its parameters mean: see `signatures`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import InputError, SeveralKernels
from ...system.paths import shipped
from ..build import Target
from ..languages import C
from ..signatures import AXES, NUMBERS, POINTERS, Signature, role, with_meaning
from .cs149 import QUIET, includable

COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
DEFINITION = re.compile(
    r"((?:\b(?:static|inline)\s+)*)\b(void|int)\s+(\w+)\s*\(([^(){};]*)\)\s*(?:noexcept\s*)?\{"
)
NO_TYPE = {"const", "restrict", "__restrict__", "__restrict", "struct", "std"}


def read(text: str, source: str, wanted: str = "") -> Signature | None:
    """The signature of a C or C++ file's attention function; None if it has none.

    source: the file's name, for messages. wanted: the function's, where there are several; else it
    is the one that no other of them calls.

    Raises:
        InputError: there is one, but a parameter of it is not known; or none that is wanted.
        SeveralKernels: there are several.
    """
    if re.search(r"\bGPT149_KERNEL\b|\bgpt149_kernels\b", text):
        return None
    bare = COMMENT_OR_STRING.sub(" ", text)
    found, problem = dict[str, Signature](), ""
    definitions = list(DEFINITION.finditer(bare))
    for one in definitions:
        storage, returns, name, parameters = one.groups()
        signature, unread = _of_parameters(name, parameters, returns)
        if signature and "static" in storage and source.endswith(C):
            unread = f"{name}(...) is static, so nobody else can call it."
        elif signature:
            found[name] = signature
        problem = problem or unread
    if wanted and found:
        if wanted not in found:
            raise InputError(
                f"{source} has no attention function '{wanted}'. It has {', '.join(found)}."
            )
        found = {wanted: found[wanted]}
    if len(found) > 1:
        ends = [*(one.start() for one in definitions[1:]), len(bare)]
        bodies = {one[3]: bare[one.end() : end] for one, end in zip(definitions, ends, strict=True)}
        outer = [
            name
            for name in found
            if not any(re.search(rf"\b{name}\s*\(", b) for n, b in bodies.items() if n != name)
        ]
        found = {name: found[name] for name in outer} or found
    if len(found) > 1:
        raise SeveralKernels(
            f"{source} has {len(found)} functions that could be attention: {', '.join(found)}. "
            f"Choose one with {source}:NAME.",
            names=list(found),
        )
    if not found:
        if problem:
            raise InputError(f"{source}: {problem}")
        return None
    [signature] = found.values()
    told = with_meaning(signature, text, source)
    fixed = replace(told, causal=signature.causal, scale=signature.scale, axes=signature.axes)
    if fixed != signature or sorted(told.axes) != sorted(signature.axes):
        raise InputError(
            f"{source} says in a comment what the parameters of {signature.function} say "
            f"otherwise: they are sizes of ({', '.join(signature.axes)}), {signature.lengths}."
        )
    return told


def _of_parameters(name: str, parameters: str, returns: str) -> tuple[Signature | None, str]:
    """The signature, or why it cannot be read; neither where it is no attention."""
    roles, types, unknown, names = list[str](), list[str](), list[str](), set[str]()
    for one in parameters.split(","):
        words = re.findall(r"\w+", one.partition("[")[0])
        types.append("")
        if len(words) < 2:
            return None, ""
        kind, called = [w for w in words[:-1] if w not in NO_TYPE], words[-1]
        names.add(role(called, POINTERS))
        pointer = "*" in one or "[" in one
        roles.append(role(called, POINTERS if pointer else NUMBERS))
        if not roles[-1] or (pointer and kind != ["float"]) or "&" in one:
            unknown.append(" ".join(one.split()))
        types[-1] = " ".join(kind).replace("_Bool", "bool") + (" *" if pointer else "")
    if not {"q", "k", "v"} <= names:
        return None, ""
    sizes = [r for r in roles if r in ("batch", "n_head", "n_q", "n_kv", "n", "head_dim")]
    if unknown or "out" not in roles or "head_dim" not in sizes or len(set(roles)) < len(roles):
        why = f"it does not know what {', '.join(unknown)} is" if unknown else (
            "it needs q, k, v, out, a length and a head_dim, once each")  # fmt: skip
        return None, (
            f"{name}(...) looks like attention, and gpt149 cannot call it: {why}. Pointers are "
            "float * called q, k, v, out, lse; numbers B, H, N, d, or n_q and n_kv, n_kv_head, "
            "scale, causal, n_threads, Br, Bc. A kernel of the contract ends with "
            "GPT149_KERNEL({...})."
        )
    if "n_q" in roles and not {"n", "n_kv"} & set(roles):  # M alone
        roles = ["n" if r == "n_q" else r for r in roles]
    if "n_q" in roles:  # (M, N): the other is the keys'
        roles = ["n_kv" if r == "n" else r for r in roles]
    if not ({"n_q", "n_kv"} <= set(roles) or "n" in roles):
        return None, f"{name}(...) looks like attention, and has no number of tokens."
    return Signature(
        name,
        tuple(roles),
        axes=_axes(roles),
        grouped="n_kv_head" in roles,
        square="n" in roles,
        prototype=f"{returns} {name}({', '.join(types)})",
    ), ""


def _axes(roles: Sequence[str]) -> str:
    """The layout that the sizes' order tells, the last of them head_dim."""
    letters = {"batch": "b", "n_head": "h", "n": "n", "n_q": "n", "head_dim": "d"}
    order = "".join(letters[r] for r in roles if r in letters)
    usual = "".join(letter for letter in "bhnd" if letter in order)
    return order if order in AXES else usual


def target(path: Path, signature: Signature) -> Target:
    """The function behind the adapter."""
    adapter = shipped("csrc") / "functions" / "adapter.cpp"
    roles = signature.roles
    known = {
        "TAKES_CAUSAL": "causal" in roles,
        "TAKES_SCALE": "scale" in roles,
        "RETURNS_INT": signature.prototype.startswith("int "),
        "IS_CAUSAL": signature.causal,
        "IS_SQUARE": signature.square,
        "IS_GROUPED": signature.grouped,
        "GIVES_LSE": "lse" in roles,
        "HAS_BATCH": "batch" in roles,
        "HAS_HEADS": "n_head" in roles,
        "TOKEN_MAJOR": "nh" in signature.axes,
    }
    words = [f"-D{name}={int(value)}" for name, value in known.items()]
    words += [
        f"-DOWN_SCALE={signature.scale or 0.0}f",
        f"-DFUNCTION={signature.function}",
        f'-DNAME="{signature.function}"',
        f'-DREAD_AS="{signature.words}"',
        f"-DARGUMENTS={', '.join(f'c.{role}' for role in roles)}",
    ]
    if path.suffix == C:
        words.append(f"-DPROTOTYPE={signature.prototype}")
        return Target((adapter, path), (*words, *QUIET), subject=path)
    words.append(f'-DFUNCTION_FILE="{includable(path.resolve())}"')
    return Target((adapter,), (*words, *QUIET), subject=path)

"""What a Python file's attention function takes, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace

from ...errors import InputError, SeveralKernels
from ..signatures import NUMBERS, POINTERS, Signature, role, with_meaning
from .cfuncs import TABLE

CUSTOM = "custom_kernel"
TORCH = re.compile(r"^\s*(?:import|from)\s+torch\b", re.MULTILINE)


def read(text: str, source: str, wanted: str = "") -> Signature | None:
    """The signature of a Python file's attention, of another form than `attention(q, k, v, *,
    causal, scale)`; None if it has none.

    Its kind is `function`, which is given tensors, or arrays of numpy where the file imports no
    torch; `data`, as `custom_kernel(data)` of GPU MODE's tasks, which unpacks a tuple in its first
    lines; `autograd`, a subclass of torch.autograd.Function with `forward(ctx, q, k, v, is_causal)`
    that saves the log-sum-exp, as in assignment 2 of Stanford's CS336. source: the file's
    name, for messages. wanted: which.

    Raises:
        InputError: there is one, but a parameter of it is not known.
        SeveralKernels: there are several.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return None  # running it says where
    if TABLE in text:  # it offers kernels of the contract, and what else it has are its helpers
        return None
    functions = {one.name: one for one in body if isinstance(one, ast.FunctionDef)}
    classes = {
        one.name: forward
        for one in body
        if isinstance(one, ast.ClassDef) and any(_last(b) == "Function" for b in one.bases)
        for forward in one.body
        if isinstance(forward, ast.FunctionDef) and forward.name == "forward"
    }
    usual = [name for name in ("attention", CUSTOM) if name in functions or _assigns(body, name)][
        :1
    ]
    usual = usual or list(classes) or [name for name, one in functions.items() if _is_one(one)]
    if not wanted and len(usual) > 1:
        raise SeveralKernels(
            f"{source} has {len(usual)} functions that could be attention: {', '.join(usual)}. "
            f"Choose one with {source}:NAME.",
            names=usual,
        )
    if any(isinstance(one, ast.ClassDef) and one.name == wanted for one in body) and (
        wanted not in classes
    ):
        raise InputError(
            f"{source}: {wanted} is a class, and no torch.autograd.Function: write a function of "
            "q, k and v that calls it."
        )
    name = wanted or next(iter(usual), "")
    if name in classes:
        found = _of_arguments(f"{source}: {name}", classes[name], skip=1, kind="autograd")
        found = replace(found, axes="bnd", square=False)
    elif name not in functions or {"causal", "scale"} <= set(_parameters(functions[name])):
        return None  # none, or one of the contract
    elif len(_parameters(functions[name])) == 1:
        names = _unpacked(functions[name])
        found = _of_names(
            f"{source}: {name}", [(n, False) for n in names or ("q", "k", "v")], kind="data"
        )
    else:
        found = _of_arguments(f"{source}: {name}", functions[name])
    return with_meaning(
        replace(found, function=name, in_numpy=not TORCH.search(text)), text, source
    )


def _last(base: ast.expr) -> str:
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def _assigns(body: Sequence[ast.stmt], name: str) -> bool:
    """Whether a file gives that name to something else, such as what a decorator returned."""
    targets = [t for one in body if isinstance(one, ast.Assign) for t in one.targets]
    return any(getattr(target, "id", "") == name for target in targets)


def _is_one(function: ast.FunctionDef) -> bool:
    """Whether a function takes q, k and v, by name."""
    return {"q", "k", "v"} <= {role(name, POINTERS) for name in _parameters(function)}


def _parameters(function: ast.FunctionDef) -> list[str]:
    args = function.args
    return [one.arg for one in (*args.posonlyargs, *args.args, *args.kwonlyargs)]


def _of_arguments(
    name: str, function: ast.FunctionDef, *, skip: int = 0, kind: str = "function"
) -> Signature:
    args = function.args
    positional = [one.arg for one in (*args.posonlyargs, *args.args)]
    required = len(positional) - len(args.defaults)
    told = [(arg, i >= required) for i, arg in enumerate(positional)][skip:]
    told += [
        (one.arg, default is not None)
        for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    return _of_names(name, told, kind)


def _unpacked(function: ast.FunctionDef) -> list[str]:
    """The names that the only parameter is unpacked into; [] if it is not."""
    data = _parameters(function)[0]
    for one in ast.walk(function):
        if not isinstance(one, ast.Assign) or getattr(one.value, "id", "") != data:
            continue
        if isinstance(one.targets[0], ast.Tuple):
            return [getattr(element, "id", "_") for element in one.targets[0].elts]
    return []


def _of_names(function: str, names: Sequence[tuple[str, bool]], kind: str) -> Signature:
    """Of parameters, each with whether it has a default.

    Raises:
        InputError: it is no attention, or a parameter without a default is not known.
    """
    roles = [role(name, {**NUMBERS, **POINTERS}) for name, _ in names]
    if not {"q", "k", "v"} <= set(roles):
        raise InputError(
            f"{function}(...) is no attention that gpt149 can call: it has no q, k and v."
        )
    for one, (name, optional) in zip(roles, names, strict=True):
        if not one and not optional:
            raise InputError(
                f"{function}(...) takes '{name}', and gpt149 does not know what that is. It knows "
                "q, k, v, out, B, H, N, d, scale, causal; a parameter may have a default instead."
            )
    return Signature(function, tuple(roles), kind=kind, names=tuple(name for name, _ in names))

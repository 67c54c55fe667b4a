"""The names that engines and number types are chosen by. Imports nothing heavy: the command line
offers them.
"""

from __future__ import annotations

from collections.abc import Collection

from ..errors import InputError

ENGINES = ("auto", "native", "torch")
DTYPES = ("float32", "bf16", "int8", "int4")  # of the weights
KV_DTYPES = ("float32", "bf16")  # of the KV cache; `start` also takes auto


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Raise InputError unless the value is a known one."""
    if value not in known:
        raise InputError(f"{name} is {value!r}, and must be one of {list(known)}.")

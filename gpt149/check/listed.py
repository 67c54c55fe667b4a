"""Cases that somebody wrote down: a TOML or JSON file with a table for each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.limits import MOST_TOKENS
from ..system.tables import Table, read_table
from ..system.threads import MOST_THREADS
from .cases import SEED, Case

MOST_WORK = 2**33  # multiplications of a product: the float64 answer takes some ten seconds
MOST_SCALE = 1e6
SIZES = {
    "batch": 4096,
    "n_head": 4096,
    "n_kv_head": 4096,
    "n_q": MOST_TOKENS,
    "n_kv": MOST_TOKENS,
    "head_dim": 65536,
    "n_threads": MOST_THREADS,
}
OPTIONAL = {"br": MOST_TOKENS, "bc": MOST_TOKENS, "window": MOST_TOKENS, "head_dim_v": 65536}
WORDS = {
    "layout": ("contiguous", "model", "padded", "edge"),
    "inputs": ("normal", "large", "falling", "rising", "falling-far", "rising-far", "low"),
    "calls": ("once", "again", "changed", "heads"),
}
FLAGS = ("causal", "half_kv", "half", "alibi", "sinks", "kv_begin", "lse")
KEYS = ("name", "n", *SIZES, *OPTIONAL, "scale", "softcap", "seed", *WORDS, *FLAGS)


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, in its order (docs/check.md).

    Raises:
        InputError: the file cannot be read, or has a case that no kernel can be asked.
    """
    usual = Case("", 1, 2, 2, 0, 0, 32)
    return [as_case(table, usual) for table in tables(path, KEYS)]


def tables(path: Path, known: Collection[str]) -> list[Table]:
    """A file's tables `[[case]]`, with keys among these alone, each with a name of its own."""
    entries = Table(read_table(path), str(path), ("case",)).list("case")
    if not entries:
        raise InputError(f"{path} has no cases: write a table [[case]] for each.")
    found, names = list[Table](), set[str]()
    for i, values in enumerate(entries, 1):
        table = Table(values, f"{path}, case {i}", known)
        name = str(table.values.get("name", ""))
        table.must(name.isprintable() and name != "", "it needs a name")
        table.must(name not in names, f"there is another '{name}'")
        names.add(name)
        table.where = f"{path}, '{name}'"
        found.append(table)
    return found


def as_case(table: Table, usual: Case) -> Case:
    """A case with what the table says, and else as the usual one. `n` is n_q and n_kv.

    Raises:
        InputError: a value means nothing, or the case needs too long.
    """
    said: dict[str, Any] = dict(table.values)
    if "n" in said:
        table.must("n_q" not in said and "n_kv" not in said, "give n, or n_q and n_kv")
        said["n_q"] = said["n_kv"] = table.whole("n", 0, 1, MOST_TOKENS)
    table.must("n_q" in said and "n_kv" in said, "it needs n, or n_q and n_kv")
    said.setdefault("n_kv_head", said.get("n_head", usual.n_kv_head))
    table.values = said
    values: dict[str, Any] = {"name": str(said["name"])}
    values |= {key: table.whole(key, getattr(usual, key), 1, most) for key, most in SIZES.items()}
    values |= {
        key: table.whole(key, getattr(usual, key), 0, most) for key, most in OPTIONAL.items()
    }
    values |= {key: table.word(key, getattr(usual, key), WORDS[key]) for key in WORDS}
    values |= {key: table.flag(key, getattr(usual, key)) for key in FLAGS}
    values["softcap"] = float(table.number("softcap", usual.softcap, 0, MOST_SCALE))
    values["seed"] = table.whole("seed", SEED, 0, 2**63)
    if "scale" in said:
        values["scale"] = float(table.number("scale", 1, 1e-6, MOST_SCALE))
    case = replace(usual, **values)
    table.must(case.n_head % case.n_kv_head == 0, "n_head must be a multiple of n_kv_head")
    table.must(not case.causal or case.n_q <= case.n_kv, "a causal case has n_q <= n_kv")
    table.must(not case.window or case.causal, "a window is for causal cases")
    table.must(case.work <= MOST_WORK, f"it has {case.work:,} products, and may have {MOST_WORK:,}")
    return case

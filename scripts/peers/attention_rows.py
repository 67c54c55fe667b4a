"""The calls that attention is timed on, each by a name that says all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpt149.check.cases import Case
from gpt149.errors import InputError

COLD_BYTES = 128 << 20  # of keys and values in rotation: no cache holds them
FORM = re.compile(r"(\d+)(?:/(\d+))?,(?:(\d+)x)?(\d+),(\d+)(:full)?(:cold)?")
FEW = (2, 3, 4, 5, 6, 7, 8)

ROWS = {
    "causal": ("4,1024,32", "12,128,64", "12,1024,64", "12,4096,64", "32,2048,128"),
    "full": ("12,1024,64:full", "12,4096,64:full", "32,2048,128:full"),
    "decode": ("12,1x256,64", "12,1x1024,64", "12,1x4096,64:cold", "12,1x16384,64:cold"),
    "few-cold": tuple(f"12,{n}x4096,64:cold" for n in (2, 4, 5, 8, 16)),
    "few-warm": tuple(f"12,{n}x1024,64" for n in FEW),
    "grouped": (
        "32/8,1x4096,128:cold", "32/8,1x1024,128", "32/4,1x4096,128:cold", "14/2,1x4096,64:cold",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A call. cold: every call has other inputs, and none of them are in a cache."""

    name: str
    case: Case
    cold: bool

    @property
    def kv_bytes(self) -> int:
        return 2 * 4 * self.case.n_kv_head * self.case.n_kv * self.case.head_dim

    @property
    def n_bytes(self) -> int:
        """k, v and q read once, out written once."""
        return self.kv_bytes + 2 * 4 * self.case.n_head * self.case.n_q * self.case.head_dim

    @property
    def n_sets(self) -> int:
        """Of inputs in rotation."""
        return 1 + COLD_BYTES // self.kv_bytes if self.cold else 1


def parse(text: str) -> Row:
    """`HEADS[/KV_HEADS],[N_Qx]N_KV,DIM[:full][:cold]`; causal, to the bottom right, unless full.

    Raises:
        InputError: it is something else.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise InputError(
            f"the row '{text}' must be one of {', '.join(ROWS)}, or "
            "HEADS[/KV_HEADS],[N_Qx]N_KV,DIM[:full][:cold], such as 32/8,1x4096,128:cold."
        )
    n_head, n_kv, d = (int(found[i]) for i in (1, 4, 5))
    n_kv_head, n_q = int(found[2] or n_head), int(found[3] or n_kv)
    causal = found[6] is None
    if min(n_head, n_kv_head, n_q, n_kv, d) < 1 or n_head % n_kv_head or (causal and n_q > n_kv):
        raise InputError(
            f"the row '{text}' is no call: its numbers must be 1 or more, KV_HEADS divide HEADS, "
            "and N_Q be at most N_KV where it is causal."
        )
    case = Case(text, 1, n_head, n_kv_head, n_q, n_kv, d, causal)
    return Row(text, case, found[7] is not None)


def chosen(names: Sequence[str]) -> Iterator[Row]:
    """The rows of groups of ROWS and of names; of none, all of ROWS. Raises as `parse`."""
    for name in names or ROWS:
        yield from map(parse, ROWS.get(name, (name,)))

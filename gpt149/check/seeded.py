"""The same kinds of cases with other numbers and other sizes, for whoever knows the list.

A seed is a grader's secret: a kernel that is tuned to the cases of this project meets others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from .cases import SEED, Case

TILE = 16  # what vectors, cache lines and most tiles divide
LEAST_ROOM = 3 * TILE  # by how much a size may grow, or by a quarter of it


def seeded(cases: Sequence[Case], seed: int) -> list[Case]:
    """Each case with numbers and sizes that its name and the seed decide; SEED: as they are."""
    return list(cases) if seed == SEED else [_seeded(case, seed) for case in cases]


def _seeded(case: Case, seed: int) -> Case:
    """n_q and n_kv grow, and stay of their kinds: see `_kind`. So does an odd head_dim.

    They never shrink: what goes wrong from some size on still shows.
    """
    random = Random(f"{seed} {case.name}")
    n_kv = random.choice(_alike(case.n_kv, case) or [case.n_kv])
    n_q = n_kv
    if case.n_q < case.n_kv:
        n_q = random.choice([n for n in _alike(case.n_q, case) if n < n_kv] or [case.n_q])
    elif case.n_q > case.n_kv:
        longer = [n for n in _alike(case.n_q, case) if n > n_kv]
        n_q, n_kv = (random.choice(longer), n_kv) if longer else (case.n_q, case.n_kv)
    d = case.head_dim
    if d % 2 and d > 1:
        d = random.choice([wide for wide in range(d, d + 9, 2) if wide != case.head_dim_v])
    return replace(case, n_q=n_q, n_kv=n_kv, head_dim=d, seed=seed)


def _alike(size: int, case: Case) -> list[int]:
    """Larger sizes of the same kind."""
    ahead = range(size + 1, size + max(size // 4, LEAST_ROOM) + 1)
    return [n for n in ahead if _kind(n, case) == _kind(size, case)]


def _kind(n: int, case: Case) -> tuple[object, ...]:
    """What a size may not lose: being one, being odd, how it meets tiles and a window's end."""
    edge = n % TILE if n % TILE in (0, 1, TILE - 1) else None
    tiles = [(n % tile == 0, n < tile) for tile in (case.br, case.bc) if tile]
    return n == 1, n % 2, edge, *tiles, n <= case.window

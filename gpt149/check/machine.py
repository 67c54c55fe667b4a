"""Before a kernel is blamed, an empty one must build, load and run: else it is the machine."""

from __future__ import annotations

from ..errors import BuildError, MachineFault
from ..kernels.registry import Source, compiled
from ..system.paths import cache_dir, shipped
from .arena import Arena
from .cases import Case
from .isolation import Child

CASE = Case("empty", 1, 1, 1, 1, 1, 8)


def empty() -> Source:
    """The kernel that computes nothing."""
    return Source("contract", shipped("csrc") / "tools" / "empty.cpp", "empty")


def must_build() -> None:
    """Raise MachineFault if not even the empty kernel compiles."""
    try:
        compiled(empty())
    except BuildError as e:
        raise MachineFault(
            "the compiler does not compile an empty kernel either, so no kernel can be judged "
            f"here. {e}"
        ) from e


def must_run(timeout: float) -> None:
    """Raise MachineFault if not even the empty kernel loads and returns within some seconds."""
    must_build()
    arena = Arena([CASE])
    try:
        with Child(empty(), compiled(empty()), arena, timeout) as child:
            q, k, v = CASE.draw()
            arena.fill(CASE, {"q": q, "k": k, "v": v})
            answer = child.run(CASE)
    except BuildError as e:
        raise MachineFault(
            f"an empty kernel does not load either, so no kernel can be judged here: {e} The cache "
            f"is {cache_dir()}: may files there be executed (noexec)? GPT149_CACHE is another."
        ) from e
    finally:
        arena.close()
    if answer.outcome != "ok":
        raise MachineFault(
            "an empty kernel does not run either, so no kernel can be judged here: "
            f"{answer.outcome}, {answer.detail}."
        )

"""Calls of a kernel in a child process: whatever it does, the parent gets an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..kernels.abi import Feature
from ..kernels.registry import Source, described
from ..system.child import module_command
from ..system.talker import MEMORY_LIMIT, Ending, Talker
from .arena import FLOAT_BYTES, NAMES, Arena
from .cases import Case

WORKER = "gpt149.check.worker"
# The child's variables. A team that no case asks for: who takes OpenMP's default one is not right
# by chance. What malloc gives is filled with huge numbers, what it takes back with nearly 0.
TEAM = "OMP_NUM_THREADS"
DEFAULT_TEAM = {TEAM: "7", "MALLOC_PERTURB_": "1"}


@dataclass(frozen=True)
class Answer(Ending):
    """What became of one call.

    outcome: ok, declined, raised and workspace too (asked for what cannot be had), detail being
    empty when ok. workspace_unsteady: what it asked for, and what for the same call again, if that
    differs. seconds, cpu_seconds: of the
    calls alone.
    """

    workspace_bytes: int = 0
    workspace_overrun: bool = False
    workspace_unsteady: tuple[int, int] | None = None
    peak_growth: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Child(Talker):
    """A process that has one kernel loaded, and calls it on what an arena holds."""

    def __init__(
        self,
        source: Source,
        library: Path | None,
        arena: Arena,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """The kernel of a source, from its library (None: it has none).

        environment: variables that the process gets besides those of this one.
        """
        command = module_command(WORKER, described(source, library), str(arena.handle))
        if environment:
            command = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
        super().__init__(command, arena.size + MEMORY_LIMIT, inherited=[arena.handle])
        self.kernel = source.name or str(source)  # until the child says its name
        self.native = True  # it keeps the contract, and is no function of tensors
        self._features: Feature | None = None
        self._assumed = Feature(0)
        self._arena, self._timeout = arena, timeout

    def run(
        self,
        case: Case,
        *,
        workspace_fill: int = 0xFF,
        n_threads: int | None = None,
        read_only: bool = False,
        fenced: Sequence[str] = NAMES,
        sized_for: int | None = None,
    ) -> Answer:
        """One call of the kernel on what the arena holds for the case.

        read_only: map the inputs so that writing to them is a crash. fenced: tensors at an edge of
        which the next page is not mapped. sized_for: threads that the workspace is asked for.
        """
        placed = self._arena.placed
        question = {
            "shape": case.shape if n_threads is None else case.shape | {"n_threads": n_threads},
            "tensors": self._tensors(),
            "calls": case.calls,
            "workspace_fill": workspace_fill,
            "sized_for": sized_for,
            "assumed": int(self._assumed),
            "read_only": FLOAT_BYTES * self._arena.n_inputs if read_only else 0,
            "fenced": [p.start + p.span for name, p in placed.items() if name in fenced]
            if case.layout == "edge"
            else [],
        }
        reply = self.ask(question, self._timeout)
        if isinstance(reply, Ending):
            told = asdict(reply) | {"detail": reply.detail + _phase(reply)}
            return Answer(**told, workspace_bytes=reply.asked_bytes or 0)
        for outcome in ("declined", "raised", "workspace"):
            if outcome in reply:
                return Answer(outcome, reply[outcome])
        return Answer("ok", **reply)

    def look(self, case: Case) -> dict[str, Any] | None:
        """What calls leave behind (`behaviour.look`), of the case that the arena holds.

        None where the kernel does not live to tell.
        """
        question = {"shape": case.shape, "tensors": self._tensors(), "calls": "ten"}
        reply = self.ask(question, self._timeout)
        return None if isinstance(reply, Ending) or "changes" not in reply else reply

    def workspace_sizes(self, case: Case, n_kv: Sequence[int]) -> list[int]:
        """What workspace_bytes says for the case's shape with these numbers of keys."""
        shape = {name: value for name, value in case.shape.items() if name != "n_kv"}
        reply = self.ask({"shape": shape, "n_kv": n_kv, "calls": "sizes"}, self._timeout)
        return [] if isinstance(reply, Ending) else reply["sizes"]

    def _tensors(self) -> dict[str, Any]:
        return {n: (p.start, p.strides) for n, p in self._arena.placed.items()}

    @property
    def features(self) -> Feature:
        """What the kernel claims; nothing where it does not load."""
        if self._features is None:
            self.greet()
        return self._features or Feature(0)

    @contextmanager
    def claiming(self, features: Feature) -> Iterator[None]:
        """Meanwhile, calls are made as if the kernel claimed these features, too."""
        self._assumed = features
        try:
            yield
        finally:
            self._assumed = Feature(0)

    def greeted(self, hello: dict[str, Any]) -> None:
        self.kernel, self._features = hello["kernel"], Feature(hello["features"])
        self.native = hello["native"]


def _phase(ending: Ending) -> str:
    """Which of its functions the kernel was in, and what it has to know of it."""
    if ending.phase == "workspace_bytes":
        return ", in workspace_bytes, which is called before there are tensors (pointers are NULL)"
    if ending.phase == "run":
        return f", in run; workspace_bytes asked for {ending.asked_bytes:,} bytes"
    return ""

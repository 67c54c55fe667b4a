"""Calls of a kernel in a child process: whatever it does, the parent gets an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..kernels.registry import Source, described
from ..system.child import module_command
from ..system.talker import MEMORY_LIMIT, Ending, Talker
from .arena import FLOAT_BYTES, Arena
from .cases import Case

WORKER = "gpt149.check.worker"
# A team that no case asks for: who takes OpenMP's default one is not right by chance.
DEFAULT_TEAM = {"OMP_NUM_THREADS": "7"}


@dataclass(frozen=True)
class Answer(Ending):
    """What became of one call.

    outcome: ok, declined and raised too, detail being empty when ok. seconds, cpu_seconds: of the
    calls alone. overhead, overhead_bytes: seconds a call of `repeat` calls, and the most memory
    while one lasts, that are the worker's own.
    """

    workspace_bytes: int = 0
    workspace_overrun: bool = False
    peak_growth: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    overhead: float = 0.0
    overhead_bytes: int = 0


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
        command = module_command(WORKER, described(source, library), str(arena.path))
        if environment:
            command = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
        super().__init__(command, arena.size + MEMORY_LIMIT)
        self.kernel = source.name or str(source)  # until the child says its name
        self._arena, self._timeout = arena, timeout

    def run(
        self,
        case: Case,
        *,
        workspace_fill: int = 0xFF,
        n_threads: int | None = None,
        repeat: int = 1,
        read_only: bool = False,
    ) -> Answer:
        """One call of the kernel on what the arena holds for the case.

        repeat: that many calls, where the case says `batches`. read_only: map the inputs so that
        writing to them is a crash.
        """
        question = {
            "shape": case.shape if n_threads is None else case.shape | {"n_threads": n_threads},
            "tensors": {n: (p.start, p.strides) for n, p in self._arena.placed.items()},
            "calls": case.calls,
            "workspace_fill": workspace_fill,
            "repeat": repeat,
            "read_only": FLOAT_BYTES * self._arena.n_inputs if read_only else 0,
        }
        reply = self.ask(question, self._timeout)
        if isinstance(reply, Ending):
            return Answer(**asdict(reply))
        for outcome in ("declined", "raised"):
            if outcome in reply:
                return Answer(outcome, reply[outcome])
        return Answer("ok", **reply)

    def greeted(self, hello: dict[str, Any]) -> None:
        self.kernel = hello["kernel"]

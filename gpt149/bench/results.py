"""What a benchmark found: rows of samples, and where and when it was."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import Gpt149Error, InputError
from ..kernels.compiler import find_compiler
from ..system.files import read_json
from ..system.words import brief
from .ceilings import Ceilings, ceilings
from .stats import Summary, summarise

FORMAT = 2
NUMBER = (int, float)
KINDS = {  # of Row's fields, as they are annotated
    "str": (str,),
    "int": (int,),
    "float": NUMBER,
    "float | None": (*NUMBER, type(None)),
    "list[float]": (list,),
}
PACKAGES = ("gpt149", "torch", "numpy")


@dataclass
class Row:
    """A kernel in one test, in seconds a sample. Everything else is derived or described.

    table: attention or generation. test: its name. work: flops of a call, or tokens of a step.
    n_bytes: what a call must read and write at least. working_set: that of all sets of inputs,
    between which calls rotate. rejected: why the samples do not count.
    skipped: why there are none.
    """

    table: str
    kernel: str
    test: str
    samples: list[float] = field(default_factory=list)
    work: float = 0.0
    n_bytes: int = 0
    working_set: int = 0
    workspace_bytes: int = 0
    overhead_s: float = 0.0
    overhead_bytes: int = 0
    attention_share: float | None = None
    ttft_s: float | None = None
    peak_rss: int = 0
    rejected: str = ""
    skipped: str = ""

    @property
    def summary(self) -> Summary | None:
        return summarise(self.samples) if self.samples and not self.rejected else None


@dataclass
class Results:
    """All rows of a run, with what they were measured on."""

    machine: dict[str, Any]
    ceilings: Ceilings
    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False

    @property
    def right(self) -> bool:
        return not any(row.rejected for row in self.rows)

    def raise_ceilings(self) -> Ceilings:
        """Measure the ceilings again, since something passed them; the higher ones count."""
        self.ceilings = ceilings(self.ceilings.n_threads, again=True)
        return self.ceilings


def describe_machine(n_threads: int, model: str) -> dict[str, Any]:
    """CPU, threads, load, compiler and versions; the command, and the model that it measures."""
    return {
        "command": shlex.join(["gpt149", *sys.argv[1:]]),
        "model": model,
        "cpu": _cpu_name(),
        "processors": os.cpu_count(),
        "threads": n_threads,
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "compiler": _compiler(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _compiler() -> str:
    try:
        done = subprocess.run(
            [*find_compiler(), "--version"], capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()[0]
    except (Gpt149Error, OSError, IndexError):
        return "none"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def dumps(results: Results) -> str:
    """All of it as JSON."""
    return json.dumps({"format": FORMAT, **asdict(results)})


def _row(said: dict[str, Any]) -> Row:
    """A row of a file; raises TypeError or ValueError for a value that none can have."""
    row = Row(**said)
    for part in fields(Row):
        value = getattr(row, part.name)
        if not isinstance(value, KINDS[str(part.type)]):
            raise TypeError(f"{part.name} is {brief(value)}")
    if not all(isinstance(s, float | int) and 0 < s < math.inf for s in row.samples):
        raise ValueError(f"the samples of {brief(row.kernel)} are not all seconds")
    return row


def load(path: Path) -> Results:
    """What `dumps` wrote.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    try:
        found = read_json(path, wanted=object)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        kept = found["ceilings"]
        pairs = tuple((int(size), float(rate)) for size, rate in kept.pop("bandwidths"))
        machine = {"time": "", **found["machine"]}
        rows = [_row(row) for row in found["rows"]]
        return Results(machine, Ceilings(bandwidths=pairs, **kept), rows, found["interrupted"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(
            f"{path} was not written by this version's `gpt149 bench --save`: {e}."
        ) from e

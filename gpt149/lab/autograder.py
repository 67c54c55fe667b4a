"""What Gradescope takes: a zip with setup.sh, run_autograder and all that they need."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from ..errors import InputError
from ..system.paths import shipped
from .run import Settings

PACKAGE = Path(__file__).resolve().parents[1]
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip: the same input gives the same bytes
SETUP = """#!/usr/bin/env bash
# Run once, when the image is built.
set -e
apt-get update
apt-get install -y g++ python3 python3-venv
python3 -m venv {base}/venv
# A build of torch for CPUs is smaller: PIP_INDEX_URL, set here, says where pip finds one.
{base}/venv/bin/pip install --no-cache-dir {packages}
"""
RUN = """#!/usr/bin/env bash
# Run for each submission. Whatever it is, there are results: status 1 is a wrong one.
cd {base}
PYTHONPATH={base}/source venv/bin/python -m gpt149 lab submission/module.cpp{flags} \\
    --format gradescope -o results/results.json || [ $? = 1 ]
"""


def autograder(settings: Settings, base: str = "/autograder") -> bytes:
    """The zip. base: the folder in which Gradescope unpacks it, as `source`.

    The package itself is inside, so that what grades is what was tried.

    Raises:
        InputError: this package is not installed, so that nobody knows what it needs.
    """
    asked = f" --timeout {settings.timeout:g}"
    if settings.sanitize:
        asked += " --sanitize"
    if settings.case is not None:
        asked += f" --case {shlex.quote(settings.case)}"
    if settings.hidden_seed is not None:
        asked += f" --hidden-seed {settings.hidden_seed}"
    theirs: dict[str, Path] = {}
    if settings.rubric.path:
        theirs[f"rubric{settings.rubric.path.suffix}"] = settings.rubric.path
        asked += f" --rubric source/{next(iter(theirs))}"
    if settings.cases:
        name = f"cases{settings.cases.path.suffix}"
        theirs[name] = settings.cases.path
        settings = replace(settings, cases=replace(settings.cases, path=Path("source", name)))
    packages = " ".join(map(shlex.quote, _needed()))
    out = io.BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as file:
        _put(file, "setup.sh", SETUP.format(base=base, packages=packages).encode(), 0o755)
        run = RUN.format(base=base, flags=asked + settings.flags)
        _put(file, "run_autograder", run.encode(), 0o755)
        for name, path in [*theirs.items(), *_package()]:
            _put(file, name, path.read_bytes(), 0o644)
    return out.getvalue()


def _put(file: ZipFile, name: str, data: bytes, mode: int) -> None:
    info = ZipInfo(name, EARLIEST)
    info.external_attr = mode << 16
    file.writestr(info, data, ZIP_DEFLATED)


def _package() -> Iterator[tuple[str, Path]]:
    """The package's files, and csrc beside it, as in a checkout; the model's weights stay here."""
    csrc = shipped("csrc")
    for root, name in ((PACKAGE, "gpt149"), (csrc, "csrc")):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            again = root == PACKAGE and inside.parts[0] in ("csrc", "weights")
            if path.is_file() and "__pycache__" not in inside.parts and not again:
                yield str(Path(name, inside)), path


def _needed() -> list[str]:
    """The packages that this one requires, without what is optional."""
    try:
        said = requires("gpt149") or []
    except PackageNotFoundError as e:
        raise InputError(
            "gpt149 is not installed, so that what it needs is not known: `pip install .` in its "
            "folder."
        ) from e
    return [one for one in said if "extra ==" not in one]

"""`gpt149 lab`: Stanford's assignment, one submission or a folder of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import InputError
from ..lab import collect, report
from ..lab.autograder import autograder
from ..lab.parts import ACCESS, PARTS, timing_case
from ..lab.run import Settings, Submission, judge_submission
from ..lab.timing import time_in_turn
from ..system.child import module_command, with_parent
from ..system.limits import check_jobs
from ..system.paths import check_writable, write_whole
from ..system.terminal import status
from .terminal import show

COMMAND_LINE = "gpt149.cli"
MODULE = "module.cpp"
GRADESCOPE_FILE = "results.json"
INFERENCE_TOKENS = "100"


def run(
    path: Path,
    part: str,
    settings: Settings,
    *,
    output_format: str,
    output: Path | None,
    jobs: int,
    inference: bool,
    model: str,
) -> int:
    """Judge what is at the path; returns 0 if everything asked about is right, else 1.

    Raises:
        InputError: there is nothing to judge, or the file cannot be written.
    """
    check_jobs(jobs)
    if output_format == "html":
        raise InputError("--format html is for --collect.")
    if output is not None:
        check_writable(output)
    if output_format == "gradescope" and path.is_dir():
        raise InputError("--format gradescope is for one submission, not for a folder.")
    wanted = (ACCESS, *(p.name for p in PARTS)) if part == "all" else (part,)
    if inference and (part == ACCESS or path.is_dir()):
        raise InputError("--inference goes through a part of one module: part0 to part4, or all.")
    if inference:
        return max(_infer(path, name, model, settings) for name in wanted if name != ACCESS)
    if part == "part0":
        case = timing_case(settings.n, settings.br, settings.bc, settings.threads)
        [timing] = time_in_turn(("torch",), case, settings.timeout)
        click.echo(report.part0(timing, settings.n))
        return 0
    if path.is_dir():
        submissions = _judge_folder(path, wanted, settings, jobs)
    elif path.is_file() or output_format == "gradescope" or (output_format == "json" and output):
        with status() as progress:
            submissions = [judge_submission(path, wanted, settings, progress)]
    else:
        raise InputError(f"there is no {path}. Give a module.cpp, or a folder of submissions.")
    _write(_formatted(submissions, output_format, folder=path.is_dir()), output_format, output)
    return 0 if all(s.right for s in submissions) else 1


def collected(pattern: str, *, output_format: str, output: Path | None) -> int:
    """The class's table of many results; returns 0, or 1 if there is a file that has none.

    Raises:
        InputError: there are no such files, or the table cannot be written.
    """
    if output_format == "gradescope":
        raise InputError("--collect writes text, csv, json or html, and no --format gradescope.")
    submissions = collect.collect(pattern)
    if output_format == "html":
        text = collect.as_html(submissions)
    elif output_format == "text":
        text = collect.as_text(submissions)
    else:
        text = _formatted(submissions, output_format, folder=True)
    _write(text, output_format, output)
    return 0 if len(collect.judged(submissions)) == len(submissions) else 1


def write_autograder(out: Path, settings: Settings) -> int:
    """Write the zip that Gradescope takes; returns 0.

    Raises:
        InputError: it cannot be written.
    """
    if out.suffix != ".zip":
        raise InputError(f"Gradescope takes a zip: {out} must end in .zip.")
    write_whole(out, autograder(settings))
    click.echo(f"{out}", err=True)
    return 0


def _formatted(submissions: Sequence[Submission], output_format: str, *, folder: bool) -> str:
    if output_format == "csv":
        return report.as_csv(submissions).rstrip("\n")
    if output_format == "json":
        described = [asdict(s) for s in submissions]
        return json.dumps(described if folder else described[0])
    if output_format == "gradescope":
        return json.dumps(report.gradescope(submissions[0]), indent=2)
    return report.as_table(submissions) if folder else report.as_text(submissions[0])


def _write(text: str, output_format: str, output: Path | None) -> None:
    """To the file, whole or not at all; to stdout if there is none."""
    if output is None and output_format == "gradescope":
        output = Path(GRADESCOPE_FILE)
    if output is None:
        (show if output_format == "text" else click.echo)(text)
        return
    # File names may hold bytes that are no UTF-8.
    write_whole(output, (text + "\n").encode("utf-8", errors="backslashreplace"))
    click.echo(f"{output}", err=True)


def _judge_folder(
    folder: Path, wanted: Sequence[str], settings: Settings, jobs: int
) -> list[Submission]:
    """Every submission in the folder, `jobs` at a time; of a folder in it, whether it has one."""
    files = sorted({*folder.glob(f"*/{MODULE}"), *folder.glob("*.cpp")})
    if files:
        folders = {f for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "_"))}
        files = sorted({*files, *(f / MODULE for f in folders if f.suffix != ".cpp")})
    else:
        raise InputError(f"there are no submissions in {folder}: no */{MODULE}, and no *.cpp.")
    with ThreadPoolExecutor(jobs) as pool:
        judged = pool.map(lambda file: judge_submission(file, wanted, settings), files)
        with click.progressbar(
            judged, length=len(files), label="submissions", file=sys.stderr
        ) as bar:
            return list(bar)


def _infer(path: Path, part: str, model: str, settings: Settings) -> int:
    """Text from a model through a part of the submission; part0 is torch's attention."""
    kernel = "torch" if part == "part0" else f"{path}:{part}"
    click.echo(f"Running inference using dnn model {model} through {part}", err=True)
    command = module_command(
        COMMAND_LINE, "generate", "\n", "-m", model, "-a", kernel, "-n", INFERENCE_TOKENS,
        *("--threads", str(settings.threads)),
    )  # fmt: skip
    return subprocess.run(with_parent(command, signal.SIGTERM), check=False).returncode

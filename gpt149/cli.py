"""The command line: parse, call, print. What commands do is in `commands/`, their options are in
`options.py`.

Nothing heavy is imported until a command runs, so that --help is immediate.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click

from . import __version__, options
from .errors import Gpt149Error, InputError, MissingDependency
from .system.child import in_child, run_in_child
from .system.files import reason
from .system.terminal import discard_unwritten, open_standard_streams
from .usage import Group, given

NEEDED = ("numpy", "safetensors", "tiktoken", "torch")


class Cli(Group):
    """Turns our errors into `Error: ...` and their exit status, and Ctrl-C into 130."""

    def main(self, *args: Any, **settings: Any) -> Any:
        open_standard_streams()
        try:
            return super().main(*args, **settings)
        except OSError as e:  # in what click says before and behind a command, such as --help
            _fail(_unreadable(e))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as e:
            name = (e.name or "").partition(".")[0]
            if name not in NEEDED:
                raise
            _fail(
                MissingDependency(
                    f"this needs the package {name}, which is not installed: pip install {name}."
                )
            )
        except Gpt149Error as e:
            _fail(e)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:  # such as `| head`: the reader has what it wants
            discard_unwritten()
            ctx.exit(141)
        except OSError as e:
            _fail(_unreadable(e))


def end_from_anywhere(raised: sys.UnraisableHookArgs) -> None:
    """End where a signal's exception was raised in what swallows it, such as `__del__`."""
    if isinstance(raised.exc_value, SystemExit) and isinstance(raised.exc_value.code, int):
        os._exit(raised.exc_value.code)
    if isinstance(raised.exc_value, KeyboardInterrupt):
        os._exit(130)
    sys.__unraisablehook__(raised)


def _unreadable(error: OSError) -> InputError:
    what = f" {error.filename}" if error.filename else ""
    return InputError(f"cannot read or write{what}: {reason(error)}.")


def _fail(error: Gpt149Error) -> NoReturn:
    from .commands.terminal import show

    with suppress(OSError):  # stderr may be what cannot be written
        show(f"Error: {error}", err=True)
    discard_unwritten()
    sys.exit(error.exit_status)


def _run_users_kernel_in_child(*attentions: str | None) -> None:
    """A user's kernel may do anything: the whole command runs again in a child, and we end."""
    from .kernels.registry import is_file_spec

    theirs = [spec if spec and is_file_spec(spec) else "" for spec in attentions]
    if any(theirs) and not in_child():
        sys.exit(run_in_child("gpt149.cli", theirs))


@click.group(
    cls=Cli,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples="""
    gpt149 generate "ROMEO:"    text from the model that ships
    gpt149 new mine.cpp         an attention kernel to start your own from
    gpt149 check mine.cpp       is it right, and if not, why?
    """,
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Generate text with a small GPT through the attention kernel of your choice."""
    if threading.current_thread() is threading.main_thread():
        for ending in (signal.SIGTERM, signal.SIGHUP):  # unwind: leave no shared memory behind
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
        sys.unraisablehook = end_from_anywhere
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if ctx.invoked_subcommand is None:
        click.echo(_start(ctx))


def _start(ctx: click.Context) -> str:
    """What `gpt149` alone says."""
    formatter = ctx.make_formatter()
    formatter.write_text(ctx.command.help or "")
    ctx.command.format_epilog(ctx, formatter)
    formatter.write("\n`gpt149 --help` lists the commands, `gpt149 COMMAND --help` explains one.")
    return formatter.getvalue()


@main.command(
    examples="""
    gpt149 generate "ROMEO:" --seed 1
    gpt149 generate "ROMEO:" -a flash --temperature 0
    gpt149 generate "ROMEO:" -n 1000 --dtype int8
    """
)
@click.argument("prompt", required=False)
@options.GENERATE
def generate(attention: str, decode_attention: str | None, **settings: Any) -> None:
    """Generate text behind PROMPT (`-` reads it from stdin).

    Text goes to stdout, statistics and warnings to stderr.
    """
    _run_users_kernel_in_child(attention, decode_attention)
    from .commands.generate import Request, run

    sys.exit(run(Request(attention=attention, decode_attention=decode_attention, **settings)))


@main.command(
    examples="""
    gpt149 kernels
    gpt149 kernels --shape 1,12,16384,64
    gpt149 kernels --flags graviton3      how they are compiled for that
    """
)
@options.KERNELS
def kernels(shape: str, threads: int | None, flags: str | None, as_json: bool) -> None:
    """List the attention kernels: idea, extra memory, instruction set."""
    from .commands.kernels import run, show_flags

    show_flags(flags, as_json) if flags is not None else run(shape, threads, as_json)


@main.command(
    examples="""
    gpt149 new mine.cpp
    gpt149 new faster.cpp --from flash    a copy of a kernel that ships
    gpt149 new mine.rs                    or .c, .zig, .py; mine_numba.py
    """
)
@click.argument("path", metavar="FILE", type=options.FILE)
@options.NEW
def new(path: Path, start: str | None, editor: bool) -> None:
    """Write a kernel to start from: right, slow and commented.

    Never overwrites. A compile_commands.json beside it tells editors where gpt149.h is.
    """
    from .commands.new import run

    run(path, start, editor=editor)


@main.command(
    examples="""
    gpt149 check mine.cpp --watch
    gpt149 check mine.cpp --sanitize address,undefined
    gpt149 check naive flash simd --full --jobs 2
    """
)
@click.argument("kernel_specs", metavar="KERNEL|FILE...", nargs=-1)
@options.CHECK
def check(
    kernel_specs: tuple[str, ...],
    full: bool,
    case: str | None,
    seed: int,
    case_file: Path | None,
    timeout: float,
    jobs: int,
    sanitizers: str | None,
    watch: bool,
    logged: bool,
    self_test: bool,
    scored: Path | None,
    under: str | None,
    as_json: bool,
) -> None:
    """Is this kernel right, and if not, why?

    Runs conformance cases in child processes, judges them against float64, and names the mistake.
    """
    from .commands import check as command

    if self_test or scored:
        if case is not None or case_file is not None:
            raise InputError("--self-test and --score judge by all cases: leave --case(s) out.")
        sys.exit(
            command.score_known(
                scored, every=full, seed=seed, timeout=timeout, jobs=jobs, as_json_output=as_json
            )
        )
    if not kernel_specs:
        raise InputError("there is no kernel to check. Give a name, or a file of yours.")
    if under is not None:
        if watch or logged or sanitizers is not None or jobs != 1:
            raise InputError("--under goes with none of --watch, --log, --sanitize and --jobs.")
        sys.exit(
            command.run_under(
                under,
                kernel_specs,
                every=full,
                case=case,
                case_file=case_file,
                seed=seed,
                timeout=timeout,
                as_json_output=as_json,
            )
        )
    sys.exit(
        command.run(
            kernel_specs,
            every=full,
            case=case,
            seed=seed,
            case_file=case_file,
            timeout=timeout,
            jobs=jobs,
            sanitizers=sanitizers,
            watch=watch,
            logged=logged,
            as_json_output=as_json,
        )
    )


@main.command(
    examples="""
    gpt149 check mine.cpp --watch --log    keeps it, a line a save
    gpt149 log mine.cpp > log.md
    gpt149 log mine.cpp --png log.png
    """
)
@click.argument("kernel", metavar="FILE", type=options.FILE)
@options.LOG
def log(kernel: Path, png: Path | None) -> None:
    """How a kernel came to be: its work log as a table."""
    from .commands.log import run

    run(kernel, png)


@main.command(
    examples="""
    gpt149 bench mine.cpp simd --seconds 20
    gpt149 bench mine.cpp --save before.json
    gpt149 bench mine.cpp --against before.json    after a change
    """
)
@click.argument(
    "kernels", metavar="[KERNEL|FILE]...", nargs=-1, shell_complete=options.complete_kernel
)
@options.BENCH
def bench(**settings: Any) -> None:
    """Measure how fast kernels are, in a model and alone, against torch.

    All kernels, if none is named.
    """
    from .commands.bench import Request, run

    sys.exit(run(Request(**settings)))


@main.command(
    examples="""
    gpt149 profile mine.cpp
    gpt149 profile mine.cpp -s 12,1x4096,64    one query over 4096 keys
    gpt149 profile mine.cpp --tune -s 12,1024,64
    """
)
@click.argument(
    "kernel", metavar="KERNEL|FILE", required=False, shell_complete=options.complete_kernel
)
@options.PROFILE
def profile(
    kernel: str | None,
    shapes: tuple[str, ...],
    threads: int | None,
    tune: bool,
    self_test: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Why is this kernel slow, and what would it bring to mend it?

    Names causes, the worthiest first, with their lines, from experiments and samples.
    """
    from .commands import profile as command

    if self_test:
        if kernel or shapes or tune or report:
            raise InputError("--self-test has kernels and shapes of its own, and takes no others.")
        sys.exit(command.self_test(threads, as_json_output=as_json))
    if not kernel:
        raise InputError("there is no kernel to profile. Give a name, or a .cpp or .py file.")
    if tune:
        if report:
            raise InputError("--tune has no page: leave --report out, or --tune.")
        sys.exit(command.run_tune(kernel, shapes, threads, as_json_output=as_json))
    sys.exit(command.run(kernel, shapes, threads, report=report, as_json_output=as_json))


@main.command(
    examples="""
    gpt149 lab module.cpp
    gpt149 lab submissions --jobs 4 --format csv -o class.csv
    gpt149 lab --collect 'results/*.json' --format html -o class.html
    """
)
@click.argument("path", metavar="MODULE|FOLDER", type=options.FILE, required=False)
@click.argument(
    "part",
    default="all",
    type=click.Choice(["all", "4Daccess", "part0", "part1", "part2", "part3", "part4"]),
)
@options.LAB
def lab(
    path: Path | None,
    part: str,
    collect: str | None,
    autograder: Path | None,
    output_format: str,
    output: Path | None,
    jobs: int,
    inference: bool,
    model: str,
    **settings: Any,
) -> None:
    """Judge Stanford's CS149 assignment 4: one module.cpp, or many."""
    from .commands.lab import collected, run, write_autograder
    from .lab.run import Settings

    if collect is not None:
        if path is not None:
            raise InputError(f"--collect takes one pattern, in quotes: what is {path} for?")
        if idle := given() - {"--collect", "--format", "--output"}:
            raise InputError(
                f"--collect judges nothing: {', '.join(sorted(idle))} would change nothing. Give "
                "it where the files are judged."
            )
        sys.exit(collected(collect, output_format=output_format, output=output))
    if autograder is not None:
        if path is not None:
            raise InputError(f"--autograder takes no file but its own: what is {path} for?")
        sys.exit(write_autograder(autograder, Settings(**settings)))
    if path is None:
        raise InputError(
            "there is nothing to judge. Give a module.cpp, or a folder of submissions."
        )
    sys.exit(
        run(
            path,
            part,
            Settings(**settings),
            output_format=output_format,
            output=output,
            jobs=jobs,
            inference=inference,
            model=model,
        )
    )


@main.command(
    examples="""
    gpt149 diff naive flash -p "O Romeo"
    gpt149 diff reference mine.cpp -p "O Romeo" -n 100
    """
)
@click.argument("first", metavar="X", shell_complete=options.complete_kernel)
@click.argument("second", metavar="Y", shell_complete=options.complete_kernel)
@options.DIFF
def diff(first: str, second: str, **settings: Any) -> None:
    """Compare two kernels on a prompt: layer by layer, and their text.

    Shows each layer's errors, how far apart the next token's distributions are, and where greedy
    text departs.
    """
    _run_users_kernel_in_child(first, second)
    from .commands.diff import run

    sys.exit(run((first, second), **settings))


@main.command(
    examples="""
    gpt149 attn -p "O Romeo, Romeo!" --layer 1 --head 3
    gpt149 attn -p "O Romeo, Romeo!" -a mine.cpp
    """
)
@options.ATTN
def attn(attention: str, **settings: Any) -> None:
    """Show a layer's attention matrix for a prompt, through any kernel."""
    _run_users_kernel_in_child(attention)
    from .commands.attn import run

    run(attention=attention, **settings)


@main.command(
    "eval",
    examples="""
    gpt149 generate "ROMEO:" > play.txt
    gpt149 eval -t play.txt
    gpt149 eval -t play.txt -a mine.cpp --context 128
    """,
)
@options.EVAL
def evaluate(attention: str, **settings: Any) -> None:
    """How well does the model predict a text, through any kernel?

    In nats a token and a character, and perplexity.
    """
    _run_users_kernel_in_child(attention)
    from .commands.eval import run

    run(attention=attention, **settings)

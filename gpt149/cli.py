"""The command line: parse, call, print. What commands do is in `commands/`.

Nothing heavy is imported until a command runs, so that --help is immediate.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from . import __version__
from .errors import Gpt149Error, InputError, MissingDependency
from .system.child import in_child, run_in_child

NEEDED = ("numpy", "safetensors", "tiktoken", "torch")


class Cli(click.Group):
    """Turns our errors into `Error: ...` and their exit status, and Ctrl-C into 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as e:
            name = (e.name or "").partition(".")[0]
            if name not in NEEDED:
                raise
            missing = MissingDependency(
                f"this needs the package {name}, which is not installed: pip install {name}."
            )
            _fail(ctx, missing)
        except Gpt149Error as e:
            _fail(ctx, e)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:  # such as `| head`: the reader has what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except OSError as e:
            _fail(ctx, InputError(f"cannot read or write: {e.strerror or e}."))


def _fail(ctx: click.Context, error: Gpt149Error) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    ctx.exit(error.exit_status)


def _complete_kernel(
    _ctx: click.Context, _param: click.Parameter, start: str
) -> list[CompletionItem]:
    from .kernels.registry import BUILTINS

    names = [CompletionItem(name) for name in BUILTINS if name.startswith(start)]
    return names or [CompletionItem(start, type="file")]


ATTENTION = click.option(
    "-a",
    "--attention",
    default="simd",
    show_default=True,
    envvar="GPT149_ATTENTION",
    show_envvar=True,
    metavar="NAME|FILE",
    shell_complete=_complete_kernel,
    help="The attention kernel: see `gpt149 kernels`, or a .cpp or .py file of yours.",
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(["auto", "native", "torch"]),
    default="auto",
    show_default=True,
    help="Whole steps in C++, or the model in torch; auto: native wherever it applies.",
)
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["float32", "bf16", "int8"]),
    default="float32",
    show_default=True,
    help="What the native engine keeps the weights in.",
)
MODEL = click.option(
    "-m",
    "--model",
    default="shakespeare",
    show_default=True,
    help="A model that ships, a GPT-2 directory, a nanoGPT ckpt.pt, a Hugging Face hub name, "
    "or random:gpt2.",
)
THREADS = click.option(
    "--threads", type=int, help="Default: OMP_NUM_THREADS, else every processor."
)


def _run_users_kernel_in_child(*attentions: str) -> None:
    """A user's kernel may do anything: the whole command runs again in a child, and we end."""
    from .kernels.registry import is_file_spec

    theirs = [attention for attention in attentions if is_file_spec(attention)]
    if theirs and not in_child():
        sys.exit(run_in_child("gpt149.cli", theirs))


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Generate text with a small GPT through the attention kernel of your choice."""
    if threading.current_thread() is threading.main_thread():
        for ending in (signal.SIGTERM, signal.SIGHUP):  # unwind: leave no shared memory behind
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@main.command()
@click.argument("prompt", required=False)
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Read the prompt from a file.")
@click.option("-i", "--interactive", is_flag=True, help="Prompt after prompt, in one context.")
@click.option("--prompt-ids", metavar="IDS", help='The prompt as token ids: "15496 995".')
@click.option("--prompt-tokens", type=int, metavar="N", help="A prompt of N seeded random tokens.")
@click.option("--special", is_flag=True, help="Special tokens written in the prompt count as such.")
@ATTENTION
@click.option("--br", type=int, default=0, help="Queries a tile; 0: the kernel's choice.")
@click.option("--bc", type=int, default=0, help="Keys a tile; 0: the kernel's choice.")
@MODEL
@click.option("--meta", type=click.Path(path_type=Path), help="meta.pkl of a nanoGPT checkpoint.")
@click.option("-n", type=int, default=256, show_default=True, help="Tokens to generate.")
@click.option("-c", "--n-ctx", type=int, help="A context shorter than the model's.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0: greedy.")
@click.option("--top-k", type=int, default=0, help="Keep the K likeliest tokens; 0: all.")
@click.option("--top-p", type=float, default=1.0, help="Keep the likeliest, up to this sum.")
@click.option("--min-p", type=float, default=0.0, help="Drop below this share of the likeliest.")
@click.option("--repetition-penalty", type=float, default=1.0, help="1: none.")
@click.option("--seed", type=int, default=149, show_default=True)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--num-samples", type=int, default=1, help="Samples of one prompt, as a batch.")
@click.option("--ignore-eos", is_flag=True, help="Go on behind the end-of-text token.")
@click.option("--logprobs", type=int, metavar="K", help="Report log-probabilities, and the top K.")
@THREADS
@click.option("--no-kv-cache", is_flag=True, help="Recompute all tokens at every step.")
@click.option(
    "--kv-dtype",
    type=click.Choice(["auto", "float32", "bf16"]),
    default="auto",
    show_default=True,
    help="What the KV cache holds; auto: bf16 with --dtype bf16 and int8, if the kernel reads it.",
)
@ENGINE
@DTYPE
@click.option("--no-echo", is_flag=True, help="Print the continuation without the prompt.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def generate(attention: str, **options: Any) -> None:
    """Generate text behind PROMPT (`-` reads it from stdin).

    Text goes to stdout, statistics and warnings to stderr.
    """
    _run_users_kernel_in_child(attention)
    from .commands.generate import Request, run

    sys.exit(run(Request(attention=attention, **options)))


@main.command()
@click.option(
    "--shape",
    default="1,12,1024,64",
    show_default=True,
    metavar="B,H,N,D",
    help="batch, heads, tokens, head_dim for which the extra memory is shown.",
)
@THREADS
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def kernels(shape: str, threads: int | None, as_json: bool) -> None:
    """List the attention kernels: idea, extra memory, instruction set."""
    from .commands.kernels import run

    run(shape, threads, as_json)


@main.command()
@click.argument("kernel_specs", metavar="KERNEL|FILE...", nargs=-1)
@click.option("--full", is_flag=True, help="Many more cases than the quick ones.")
@click.option("--case", metavar="NAME", help="One case alone.")
@click.option("--timeout", type=float, default=5.0, show_default=True, help="Seconds a call.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Kernels side by side.")
@click.option(
    "--sanitize",
    "sanitizers",
    metavar="LIST",
    help='Also run under the compiler\'s sanitizers: "address,undefined".',
)
@click.option("--watch", is_flag=True, help="Judge again at every save, and show the speed.")
@click.option("--self-test", is_flag=True, help="Judge the wrong kernels of a checkout.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def check(
    kernel_specs: tuple[str, ...],
    full: bool,
    case: str | None,
    timeout: float,
    jobs: int,
    sanitizers: str | None,
    watch: bool,
    self_test: bool,
    as_json: bool,
) -> None:
    """Is this kernel right, and if not, why?

    Runs conformance cases in child processes, judges them against float64, and names the mistake.
    """
    from .commands import check as command
    from .system.paths import shipped

    if self_test:
        folder = shipped("csrc").parent / "tests" / "wrong_kernels"
        sys.exit(command.self_test(folder, timeout))
    if not kernel_specs:
        raise InputError("there is no kernel to check. Give a name, or a .cpp or .py file.")
    sys.exit(
        command.run(
            kernel_specs,
            every=full,
            case=case,
            timeout=timeout,
            jobs=jobs,
            sanitizers=sanitizers,
            watch=watch,
            as_json_output=as_json,
        )
    )


@main.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--from", "start", metavar="NAME", help="Start from this shipped kernel's source.")
def new(path: Path, start: str | None) -> None:
    """Write a kernel to start from: right, slow and commented. Never overwrites."""
    from .commands.new import run

    run(path, start)


@main.command("eval")
@click.option("-t", "--text", "text_file", type=click.Path(path_type=Path), required=True)
@ATTENTION
@MODEL
@click.option("--from", "start", type=float, default=0.0, help="Skip this share of the text.")
@click.option(
    "--context",
    "n_ctx",
    type=int,
    help="Tokens of a window; the later half of each is scored. Default: the model's context.",
)
@THREADS
@ENGINE
@DTYPE
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def evaluate(attention: str, **options: Any) -> None:
    """How well does the model predict a text: nats a token and a character, perplexity."""
    _run_users_kernel_in_child(attention)
    from .commands.eval import run

    run(attention=attention, **options)


@main.command()
@click.option("-p", "--prompt", required=True)
@click.option("--layer", type=int, default=0, show_default=True, help="From 0.")
@click.option("--head", type=int, default=0, show_default=True, help="From 0.")
@ATTENTION
@MODEL
@click.option("--png", type=click.Path(path_type=Path), help="Draw into this file instead.")
@THREADS
def attn(attention: str, **options: Any) -> None:
    """Show a layer's attention matrix for a prompt, through any kernel."""
    _run_users_kernel_in_child(attention)
    from .commands.attn import run

    run(attention=attention, **options)


@main.command()
@click.argument("first", metavar="X", shell_complete=_complete_kernel)
@click.argument("second", metavar="Y", shell_complete=_complete_kernel)
@click.option("-p", "--prompt", required=True)
@MODEL
@click.option("-n", type=int, default=50, show_default=True, help="Greedy tokens to compare.")
@THREADS
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def diff(first: str, second: str, **options: Any) -> None:
    """Compare two kernels on one prompt: errors a layer, next-token distribution, greedy text."""
    _run_users_kernel_in_child(first, second)
    from .commands.diff import run

    sys.exit(run((first, second), **options))


def _threshold(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as e:
        raise click.BadParameter(f"'{text}' is not a share such as 5% or 0.05.") from e
    if not 0 <= share < 10:
        raise click.BadParameter(f"'{text}' is out of range.")
    return share


@main.command()
@click.argument("kernels", metavar="[KERNEL|FILE]...", nargs=-1, shell_complete=_complete_kernel)
@MODEL
@click.option("-p", "prompts", default="128,512", show_default=True, help="Prompts, in tokens.")
@click.option("-n", type=int, default=32, show_default=True, help="Tokens to decode; 0: none.")
@click.option("-d", "depths", default="0,512,1536", show_default=True, help="Tokens held before.")
@click.option(
    "-s",
    "shapes",
    multiple=True,
    metavar="HEADS,TOKENS,DIM",
    help="Attention alone on this shape instead, such as 12,1024,64, 12,1024,64:full (no mask) or "
    "12,1x4096,64 (one query, 4096 keys); repeatable.",
)
@click.option("--attention-only", is_flag=True, help="Without a model.")
@click.option("--generation-only", is_flag=True, help="Without attention on its own.")
@click.option("--seconds", type=float, default=50, show_default=True, help="About how long.")
@THREADS
@click.option("--remeasure", is_flag=True, help="The machine's ceilings too, which are kept else.")
@click.option(
    "-o",
    "output_format",
    type=click.Choice(["table", "md", "csv", "json", "jsonl"]),
    default="table",
    show_default=True,
)
@click.option("--save", type=click.Path(path_type=Path), help="Keep all samples in this file.")
@click.option("--against", type=click.Path(path_type=Path), help="Compare with a saved run.")
@click.option(
    "--threshold",
    default="5%",
    show_default=True,
    callback=_threshold,
    help="Of --against: a slow-down by less is none.",
)
@click.option("--report", type=click.Path(path_type=Path), help="An HTML page with pictures.")
def bench(**options: Any) -> None:
    """Measure kernels (all of them by default) in a model and alone, against torch's."""
    from .commands.bench import Request, run

    sys.exit(run(Request(**options)))


@main.command()
@click.argument("path", metavar="MODULE|FOLDER", type=click.Path(path_type=Path))
@click.argument(
    "part",
    default="all",
    type=click.Choice(["all", "4Daccess", "part0", "part1", "part2", "part3", "part4"]),
)
@click.option("-N", "n", type=int, default=1024, show_default=True, help="Tokens.")
@click.option("-br", type=int, default=256, show_default=True, help="Flash attention's Br.")
@click.option("-bc", type=int, default=256, show_default=True, help="Flash attention's Bc.")
@click.option("--threads", type=int, default=8, show_default=True)
@click.option("--timeout", type=float, default=20.0, show_default=True, help="Seconds a call.")
@click.option("--case", metavar="NAME", help="One case alone.")
@click.option("--sanitize", is_flag=True, help="Run under the address and undefined sanitizers.")
@click.option("--inference", is_flag=True, help="Generate text through the part instead.")
@click.option("-m", "--model", default="shakespeare", show_default=True, help="Of --inference.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "csv", "gradescope"]),
    default="text",
    show_default=True,
    help="gradescope writes an autograder's results.json, whatever happens.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file instead of stdout.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Submissions side by side.")
def lab(
    path: Path,
    part: str,
    output_format: str,
    output: Path | None,
    jobs: int,
    inference: bool,
    model: str,
    **settings: Any,
) -> None:
    """Stanford's CS149 assignment 4: judge a module.cpp, or a folder of submissions."""
    from .commands.lab import run
    from .lab.run import Settings

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

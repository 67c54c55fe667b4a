"""The options of every command, in the groups in which its --help shows them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from .engine.choices import DTYPES, ENGINES, KV_DTYPES
from .errors import InputError
from .usage import in_groups, option


class _File(click.Path):
    """A path; an empty one would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name of a file is empty.", param, ctx)
        if os.path.exists(value) and not os.access(value, os.R_OK):  # click does not say why
            raise InputError(f"cannot read {os.fsdecode(value)}: {os.strerror(errno.EACCES)}.")
        return super().convert(value, param, ctx)


FILE = _File(path_type=Path)


def complete_kernel(
    _ctx: click.Context, _param: click.Parameter, start: str
) -> list[CompletionItem]:
    """Names of kernels for the shell, else files."""
    from .kernels.registry import BUILTINS

    names = [CompletionItem(name) for name in BUILTINS if name.startswith(start)]
    return names or [CompletionItem(start, type="file")]


def _share(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as e:
        raise click.BadParameter(f"'{text}' is not a share such as 5% or 0.05.") from e
    if not 0 <= share < 10:
        raise click.BadParameter(f"'{text}' is out of range.")
    return share


def _listed(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Any:
    from .lab.parts import read_listed

    return read_listed(path) if path else None


def _rubric(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Any:
    from .lab.rubric import Rubric, read_rubric

    return read_rubric(path) if path else Rubric()


ATTENTION = option(
    "-a",
    "--attention",
    default="simd",
    envvar="GPT149_ATTENTION",
    show_envvar=True,
    metavar="NAME|FILE",
    shell_complete=complete_kernel,
    help="The attention kernel: see `gpt149 kernels`, or a file of yours, such as mine.cpp.",
)
MODEL = option(
    "-m",
    "--model",
    default="shakespeare",
    help="A model that ships, a GPT-2 directory, a nanoGPT ckpt.pt, a Hugging Face hub name, "
    "or random:gpt2.",
)
ENGINE = option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    help="Whole steps in C++, or the model in torch; auto: native wherever it applies.",
)
DTYPE = option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    help="What the native engine keeps the weights in; int4: 32 of them share a scale.",
)
THREADS = option("--threads", type=int, help="Default: OMP_NUM_THREADS, else every processor.")
JSON = option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")

GENERATE = in_groups(
    {
        "Prompt": [
            option("-f", "--file", type=FILE, help="Read the prompt from a file."),
            option("-i", "--interactive", is_flag=True, help="Prompt after prompt, one context."),
            option(
                "--prompts",
                type=FILE,
                help="A prompt a line, or a JSON object with prompt, n, stop, seed; - is stdin.",
            ),
            option("--prompt-ids", metavar="IDS", help='The prompt as token ids: "15496 995".'),
            option("--prompt-tokens", type=int, help="A prompt of N seeded random tokens."),
            option(
                "--special",
                is_flag=True,
                help="Special tokens written in the prompt count as such.",
            ),
        ],
        "Sampling": [
            option("-n", default=256, help="Tokens to generate."),
            option("--temperature", default=0.8, help="Higher is more varied; 0: greedy."),
            option("--top-k", default=0, help="Keep the N likeliest tokens; 0: all."),
            option("--top-p", default=1.0, help="Keep the likeliest, up to this sum."),
            option("--min-p", default=0.0, help="Drop below this share of the likeliest."),
            option(
                "--repetition-penalty",
                default=1.0,
                help="Above 1, tokens that are there already become less likely.",
            ),
            option("--seed", default=149, help="The same seed, the same text, with any kernel."),
            option("--stop", multiple=True, help="End before this text; repeatable."),
            option("--num-samples", default=1, help="Samples of one prompt, as a batch."),
            option("--batch", type=int, help="Texts of --prompts that grow at once. Default: 16."),
            option("--ignore-eos", is_flag=True, help="Go on behind the end-of-text token."),
        ],
        "Kernel": [
            ATTENTION,
            option(
                "--decode-attention",
                metavar="NAME|FILE",
                shell_complete=complete_kernel,
                help="Another kernel for the tokens behind the prompt.",
            ),
            option("--br", default=0, help="Queries a tile; 0: the kernel's choice."),
            option("--bc", default=0, help="Keys a tile; 0: the kernel's choice."),
        ],
        "Model and engine": [
            MODEL,
            option("--meta", type=FILE, help="meta.pkl of a nanoGPT checkpoint."),
            option("-c", "--n-ctx", type=int, help="A context shorter than the model's."),
            ENGINE,
            DTYPE,
            option(
                "--kv-dtype",
                type=click.Choice(("auto", *KV_DTYPES)),
                default="auto",
                help="What the KV cache holds; auto: bf16 with any --dtype but float32, if "
                "the kernel reads it.",
            ),
            option("--no-kv-cache", is_flag=True, help="Recompute all tokens at every step."),
            THREADS,
        ],
        "Output": [
            option("--no-echo", is_flag=True, help="Print the continuation without the prompt."),
            option("--logprobs", type=int, help="Report log-probabilities, and the top N."),
            JSON,
        ],
    }
)

KERNELS = in_groups(
    {
        "Extra memory": [
            option(
                "--shape",
                default="1,12,1024,64",
                metavar="B,H,N,D",
                help="batch, heads, tokens, head_dim for which it is shown.",
            ),
            THREADS,
        ],
        "Other machines": [
            option(
                "--flags",
                metavar="CPU",
                help="Show instead how kernels are compiled for avx2, avx512, graviton2, "
                "graviton3, graviton4, apple-m1 or apple-intel. Compiles nothing.",
            ),
        ],
        "Output": [JSON],
    }
)

NEW = in_groups(
    {
        "Source": [
            option("--from", "start", metavar="NAME", help="From this shipped kernel's source."),
            option(
                "--editor",
                is_flag=True,
                help="Only tell editors, in compile_commands.json, how FILE is compiled.",
            ),
        ]
    }
)

SEED = option(
    "--seed",
    default=149,
    type=click.IntRange(min=0),
    help="Another: other numbers and other sizes of the same kinds.",
)

CHECK = in_groups(
    {
        "What is asked": [
            option("--full", is_flag=True, help="Many more cases than the quick ones."),
            option("--case", metavar="NAME", help="One case alone."),
            SEED,
            option(
                "--cases",
                "case_file",
                type=FILE,
                help="Cases of yours in the place of ours: a TOML file.",
            ),
            option(
                "--sanitize",
                "sanitizers",
                metavar="LIST",
                help='Also run under the compiler\'s sanitizers: "address,undefined", or "thread".',
            ),
            option(
                "--self-test",
                is_flag=True,
                help="Judge kernels of a checkout whose mistake is known: caught, and named?",
            ),
            option(
                "--score",
                "scored",
                type=FILE,
                metavar="FOLDER",
                help="The same of a folder of your own, which index.tsv describes.",
            ),
        ],
        "How it runs": [
            option("--watch", is_flag=True, help="Judge again at every save, and show the speed."),
            option(
                "--log", "logged", is_flag=True, help="With --watch: a work log beside the file."
            ),
            option("--timeout", default=5.0, help="Seconds a call."),
            option("--jobs", default=1, help="Kernels side by side."),
            option(
                "--under",
                metavar="COMMAND",
                help="What runs programs of the machine that CXX compiles for, such as "
                '"qemu-aarch64 -L /usr/aarch64-linux-gnu"; small cases alone.',
            ),
        ],
        "Output": [JSON],
    }
)

LOG = in_groups(
    {"Output": [option("--png", type=FILE, help="Draw the times into this file instead.")]}
)

BENCH = in_groups(
    {
        "In a model": [
            MODEL,
            option("-p", "prompts", default="128,512", help="Prompts, in tokens."),
            option("-n", default=32, help="Tokens to decode; 0: none."),
            option("-d", "depths", default="0,512,1536", help="Tokens held before."),
            option("--generation-only", is_flag=True, help="Without attention on its own."),
        ],
        "Attention alone": [
            option(
                "-s",
                "shapes",
                multiple=True,
                metavar="HEADS,TOKENS,DIM",
                help="On this shape instead, such as 12,1024,64, 12,1024,64:full (no mask), "
                "12,1x4096,64 (one query, 4096 keys) or 12,4096,64:window=512; also :softcap=X, "
                ":alibi, :sinks, :head_dim_v=N, :bf16; repeatable.",
            ),
            option("--attention-only", is_flag=True, help="Without a model."),
        ],
        "How it is measured": [
            option("--seconds", default=50.0, help="About how long."),
            THREADS,
            option(
                "--remeasure", is_flag=True, help="The machine's ceilings too, which are kept else."
            ),
        ],
        "Output": [
            option(
                "-o",
                "output_format",
                type=click.Choice(["table", "md", "csv", "json", "jsonl"]),
                default="table",
                help="What goes to stdout.",
            ),
            option("--report", type=FILE, help="An HTML page with pictures."),
        ],
        "Against another day": [
            option("--save", type=FILE, help="Keep all samples in this file."),
            option("--against", type=FILE, help="Compare with a saved run."),
            option(
                "--threshold",
                default="5%",
                callback=_share,
                help="Of --against: a slow-down by less is none.",
            ),
        ],
    }
)

PROFILE = in_groups(
    {
        "What is watched": [
            option(
                "-s",
                "shapes",
                multiple=True,
                metavar="HEADS,TOKENS,DIM",
                help="This shape, such as 12,1024,64, 12,1024,64:full (no mask), 12,1x4096,64 "
                "(one query) or 12,4096,64:window=512, as `bench` takes them; repeatable. Default: "
                "a prefill and a decode step.",
            ),
            THREADS,
        ],
        "What else": [
            option(
                "--tune",
                is_flag=True,
                help="Find the fastest tile (--br, --bc of `generate`) and number of threads.",
            ),
            option(
                "--self-test",
                is_flag=True,
                help="Profile kernels of a checkout whose cause is known: is it named?",
            ),
        ],
        "Output": [
            JSON,
            option("--report", type=FILE, help="An HTML page, with time beside the source."),
        ],
    }
)

LAB = in_groups(
    {
        "What is asked": [
            option("--case", metavar="NAME", help="One case alone."),
            SEED,
            option("--sanitize", is_flag=True, help="Under the address and undefined sanitizers."),
            option(
                "--cases",
                type=FILE,
                callback=_listed,
                help="Cases of yours in the place of ours: a TOML file.",
            ),
            option(
                "--rubric",
                type=FILE,
                callback=_rubric,
                help="Points, what counts as right, what speed costs: a TOML file of yours.",
            ),
            option("-N", "n", default=1024, help="Tokens of the call that is timed."),
            option("-br", default=256, help="Flash attention's Br."),
            option("-bc", default=256, help="Flash attention's Bc."),
        ],
        "How it runs": [
            option("--threads", default=8, help="Of every call."),
            option("--timeout", default=20.0, help="Seconds a call."),
            option("--jobs", default=1, help="Submissions side by side."),
        ],
        "Many machines": [
            option(
                "--collect",
                metavar="PATTERN",
                help="No judging: one table of what --format json wrote, such as '*/result.json'.",
            ),
        ],
        "Autograders": [
            option(
                "--autograder",
                type=FILE,
                help="No judging: the zip that Gradescope takes, with these options.",
            ),
            option(
                "--hidden-seed",
                type=click.IntRange(min=0),
                help="Also cases that this seed draws, hidden until grades are published.",
            ),
        ],
        "Text through a part": [
            option("--inference", is_flag=True, help="Generate text instead of judging."),
            option("-m", "--model", default="shakespeare", help="Of --inference."),
        ],
        "Output": [
            option(
                "--format",
                "output_format",
                type=click.Choice(["text", "json", "csv", "gradescope", "html"]),
                default="text",
                help="gradescope writes an autograder's results.json, whatever happens; html is "
                "for --collect.",
            ),
            option("-o", "--output", type=FILE, help="A file instead of stdout."),
        ],
    }
)

DIFF = in_groups(
    {
        "Text": [
            option("-p", "--prompt", required=True, help="What both kernels read."),
            option("-n", default=50, help="Greedy tokens to compare."),
        ],
        "Model and engine": [MODEL, THREADS],
        "Output": [JSON],
    }
)

ATTN = in_groups(
    {
        "What is shown": [
            option("-p", "--prompt", required=True, help="Its tokens are rows and columns."),
            option("--layer", default=0, help="From 0."),
            option("--head", default=0, help="From 0."),
        ],
        "Kernel": [ATTENTION],
        "Model and engine": [MODEL, THREADS],
        "Output": [option("--png", type=FILE, help="Draw into this file instead.")],
    }
)

EVAL = in_groups(
    {
        "Text": [
            option(
                "-t",
                "--text",
                "text_file",
                type=FILE,
                required=True,
                help="A file of it, in UTF-8.",
            ),
            option("--from", "start", default=0.0, help="Skip this share of the text."),
            option(
                "--context",
                "n_ctx",
                type=int,
                help="Tokens of a window; the later half of each is scored. Default: the model's "
                "context.",
            ),
        ],
        "Kernel": [ATTENTION],
        "Model and engine": [MODEL, ENGINE, DTYPE, THREADS],
        "Output": [JSON],
    }
)

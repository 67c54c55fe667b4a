"""Every language that a kernel can be written in: is each command there for it? As a table.

    python scripts/languages.py [LANGUAGE...]

For each: `new` writes a kernel, which `check` finds right; with one slip in it, `check` names the
slip; `generate` writes the text of the reference; `bench` measures it. What is not installed is
skipped by its name. Takes some minutes.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpt149.errors import MissingDependency
from gpt149.kernels.compiler import find_compiler
from gpt149.kernels.languages import compiler_of
from gpt149.system.paths import shipped

ROOT = Path(__file__).resolve().parents[1]
PROMPT = ("ROMEO:", "-n", "12", "--temperature", "0", "--json")


@dataclass(frozen=True)
class Language:
    """file: of the kernel. right, wrong: a slip; cause: what `check` calls it."""

    name: str
    file: str
    right: str
    wrong: str
    cause: str
    package: str = ""  # of Python, that it needs

    @property
    def missing(self) -> str:
        """What is not installed; empty if all is."""
        if self.package and find_spec(self.package) is None:
            return self.package
        try:
            compiler_of(Path(self.file))
        except MissingDependency as e:
            return str(e).partition(",")[0]
        return ""

    def write(self, folder: Path) -> Path:
        """The right kernel, as a user gets it."""
        folder.mkdir(exist_ok=True)
        path = folder / self.file
        if self.package == "triton":
            shutil.copy(ROOT / "examples" / self.file, path)
        elif path.suffix == ".so":
            _run("new", path.with_suffix(".c"))
            link(path)
        else:
            _run("new", path)
        return path

    def spoil(self, path: Path) -> None:
        """Put the slip into it."""
        source = path.with_suffix(".c") if path.suffix == ".so" else path
        text = source.read_text(encoding="utf-8")
        assert text.count(self.right), f"{self.right} is not in {source}"
        source.write_text(text.replace(self.right, self.wrong), encoding="utf-8")
        if path.suffix == ".so":
            link(path)


LANGUAGES = [
    Language("C++", "mine.cpp", "s[j] / l * v[x]", "s[j] * v[x]", "unnormalised"),
    Language("C", "mine.c", "s[j] = a->scale * dot", "s[j] = dot", "scale_missing"),
    Language("Rust", "mine.rs", "a.visible(i)", "a.n_kv as usize", "causal_missing"),
    Language("Zig", "mine.zig", "weight / l * v", "weight * v", "unnormalised"),
    Language("Numba", "mine_numba.py", "h // group", "h % a.n_kv_head", "group_mapping", "numba"),
    Language("torch", "mine.py", "tril(n_kv - n_q)", "tril()", "causal_top_left", "torch"),
    Language("Triton", "triton_attention.py", "acc * rescale[:, None] +", "acc +",
             "acc_not_rescaled", "triton"),
    Language("a shared library", "libmine.so", "gpt149_visible(a, i)", "a->n_kv", "causal_missing"),
]  # fmt: skip
HEAD = """\
| language | kernel | check: right | check: one slip | same text | prefill, tok/s |
|---|---|---|---|---|---:|"""


def link(library: Path) -> None:
    """Compile the C beside a shared library, as anyone's own build would."""
    include, source = f"-I{shipped('csrc')}", str(library.with_suffix(".c"))
    words = (*find_compiler(), "-xc", "-O2", "-fPIC", "-shared", include, source, "-lm")
    subprocess.run([*words, "-o", str(library)], check=True)


def _run(*words: str | Path, status: int = 0) -> str:
    command = [sys.executable, "-m", "gpt149", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != status:
        sys.exit(f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _text(kernel: str | Path) -> list[int]:
    ids: list[int] = json.loads(_run("generate", *PROMPT, "-a", kernel))["samples"][0]["token_ids"]
    return ids


def _bench(paths: list[Path]) -> dict[str, str]:
    """A prompt's tokens a second, all in turn; of the best sample, for neighbours only slow."""
    settings = ("--generation-only", "-p", "128", "-n", "0", "--seconds", "30")
    told = dict[str, str]()
    for row in json.loads(_run("bench", *paths, *settings, "-o", "json"))["rows"]:
        told[row["kernel"]] = row["rejected"] or row["skipped"]
        if row["tok_s"]:
            told[row["kernel"]] = f"{row['tok_s'] * row['median_s'] / row['min_s']:,.0f}"
    return told


def _judged(path: Path, status: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_run("check", path, "--json", status=status))["kernels"][0]
    return report


def main() -> None:
    """The table, with a line for each language that is asked for and can be had."""
    chosen = [one for one in LANGUAGES if one.name in sys.argv[1:] or not sys.argv[1:]]
    for language in chosen:
        if language.missing:
            print(f"{language.name} is not run: {language.missing}", file=sys.stderr)
    chosen = [one for one in chosen if not one.missing]
    wanted = _text("reference")
    with tempfile.TemporaryDirectory() as folder:
        paths = {one.name: one.write(Path(folder) / str(i)) for i, one in enumerate(chosen)}
        speeds = _bench(list(paths.values()))
        print(HEAD)
        for language in chosen:
            path = paths[language.name]
            right, same = _judged(path, 0), "yes" if _text(path) == wanted else "NO"
            language.spoil(path)
            wrong = _judged(path, 1)
            cells = (
                language.name,
                f"`{language.file}`",
                f"{len(right['cases'])} cases, {right['seconds']:.1f} s",
                f"{wrong['findings'][0]['cause']}, {wrong['seconds']:.1f} s",
                same,
                speeds[str(path)],
            )
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

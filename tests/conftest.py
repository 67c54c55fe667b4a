"""What several test files share: a cache of compiled kernels, tiny models on disk, tokenizers."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from modelfiles import bpe, tiny

from gpt149.kernels.build import build
from gpt149.model.config import GPTConfig
from gpt149.model.formats.bpe import bytes_of_characters
from gpt149.model.formats.gpt2 import save_gpt2
from gpt149.model.gpt import GPT
from gpt149.model.tokenizer import Tokenizer

TINY = GPTConfig(n_layer=2, n_head=4, n_embd=32, n_ctx=64, vocab_size=257)


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels are compiled once a test run, outside the user's own cache; workers share it.

    One thread where a test names no number: teams that wait for each other crawl on busy machines.
    """
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    cache.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GPT149_CACHE", str(cache))
        patch.delenv("GPT149_ATTENTION", raising=False)
        yield cache


INSTRUCTION_SETS = {
    "native": "",
    "skylake-avx512": "avx512bw",
    "x86-64-v3": "avx2",
    "x86-64": "sse2",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what is compiled for x86-64, where this machine is another."""
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    of_x86 = [p for p in params if isinstance(p, str) and INSTRUCTION_SETS.get(p)]
    if of_x86 and platform.machine() != "x86_64":
        pytest.skip("this machine is no x86-64")


@pytest.fixture(scope="module", params=INSTRUCTION_SETS)
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The C++ in the test module's SOURCE; skips where this machine lacks the instruction set."""
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text().split() if cpuinfo.exists() else []
    needed = INSTRUCTION_SETS[request.param]
    if needed and needed not in known:
        pytest.skip(f"this machine has no {request.param}")
    path = tmp_path_factory.mktemp("source") / "source.cpp"
    path.write_text(request.module.SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT149_MARCH", request.param)
        library = ctypes.CDLL(str(build(path)))
    for name in re.findall(r'extern "C" bool (\w+)', request.module.SOURCE):
        getattr(library, name).restype = ctypes.c_bool
    return library


@pytest.fixture(scope="session")
def clang(tmp_path_factory: pytest.TempPathFactory) -> str:
    """clang++, with an OpenMP of its own; skips where there is none."""
    program = tmp_path_factory.mktemp("clang") / "program"
    source = program.with_suffix(".cpp")
    source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
    command = ["clang++", "-fopenmp", str(source), "-o", str(program)]
    if not shutil.which("clang++") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs clang++ with its OpenMP (Debian: clang libomp-dev)")
    return "clang++"


def random_model(config: GPTConfig = TINY, seed: int = 0) -> GPT:
    """Weights large enough that greedy text varies and every layer matters."""
    model = GPT(config)
    with torch.no_grad():
        model.init_weights(torch.Generator().manual_seed(seed))
        for name, p in model.named_parameters():
            if p.dim() == 2 and name.startswith(("h.", "wpe")):
                p.mul_(10)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def make_model() -> Callable[[GPTConfig], GPT]:
    return random_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 directory whose tokens are the 256 bytes and <|endoftext|>."""
    path = tmp_path_factory.mktemp("tiny")
    save_gpt2(random_model(), path)
    vocab = {c: i for i, c in enumerate(bytes_of_characters())} | {"<|endoftext|>": 256}
    (path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n")
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A GPT-2 directory without a tokenizer."""
    save_gpt2(tiny.random_model(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def gpt2() -> Tokenizer:
    return bpe.loaded(bpe.gpt2_files()[0].parent)


@pytest.fixture(scope="session")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Each of the 256 bytes is a token, and nothing else is."""
    return bpe.loaded(bpe.write_bpe(tmp_path_factory.mktemp("bytes"), bpe.BYTES))


@pytest.fixture
def _ctrl_c_counts() -> Iterator[None]:
    """Shells start what runs in the background with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

"""Kernels and engine compiled for aarch64 and run under qemu: right, in NEON, on any team."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gpt149.check.cases import quick
from gpt149.check.elsewhere import judge_under, small
from gpt149.cli import main
from gpt149.engine import binding
from gpt149.engine.native import NativeEngine
from gpt149.kernels.build import Target, build_all
from gpt149.kernels.loaders.contract import ContractKernel
from gpt149.kernels.registry import CONTRACT_BUILTINS, locate, resolve, to_build
from gpt149.model.checkpoint import Checkpoint
from gpt149.model.config import GPTConfig
from gpt149.system.paths import shipped

CXX = "aarch64-linux-gnu-g++"
QEMU = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
OTHER_BITS = """
static const char *run_otherwise(const gpt149_args *a) {
    const char *why = run(a);
    if (!why && a->n_threads == 5) *gpt149_out(a, 0, 0, 0) *= 1.0000002f;
    return why;
}
"""
F32 = NDArray[np.float32]
MISSING = [name for name in (CXX, QEMU[0]) if not shutil.which(name)]
# With dot products and bfloat16's, and with none.
NEW, OLD = "graviton3", "cortex-a72"
INNER = 300
STEPS = [13, 1, 1, 6]  # ids: many rows, one, few
CONFIG = GPTConfig(n_layer=2, n_head=3, n_embd=51, n_ctx=24, vocab_size=131, n_inner=INNER)

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")


@pytest.fixture(autouse=True)
def _for_aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", CXX)
    monkeypatch.setenv("GPT149_MARCH", NEW)


@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
def test_kernels_are_right_and_give_the_same_bits_on_any_team(kernel: str) -> None:
    cases = [case for case in small(quick()) if case.work < 150_000]
    outcome = judge_under(locate(kernel), cases, QEMU, 100)
    assert outcome.isa == "neon"
    assert (outcome.wrong, outcome.bits, outcome.died) == ([], [], "")
    assert len(outcome.cases_right) > len(cases) / 2


def test_a_wrong_kernel_is_wrong_there_too() -> None:
    file = "tests/wrong_kernels/causal_missing.cpp"
    done = CliRunner().invoke(main, ["check", file, "--case", "n33", "--under", shlex.join(QEMU)])
    assert done.exit_code == 1
    assert re.search(r"\(neon\): 1 of 1 cases\.\n  n33: .*first at .*got .*, want", done.stdout)


def test_bits_that_depend_on_the_team_are_told(tmp_path: Path) -> None:
    source = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    head, macro, tail = source.rpartition("GPT149_KERNEL")
    file = tmp_path / "odd.cpp"
    file.write_text(head + OTHER_BITS + macro + tail.replace(", run,", ", run_otherwise,"))
    outcome = judge_under(locate(f"{file}:naive"), quick()[:40], QEMU, 100)
    assert outcome.passed
    assert all("5 threads give others than" in told for told in outcome.bits)
    assert len(outcome.bits) == len(outcome.cases_right)


def random_weights() -> dict[str, F32]:
    """Large enough that every layer matters."""
    rng = np.random.default_rng(149)
    n, c = CONFIG.n_embd, CONFIG

    def draw(*shape: int) -> F32:
        numbers: F32 = rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        return numbers

    head = draw(c.vocab_size, n)
    weights = {"wte.weight": head, "lm_head.weight": head, "wpe.weight": draw(c.n_ctx, n)}
    for name in ("ln_f", *(f"h.{i}.{ln}" for i in range(c.n_layer) for ln in ("ln_1", "ln_2"))):
        weights |= {f"{name}.weight": 1 + draw(n), f"{name}.bias": draw(n)}
    for i in range(c.n_layer):
        shapes = ((3 * n, n), (n, n), (INNER, n), (n, INNER))
        for name, shape in zip(binding.MATRICES, shapes, strict=True):
            weights |= {f"h.{i}.{name}.weight": draw(*shape), f"h.{i}.{name}.bias": draw(shape[0])}
    return weights


def steps(dtype: str, allowed: float, off: float) -> bytes:
    """What engine_steps.cpp reads: weights, of which one is off, and the logits that this machine's
    engine gives where it is not.
    """
    weights = random_weights()
    kernel = resolve("naive")
    assert isinstance(kernel, ContractKernel)
    engine = NativeEngine(Checkpoint("", CONFIG, weights, None), kernel, n_threads=1, dtype=dtype)
    told = {name: w.copy() for name, w in weights.items()}
    told["h.1.mlp.c_proj.bias"][3] += off
    config = binding.Config.of(
        CONFIG, n_ctx=CONFIG.n_ctx, kv_dtype="float32", n_threads=1, br=0, bc=0
    )
    parts = [bytes(config)]
    for i in range(CONFIG.n_layer):
        parts.append(np.float32(CONFIG.scale(i)).tobytes())
        parts += [told[f"h.{i}.{name}"].tobytes() for name in binding.VECTORS]
        for name in binding.MATRICES:
            parts += [told[f"h.{i}.{name}.{kind}"].tobytes() for kind in ("weight", "bias")]
    for name in ("lm_head.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"):
        parts.append(told[name].tobytes())
    rng = np.random.default_rng(1)
    parts.append(np.int32(len(STEPS)).tobytes())
    for n in STEPS:
        ids = rng.integers(0, CONFIG.vocab_size, n)
        [want] = engine.feed([ids.tolist()])
        parts += [np.int32(n).tobytes(), ids.astype(np.int32).tobytes(), want.tobytes()]
        parts.append(np.float32(allowed * want.std()).tobytes())
    return b"".join(parts)


@pytest.mark.parametrize(
    ("march", "dtype", "allowed"),
    [(OLD, "float32", 1e-5), (NEW, "bf16", 0.02), (NEW, "int8", 0.02), (OLD, "int8", 0.02)],
)
def test_the_engine_gives_the_logits_of_this_machine(
    march: str, dtype: str, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built for the old CPU, its unit of weights for either."""
    with monkeypatch.context() as here:
        here.delenv("CXX")
        here.delenv("GPT149_MARCH")
        right, wrong = (steps(dtype, allowed, off) for off in (0.0, 0.5))
    engine, unit = binding.to_build(dtype)
    judge = Target((Path(__file__).with_name("engine_steps.cpp"),), program=True)
    naive = to_build(locate("naive"))
    assert naive is not None
    monkeypatch.setenv("GPT149_MARCH", OLD)
    program, first, kernel = build_all([judge, engine, naive], elsewhere=True)
    monkeypatch.setenv("GPT149_MARCH", march)
    [weights] = build_all([unit], elsewhere=True)

    def told(asked: bytes) -> list[str]:
        command = [*QEMU, *map(str, (program, first, weights, kernel))]
        done = subprocess.run(command, input=asked, capture_output=True, check=True)
        return [line.partition(":")[0] for line in done.stdout.decode().splitlines()]

    assert told(right) == ["right"] * 3 * len(STEPS)
    assert told(wrong) == ["wrong"] * 3 * len(STEPS)

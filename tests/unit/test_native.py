"""The native engine against the one in torch, its sampler against sampling.py, bursts by steps."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt149.api import generate
from gpt149.engine import native
from gpt149.engine.generation import Generation, Options
from gpt149.engine.native import NativeEngine
from gpt149.engine.sampling import CSampling, Sampler, Sampling
from gpt149.engine.start import start
from gpt149.engine.torch import TorchEngine
from gpt149.errors import InputError, KernelDeclined, NotFinite
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.loaders.contract import ContractKernel
from gpt149.kernels.registry import CONTRACT_BUILTINS, resolve
from gpt149.model import checkpoint
from gpt149.model.checkpoint import Checkpoint
from gpt149.model.config import GPTConfig
from gpt149.model.formats.gpt2 import save_gpt2
from gpt149.model.gpt import GPT

PROMPT = [72, 101, 108, 108, 111]
ODD = GPTConfig(n_layer=2, n_head=3, n_embd=51, n_ctx=70, vocab_size=131, n_inner=77)


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Checkpoint:
    return checkpoint.load(str(tiny_model_dir))


def pair(model: Checkpoint, kernel: str = "simd", n: int = 1) -> tuple[NativeEngine, TorchEngine]:
    """The two engines with n copies of a prompt."""
    mine = start(model, kernel, engine="native", n_threads=2)
    theirs = TorchEngine(model.model, Attention("reference"))
    assert isinstance(mine, NativeEngine)
    for engine in (mine, theirs):
        engine.feed([[5, 6, 7]])
        engine.fork(n)
    return mine, theirs


def simd() -> ContractKernel:
    kernel = resolve("simd")
    assert isinstance(kernel, ContractKernel)
    return kernel


def assert_same_logits(mine: NativeEngine, theirs: TorchEngine) -> None:
    """Prefill, chunks and decode along the whole context, within float32 rounding."""
    rng = np.random.default_rng(149)
    vocab_size, batch = mine.config.vocab_size, len(mine.ids)
    for n in (1, 2, 17, 1, 1, 30, 1):
        ids = rng.integers(0, vocab_size, (batch, n)).tolist()
        want, got = theirs.feed(ids), mine.feed(ids)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
    assert mine.length == theirs.length


@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
@pytest.mark.parametrize("n", [1, 4])
def test_logits_are_those_of_torch(tiny: Checkpoint, kernel: str, n: int) -> None:
    assert_same_logits(*pair(tiny, kernel, n))


@pytest.mark.parametrize("march", ["x86-64-v3", "x86-64"])
def test_other_instruction_sets(
    tiny: Checkpoint, march: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT149_MARCH", march)
    assert_same_logits(*pair(tiny, n=4))


@pytest.mark.parametrize(
    "config",
    [
        ODD,
        replace(ODD, activation="gelu"),
        replace(ODD, activation="relu", scale_attn=False),
        replace(ODD, scale_attn_by_layer=True, tie_word_embeddings=False),
        replace(ODD, n_head=1, layer_norm_epsilon=1e-2),
    ],
    ids=str,
)
def test_shapes_that_fill_no_vector_and_every_option(
    config: GPTConfig, make_model: Callable[[GPTConfig], GPT], tmp_path: Path
) -> None:
    save_gpt2(make_model(config), tmp_path)
    for n in (1, 4):  # two threads share out three heads, or four sequences
        assert_same_logits(*pair(checkpoint.load(tmp_path), n=n))


def test_a_spoiled_weight_is_seen(tiny: Checkpoint) -> None:
    """The negative control of the tests above."""
    spoiled = dict(tiny.weights)
    spoiled["h.1.mlp.c_proj.bias"] = spoiled["h.1.mlp.c_proj.bias"].copy()
    spoiled["h.1.mlp.c_proj.bias"][3] += 0.05
    mine, _ = pair(Checkpoint("spoiled", tiny.config, spoiled, None))
    _, theirs = pair(tiny)
    with pytest.raises(AssertionError):
        assert_same_logits(mine, theirs)


@pytest.mark.parametrize(("dtype", "error"), [("bf16", 0.02), ("int8", 0.05), ("int4", 0.2)])
def test_smaller_weights_err_by_little(tiny: Checkpoint, dtype: str, error: float) -> None:
    exact = start(tiny, "simd").feed([PROMPT * 8])
    small = start(tiny, "simd", dtype=dtype).feed([PROMPT * 8])
    off = np.abs(small - exact).max() / exact.std()
    assert 1e-5 < off < error * 10
    assert np.corrcoef(small[0], exact[0])[0, 1] > 1 - error


def test_every_position_is_what_step_by_step_gives(tiny: Checkpoint) -> None:
    engine = start(tiny, "simd")
    assert isinstance(engine, NativeEngine)
    every = engine.logits(PROMPT)
    engine.clear()
    steps = [engine.feed([[token]])[0] for token in PROMPT]
    np.testing.assert_allclose(every, steps, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0},
        {"temperature": 1.3, "seed": 7},
        {"top_k": 5, "repetition_penalty": 1.4},
        {"top_p": 0.8, "min_p": 0.02, "seed": 2**64 - 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_samples", [1, 5])
def test_bursts_write_what_single_steps_write(
    tiny: Checkpoint, sampling: dict[str, float], num_samples: int
) -> None:
    """The torch engine asks for its tokens one by one, the native one for many at once."""
    settings = {"n": 59, "num_samples": num_samples, **sampling}
    native, torch = (
        list(generate(tiny, PROMPT, engine=engine, **settings))  # type: ignore[arg-type]
        for engine in ("native", "torch")
    )
    assert native == torch


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_sequences_are_the_same_to_the_bit_together_and_alone(tiny: Checkpoint, dtype: str) -> None:
    """So that the number of samples changes none of them."""
    ids = np.random.default_rng(149).integers(0, tiny.config.vocab_size, (3, 17)).tolist()

    def logits(rows: list[list[int]]) -> list[NDArray[np.float32]]:
        engine = NativeEngine(tiny, simd(), n_threads=2, dtype=dtype)
        engine.feed([PROMPT])
        engine.fork(len(rows[0]))
        return [engine.feed([[token] for token in row]) for row in rows]

    together = logits(ids)
    for i in (0, 7, 16):
        alone = logits([[row[i]] for row in ids])
        np.testing.assert_array_equal([rows[i] for rows in together], [rows[0] for rows in alone])


WIDE = GPTConfig(n_layer=1, n_head=2, n_embd=48, n_ctx=40, vocab_size=4099)


@pytest.fixture(scope="module")
def wide(make_model: Callable[[GPTConfig], GPT], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    save_gpt2(make_model(WIDE), folder)
    return folder


def burst_of_one(
    engine: NativeEngine, sampling: Sampling, known: int
) -> tuple[NDArray[np.float32], int]:
    """What a burst of one token chooses from, and what it chooses."""
    ids, chosen, why = np.array([7], np.int32), np.empty(1, np.int32), ctypes.c_char_p()
    seen = np.zeros(engine.config.vocab_size, np.uint8)
    logits = np.empty(engine.config.vocab_size, np.float32)
    done = engine._library.gpt149_engine_decode(
        engine._engine, engine._kernel(), ids.ctypes.data, 1, engine.length,
        ctypes.byref(CSampling.of(sampling)), known, seen.ctypes.data, 1, 0, -1, 1.0, 1,
        chosen.ctypes.data, logits.ctypes.data, ctypes.byref(why),
    )  # fmt: skip
    assert (done, why.value) == (1, None)
    return logits, int(chosen[0])


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("sampling", "likeliest"),
    [
        (Sampling(temperature=0), 1),
        (Sampling(temperature=0.5, top_k=20, top_p=0.9), 20),
        (Sampling(temperature=0, repetition_penalty=1.1), 0),
        (Sampling(), 1),
        (Sampling(temperature=1e30), 1),
        (Sampling(temperature=1e31), 0),
        (Sampling(min_p=0.1), 0),
        (Sampling(top_k=4000), 0),
    ],
    ids=str,
)
def test_a_screened_head_gives_the_largest_logits_alone(
    wide: Path, dtype: str, sampling: Sampling, likeliest: int
) -> None:
    known = WIDE.vocab_size - 7
    model = checkpoint.load(wide)
    screened, whole = (
        NativeEngine(model, simd(), n_threads=2, dtype=dtype, screened=s) for s in (True, False)
    )
    for engine in (screened, whole):
        engine.feed([[5, 6, 7]])
    (got, token), (want, likely) = (burst_of_one(e, sampling, known) for e in (screened, whole))
    assert token == likely
    lowest = got == np.finfo(np.float32).min
    np.testing.assert_array_equal(got[~lowest], want[~lowest])
    if not likeliest:
        assert not lowest.any()
    else:
        assert lowest.sum() > WIDE.vocab_size / 2
        assert not lowest[token]
    if sampling.temperature == 0 or sampling.top_k:
        assert not lowest[np.argsort(-want[:known])[:likeliest]].any()


@pytest.mark.parametrize("march", ["native", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_a_screened_head_writes_the_same_text(
    wide: Path, march: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT149_MARCH", march)
    model = checkpoint.load(wide)
    for sampling in (Sampling(temperature=0), Sampling(top_k=15, seed=3), Sampling(seed=5)):
        tokens = []
        for s in (True, False):
            engine = NativeEngine(model, simd(), n_threads=2, dtype=dtype, screened=s)
            g = Generation(engine, PROMPT, sampling=sampling, options=Options(n=35))
            list(g)
            tokens.append(g.samples[0].token_ids)
        assert tokens[0] == tokens[1]
        assert len(set(tokens[0])) > 3


def test_a_screened_head_draws_each_token_with_its_probability(wide: Path) -> None:
    engine = NativeEngine(checkpoint.load(wide), simd(), screened=True)
    engine.feed([[5, 6, 7]])
    logits, _ = burst_of_one(engine, Sampling(min_p=1e-9), WIDE.vocab_size)
    assert (logits != np.finfo(np.float32).min).all()
    n, sampling = 3000, Sampling()
    p = np.exp(logits.astype(np.float64) / sampling.temperature)
    bins = (np.cumsum(p) / p.sum() * 20).astype(int).clip(max=19)  # nearly of equal probability
    counts = np.zeros(20)
    for seed in range(n):
        _, token = burst_of_one(engine, replace(sampling, seed=seed), WIDE.vocab_size)
        assert token == Sampler(replace(sampling, seed=seed)).choose(logits, [], step=0)
        counts[bins[token]] += 1
    want = n * np.bincount(bins, weights=p / p.sum())
    assert ((counts - want) ** 2 / want).sum() < 43.8  # 19 degrees of freedom: all but 0.1 %


def test_a_head_that_cannot_be_screened_is_multiplied_whole(wide: Path) -> None:
    model = checkpoint.load(wide)
    table = np.tile(model.weights["wte.weight"][:1], (WIDE.vocab_size, 1))
    table += 1e-4 * np.random.default_rng(149).standard_normal(table.shape).astype(np.float32)
    weights = dict(model.weights) | {"wte.weight": table, "lm_head.weight": table}
    alike = Checkpoint("alike", WIDE, weights, None)
    screened, whole = (NativeEngine(alike, simd(), n_threads=2, screened=s) for s in (True, False))
    for _ in range(3):  # the first tries, the others do not
        for sampling in (Sampling(temperature=0), Sampling()):
            (got, _), (want, _) = (burst_of_one(e, sampling, 4099) for e in (screened, whole))
            np.testing.assert_array_equal(got, want)


def test_large_heads_are_screened_unless_they_are_in_int8_or_int4(
    wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoint.load(wide)
    for least, dtype, some in (
        (1 << 30, "float32", False),
        (1, "bf16", True),
        (1, "int8", False),
        (1, "int4", False),
    ):
        monkeypatch.setattr(native, "SCREENED_BYTES", least)
        engine = NativeEngine(model, simd(), n_threads=2, dtype=dtype)
        logits, _ = burst_of_one(engine, Sampling(temperature=0), WIDE.vocab_size)
        assert (logits == np.finfo(np.float32).min).any() == some


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("stop", ["", "text"])
def test_what_follows_the_end_never_happened(tiny: Checkpoint, stop: str, num_samples: int) -> None:
    """A stop text is found behind a burst: the engine is then where one-by-one would be."""
    whole = generate(tiny, PROMPT, n=50, temperature=0, ignore_eos=True)
    list(whole)
    text = whole.samples[0].text
    wanted = text[20:23] if stop else "never said"
    sides = {}
    for engine in ("native", "torch"):
        g = generate(
            tiny,
            PROMPT,
            n=50,
            temperature=0,
            stop=wanted,
            ignore_eos=True,
            engine=engine,
            num_samples=num_samples,
        )
        list(g)
        sample = g.samples[0]
        assert g.engine.ids == [PROMPT + sample.token_ids[:-1]] * num_samples
        sides[engine] = (sample.text, sample.token_ids, sample.finish_reason, g.stats.kernel_calls)
    assert sides["native"][:3] == sides["torch"][:3]


def test_the_context_is_filled_to_the_last_token(tiny: Checkpoint) -> None:
    for engine in ("native", "torch"):
        g = generate(tiny, PROMPT, n=100, temperature=0, ignore_eos=True, engine=engine)
        list(g)
        assert g.samples[0].finish_reason == "context"
        assert len(PROMPT + g.samples[0].token_ids) == tiny.config.n_ctx


@pytest.mark.parametrize("n", [1, 2, 5])
def test_text_that_fills_the_context_as_it_ends_has_its_length(tiny: Checkpoint, n: int) -> None:
    for engine in ("native", "torch"):
        prompt = [5] * (tiny.config.n_ctx - n)
        g = generate(tiny, prompt, n=n, temperature=0, ignore_eos=True, engine=engine)
        list(g)
        assert (g.samples[0].finish_reason, len(g.samples[0].token_ids)) == ("length", n)


def test_statistics_count_steps(tiny: Checkpoint) -> None:
    g = generate(tiny, PROMPT, n=30, temperature=0, ignore_eos=True)
    list(g)
    assert (g.stats.engine, g.stats.steps, g.stats.kernel_calls) == ("native", 30, 60)
    several = generate(tiny, PROMPT, n=30, temperature=0, ignore_eos=True, num_samples=3)
    list(several)
    assert (several.stats.steps, several.stats.kernel_calls) == (30, 60)
    assert (several.stats.generated_tokens, several.stats.decoded_tokens) == (90, 87)
    assert 0 < g.stats.attention_s < g.stats.prefill_s + g.stats.decode_s


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("size", [1e-18, 1e9, 1e17])
def test_activations_may_be_large_or_small(tiny: Checkpoint, size: float, dtype: str) -> None:
    """What is between the MLP's matrices is `size` times as large, and its output as before."""
    weights = dict(tiny.weights)
    for layer in range(tiny.config.n_layer):
        for name, factor in (
            ("c_fc.weight", size),
            ("c_fc.bias", size),
            ("c_proj.weight", 1 / size),
        ):
            if (full := f"h.{layer}.mlp.{name}") in weights:
                weights[full] = (weights[full] * np.float32(factor)).astype(np.float32)
    scaled = Checkpoint("scaled", replace(tiny.config, activation="relu"), weights, None)
    engine = NativeEngine(scaled, simd(), dtype=dtype)
    logits = engine.feed([PROMPT])
    usual = Checkpoint("usual", scaled.config, dict(tiny.weights), None)
    want = NativeEngine(usual, simd(), dtype=dtype).feed([PROMPT])
    np.testing.assert_allclose(logits, want, rtol=0.02, atol=2e-2 * np.abs(want).max())


def test_nan_is_told_wherever_it_comes_up(tiny: Checkpoint) -> None:
    weights = dict(tiny.weights)
    weights["wpe.weight"] = weights["wpe.weight"].copy()
    weights["wpe.weight"][12] = np.nan
    spoiled = Checkpoint("spoiled", tiny.config, weights, None)
    g = generate(spoiled, PROMPT, n=30, temperature=0)
    with pytest.raises(NotFinite, match="behind token 13 are NaN"):
        list(g)
    g = generate(spoiled, PROMPT * 3, n=30, temperature=0)
    with pytest.raises(NotFinite, match="behind token 15 are NaN"):
        list(g)
    assert (g.stats.generated_tokens, g.stats.ttft_s) == (0, None)


def test_declining_is_an_error(tiny: Checkpoint) -> None:
    engine = start(tiny, "fused", kv_dtype="bf16")
    with pytest.raises(KernelDeclined, match=r"in bfloat16\. .* or --kv-dtype float32;"):
        engine.feed([PROMPT])
    assert engine.length == 0
    options = Options(n=40, ignore_eos=True)
    exact = Generation(start(tiny, "simd"), PROMPT, options=options)
    small = Generation(start(tiny, "simd", kv_dtype="bf16"), PROMPT, options=options)
    for g in (exact, small):
        list(g)
    assert small.samples[0].token_ids[:3] == exact.samples[0].token_ids[:3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "fast"}, "engine is 'fast'"),
        ({"dtype": "int2"}, "dtype 'int2'"),
        ({"kernel": "torch", "engine": "native"}, "'torch' is no kernel of the contract"),
        ({"kernel": "torch", "dtype": "int8"}, "weights in int8 cannot be had"),
        ({"kernel": "torch", "dtype": "int4"}, "weights in int4 cannot be had"),
        ({"engine": "torch", "dtype": "bf16"}, "the torch engine runs float32 only"),
        ({"engine": "native", "kv_cache": False}, "it always has a KV cache"),
        ({"n_ctx": 65}, "n_ctx is 65"),
        ({"br": -1}, "br=-1"),
        ({"kv_dtype": "int8"}, "kv_dtype is 'int8'"),
    ],
    ids=str,
)
def test_what_cannot_be_had(tiny: Checkpoint, settings: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        start(tiny, **{"kernel": "simd", **settings})  # type: ignore[arg-type]


def test_what_auto_chooses(tiny: Checkpoint) -> None:
    assert start(tiny, "naive").name == "native"
    assert start(tiny, resolve("naive")).name == "native"
    assert start(tiny, "naive", kv_cache=False).name == "torch"
    assert start(tiny, "reference").name == "torch"


def test_the_cache_is_short_where_weights_are_and_the_kernel_reads_it(tiny: Checkpoint) -> None:
    wrong = Path(__file__).parents[1] / "wrong_kernels" / "kv_dtype_ignored.cpp"
    for kernel, settings, kv_dtype in (
        ("simd", {}, "float32"),
        ("simd", {"dtype": "bf16"}, "bf16"),
        ("simd", {"dtype": "int8"}, "bf16"),
        ("simd", {"dtype": "int4"}, "bf16"),
        ("simd", {"dtype": "int8", "kv_dtype": "float32"}, "float32"),
        ("flash", {"dtype": "int8"}, "bf16"),
        ("fused", {"dtype": "int8"}, "float32"),  # does not claim bfloat16
        (str(wrong), {"dtype": "int8"}, "float32"),  # takes it for float32
        ("torch", {}, "float32"),
    ):
        engine = start(tiny, kernel, **settings)  # type: ignore[arg-type]
        assert (engine.dtype, engine.kv_dtype) == (settings.get("dtype", "float32"), kv_dtype)
        g = Generation(engine, PROMPT, options=Options(n=3, ignore_eos=True))
        list(g)
        assert (g.stats.dtype, g.stats.kv_dtype) == (engine.dtype, kv_dtype)

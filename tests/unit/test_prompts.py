"""Several prompts side by side: each has the text, and in C++ the logits, that it has alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cs149.mistakes import MODULE

from gpt149.api import generate
from gpt149.engine.generation import PREFILL_TOKENS, Generation
from gpt149.engine.native import NativeEngine
from gpt149.engine.protocol import Engine, assigned
from gpt149.engine.start import start
from gpt149.engine.texts import Prompt
from gpt149.errors import Gpt149Error, KernelDeclined, NotFinite
from gpt149.kernels.registry import BUILTINS
from gpt149.model import checkpoint
from gpt149.model.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "gpt149" / "kernels" / "templates"
KERNELS = (
    *BUILTINS,
    str(TEMPLATES / "kernel.cpp"),
    str(TEMPLATES / "kernel.py"),
    *(f"{MODULE}:part{part}" for part in (1, 2, 3, 4)),
)
# Of many lengths; two alike, which the engines take together; ends of every kind.
PROMPTS = [
    Prompt("To be, or not to be"),
    Prompt("O", n=3),
    Prompt("ROMEO:", seed=7),
    Prompt("KING X", n=0),
    Prompt("A long prompt, of which the context leaves hardly any room: " + "x" * 3, n=9),
    Prompt("JULIET", n=30, stop=[chr(i) for i in range(32, 127)]),
    Prompt("O Romeo, Romeo!", n=40),
    Prompt("A", seed=149, n=1),
]


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Checkpoint:
    return checkpoint.load(str(tiny_model_dir))


def drained(generation: Generation) -> Generation:
    list(generation)
    return generation


def alone(tiny: Checkpoint, prompt: Prompt, **settings: Any) -> Generation:
    own = {"n": prompt.n, "stop": prompt.stop, "seed": prompt.seed}
    asked = settings | {name: value for name, value in own.items() if value is not None}
    return drained(generate(tiny, prompt.prompt, **asked))


def assert_as_alone(tiny: Checkpoint, **settings: Any) -> Generation:
    together = drained(generate(tiny, PROMPTS, **settings))
    k = settings.get("num_samples", 1)
    for i, prompt in enumerate(PROMPTS):
        want = [replace(sample, seconds=0) for sample in alone(tiny, prompt, **settings).samples]
        got = [replace(sample, seconds=0) for sample in together.samples[i * k : (i + 1) * k]]
        assert got == want, prompt
    return together


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda spec: Path(spec).name)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_each_has_the_text_that_it_has_alone(
    tiny: Checkpoint, kernel: str, temperature: float
) -> None:
    g = assert_as_alone(tiny, kernel=kernel, temperature=temperature, n=20, batch=3)
    assert len({sample.text for sample in g.samples}) > len(PROMPTS) // 2
    reasons = {sample.finish_reason for sample in g.samples}
    assert {"length", "context", "stop"} <= reasons


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "torch", "kernel": "flash"},
        {"kv_cache": False},
        {"n_threads": 2},
        {"dtype": "bf16"},
        {"dtype": "int8"},
        {"dtype": "int4"},
        {"repetition_penalty": 1.3},
        {"num_samples": 3, "temperature": 2.0},
        {"num_samples": 3, "engine": "torch"},
        {"logprobs": 2},
        {"batch": 1},
        {"batch": 100},
        {"decode_kernel": "naive"},
        {"decode_kernel": "torch"},
        {"top_k": 5, "ignore_eos": True},
    ],
    ids=str,
)
def test_in_every_way_of_generating(tiny: Checkpoint, settings: dict[str, Any]) -> None:
    assert_as_alone(tiny, n=15, **settings)


def test_prefills_of_many_prompts_come_in_several_steps(tiny: Checkpoint) -> None:
    prompts = [Prompt([7] * 60, n=2)] * (2 * PREFILL_TOKENS // 60)
    g = drained(generate(tiny, prompts, batch=100, ignore_eos=True))
    assert g.stats.prompts == len(prompts)
    assert g.stats.prompt_tokens == 60 * len(prompts)
    assert g.stats.steps == 3  # two prefills, and one token for all of them


def test_what_has_ended_leaves_and_the_next_takes_its_place(tiny: Checkpoint) -> None:
    prompts = [Prompt("ab", n=2), Prompt("cd", n=6), Prompt("ef", n=3), Prompt("gh", n=2)]
    g = generate(tiny, prompts, batch=2, ignore_eos=True, engine="torch", kernel="flash")
    sizes = []
    feed = g.engine.feed
    g.engine.feed = lambda ids: sizes.append([*map(len, ids)]) or feed(ids)  # type: ignore
    list(g)
    assert sizes == [[2, 2], [1, 1], [0, 2], [1, 1], [1, 1], [0, 2], [1, 1], [1]]
    assert [len(sample.token_ids) for sample in g.samples] == [2, 6, 3, 2]


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["simd", "naive"])
def test_logits_have_the_same_bits_in_any_company(
    tiny: Checkpoint, kernel: str, n_threads: int
) -> None:
    def engine() -> Engine:
        return NativeEngine(tiny, start(tiny, kernel).kernel, n_threads=n_threads)  # type: ignore

    rng = np.random.default_rng(149)
    texts = [rng.integers(0, 257, n).tolist() for n in (5, 31, 1, 5, 18)]
    together = engine()
    together.arrange([None] * len(texts))
    logits = [together.feed([text[:-1] or text for text in texts])]
    logits += [together.feed([text[-1:] for text in texts])]
    for i, text in enumerate(texts):
        single = engine()
        for step, ids in enumerate((text[:-1] or text, text[-1:])):
            np.testing.assert_array_equal(single.feed([ids])[0], logits[step][i])
    one_thread = NativeEngine(tiny, together.kernel, n_threads=1)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one_thread.feed([texts[1][:-1]])[0], logits[0][1])


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_sequences_come_and_go(tiny: Checkpoint, engine: str) -> None:
    """What is kept, copied or begun anew goes on as if it had been so from the start."""
    texts = [[1, 2, 3], [4, 5], [6]]
    e = start(tiny, "flash", engine=engine)
    e.arrange([None] * 3)
    e.feed(texts)
    e.arrange([2, 0, None, 0, 2])
    assert e.ids == [[6], [1, 2, 3], [], [1, 2, 3], [6]]
    got = e.feed([[9], [], [8, 8], [7], [9, 9]])
    assert e.ids == [[6, 9], [1, 2, 3], [8, 8], [1, 2, 3, 7], [6, 9, 9]]
    assert e.length == 4
    for row, ids in zip(got, ([6, 9], [8, 8], [1, 2, 3, 7], [6, 9, 9]), strict=True):
        e.clear()
        np.testing.assert_allclose(e.feed([ids])[0], row, rtol=0, atol=2e-5)


def test_a_sequence_stays_in_its_slot_and_copies_go_where_nothing_stays() -> None:
    assert assigned([0, 1, 2], [2, 0], 3) == [2, 0]
    assert assigned([3, 1], [0, 0, None, 1], 4) == [3, 0, 2, 1]
    assert assigned([], [None, None], 2) == [0, 1]


def test_statistics_of_all_and_of_each(tiny: Checkpoint) -> None:
    g = drained(generate(tiny, PROMPTS, n=20, batch=4))
    stats = g.stats
    assert stats.prompts == len(PROMPTS)
    assert stats.prompt_tokens == sum(map(len, g.prompts))
    assert stats.generated_tokens == sum(len(sample.token_ids) for sample in g.samples)
    assert stats.decoded_tokens == stats.generated_tokens - sum(
        bool(sample.token_ids) for sample in g.samples
    )
    assert stats.kernel_calls == stats.steps * stats.n_layer
    assert stats.generated_tok_s == stats.generated_tokens / (stats.prefill_s + stats.decode_s)
    for sample in g.samples:
        assert sample.seconds <= stats.busy_s
        assert (sample.tok_s is not None) == bool(sample.token_ids)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_each_kernel_has_its_calls_and_seconds(tiny: Checkpoint, engine: str) -> None:
    g = generate(tiny, "Hello", n=10, kernel="naive", decode_kernel="flash", engine=engine)
    stats = drained(g).stats
    assert (stats.kernel, stats.decode_kernel) == ("naive", "flash")
    n = tiny.config.n_layer
    assert (stats.kernel_calls, stats.decode_kernel_calls) == (10 * n, 9 * n)
    assert 0 < stats.decode_attention_s < stats.attention_s
    assert drained(generate(tiny, "Hello", n=2)).stats.decode_kernel is None


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_decode_steps_go_through_their_own_kernel(tiny: Checkpoint, engine: str) -> None:
    zeros = str(ROOT / "tests" / "wrong_kernels" / "zeros.cpp")
    settings: dict[str, Any] = {"n": 20, "temperature": 0, "engine": engine}
    right = drained(generate(tiny, "Hello", **settings)).samples[0].token_ids
    late = drained(generate(tiny, "Hello", decode_kernel=zeros, **settings)).samples[0].token_ids
    early = generate(tiny, "Hello", kernel=zeros, decode_kernel="simd", **settings)
    assert late[0] == right[0]
    assert late != right
    assert drained(early).samples[0].token_ids not in (right, late)


def test_who_gives_nan_is_told(tiny: Checkpoint, tmp_path: Path) -> None:
    source = (ROOT / "tests" / "wrong_kernels" / "zeros.cpp").read_text()
    (tmp_path / "nan.cpp").write_text(source.replace("0.0f", '__builtin_nanf("")'))
    nan = str(tmp_path / "nan.cpp")
    of_prompt = "of the text of prompt 1 are NaN or infinite. The kernel 'zeros' is wrong"
    with pytest.raises(NotFinite, match=f"behind token 19 {of_prompt}"):
        drained(generate(tiny, PROMPTS, kernel=nan))
    with pytest.raises(NotFinite, match=f"behind token 20 {of_prompt}"):
        drained(generate(tiny, PROMPTS, decode_kernel=nan))


def test_the_kernel_that_declines_is_told(tiny: Checkpoint) -> None:
    g = generate(tiny, "Hi", kernel="simd", decode_kernel="fused", kv_dtype="bf16")
    with pytest.raises(KernelDeclined, match="the kernel 'fused' does not claim"):
        drained(g)
    assert len(g.samples[0].token_ids) == 1


def test_the_cache_is_short_if_both_kernels_read_it(tiny: Checkpoint) -> None:
    for kernels, kv_dtype in (
        (("simd", "simd"), "bf16"),
        (("simd", "fused"), "float32"),
        (("fused", "simd"), "float32"),
    ):
        engine = start(tiny, kernels[0], decode_kernel=kernels[1], dtype="int8")
        assert engine.kv_dtype == kv_dtype


def test_interrupted_keeps_what_was_done(tiny: Checkpoint) -> None:
    g = generate(tiny, PROMPTS, n=20, batch=2, ignore_eos=True)
    pieces = iter(g)
    for _ in range(15):
        next(pieces)
    g.interrupt()
    reasons = [sample.finish_reason for sample in g.samples]
    assert reasons[-1] == "interrupted"
    assert all(reasons)
    assert sum(len(sample.token_ids) for sample in g.samples) == 15
    assert g.stats.prompts < len(PROMPTS)


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        (["a", [1]], {}, "prompt 1 is a text, and prompt 2 token ids"),
        ([[1], 5], {}, "bare ids among them"),
        ([[1], []], {}, "prompt 2 is empty"),
        ([[1], [257]], {}, "prompt 2 has id 257; ids go from 0 to 256"),
        (["a", "b" * 65], {}, "prompt 2 has 65 tokens, and n_ctx is 64"),
        ([Prompt("a", n=-1)], {}, "prompt 1: n is -1"),
        ([Prompt("a", seed=-1)], {}, "prompt 1: seed is -1"),
        ([Prompt("a", stop="")], {}, "prompt 1: a stop text is empty"),
        (["a", "\ud800"], {}, "prompt 2: the text is not valid Unicode"),
        (["a"], {"batch": 0}, "batch is 0"),
        (["a"], {"batch": 5000}, "batch is 5000, and must be at most 4096"),
        (["a"], {"batch": 2, "num_samples": 3}, "num_samples is 3, and batch 2"),
        ("a", {"kv_cache": False, "decode_kernel": "naive"}, "needs the KV cache"),
        ("a", {"decode_kernel": "torch", "dtype": "int8"}, "'torch' is no kernel of the contract"),
        ("a", {"decode_kernel": "torch", "engine": "native"}, "native engine cannot be had"),
    ],
)
def test_what_cannot_be_generated(
    tiny: Checkpoint, prompts: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(Gpt149Error, match=message):
        generate(tiny, prompts, **settings)

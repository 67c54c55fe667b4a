"""Prefill, decode and stop: what is cached, counted, and why generation ends."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt149.api import generate
from gpt149.engine.generation import Generation
from gpt149.engine.sampling import Sampler, Sampling
from gpt149.engine.texts import Options
from gpt149.engine.torch import TorchEngine
from gpt149.errors import InputError, NotFinite
from gpt149.kernels.dispatch import Attention
from gpt149.model import checkpoint
from gpt149.model.checkpoint import Checkpoint

GREEDY = Sampling(temperature=0)
PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Checkpoint:
    return checkpoint.load(str(tiny_model_dir))


def engine(tiny: Checkpoint, kernel: str = "flash", **settings: int) -> TorchEngine:
    return TorchEngine(tiny.model, Attention(kernel), **settings)  # type: ignore[arg-type]


def drained(generation: Generation) -> Generation:
    list(generation)
    return generation


def test_cached_chunked_and_recomputed_logits_agree(tiny: Checkpoint) -> None:
    ids = torch.randint(0, 257, (60,), generator=torch.Generator().manual_seed(3)).tolist()
    whole = engine(tiny).feed([ids])
    for kv_cache in (True, False):
        pieces = engine(tiny, kv_cache=kv_cache)
        for start, end in ((0, 1), (1, 2), (2, 33), (33, 34), (34, 60)):
            last = pieces.feed([ids[start:end]])
        np.testing.assert_allclose(last, whole, rtol=1e-4, atol=1e-4)


def test_cached_values_are_used(tiny: Checkpoint) -> None:
    """The negative control: a spoiled cache changes the logits."""
    first, second = engine(tiny), engine(tiny)
    for e in (first, second):
        e.feed([PROMPT])
    assert second._cache is not None
    second._cache.v[0, 0, 0, 2] += 1.0
    assert not np.allclose(first.feed([[9]]), second.feed([[9]]), atol=1e-3)


@pytest.mark.parametrize("kernel", ["naive", "blocked", "fused", "torch", "reference"])
@pytest.mark.parametrize("kv_cache", [True, False])
def test_greedy_text_is_that_of_flash(tiny: Checkpoint, kernel: str, kv_cache: bool) -> None:
    want = drained(generate(tiny, PROMPT, kernel="flash", n=50, temperature=0))
    got = drained(generate(tiny, PROMPT, kernel=kernel, n=50, temperature=0, kv_cache=kv_cache))
    assert got.samples[0].token_ids == want.samples[0].token_ids
    assert len(set(want.samples[0].token_ids)) > 10


def test_a_kernel_of_zeros_changes_the_text(tiny: Checkpoint) -> None:
    kernels = ("flash", "tests/wrong_kernels/zeros.cpp")
    texts = [drained(generate(tiny, PROMPT, kernel=k, n=20, temperature=0)) for k in kernels]
    assert texts[0].samples[0].token_ids != texts[1].samples[0].token_ids


@pytest.mark.parametrize("kv_cache", [True, False])
def test_kernel_calls_are_n_layer_times_steps(tiny: Checkpoint, kv_cache: bool) -> None:
    g = drained(generate(tiny, PROMPT, n=10, kv_cache=kv_cache))
    assert g.stats.steps == 10  # the prefill gives the first token, nine decode steps the others
    assert g.stats.kernel_calls == tiny.model.config.n_layer * g.stats.steps
    assert g.stats.generated_tokens == 10
    assert g.stats.decoded_tokens == 9
    assert 0 < g.stats.attention_s < g.stats.prefill_s + g.stats.decode_s
    assert g.stats.ttft_s is not None
    assert g.stats.ttft_s >= g.stats.prefill_s


def test_context_full_ends_with_its_reason(tiny: Checkpoint) -> None:
    g = drained(generate(tiny, PROMPT, n=1000, ignore_eos=True))
    assert g.samples[0].finish_reason == "context"
    assert len(PROMPT) + len(g.samples[0].token_ids) == tiny.model.config.n_ctx
    shorter = drained(generate(tiny, PROMPT, n=1000, n_ctx=20, ignore_eos=True))
    assert len(PROMPT) + len(shorter.samples[0].token_ids) == 20
    full = drained(generate(tiny, PROMPT * 4, n=1000, n_ctx=20))
    assert full.samples[0].token_ids == []
    assert full.samples[0].finish_reason == "context"


def test_length_and_nothing_to_do(tiny: Checkpoint) -> None:
    g = drained(generate(tiny, PROMPT, n=3))
    assert g.samples[0].finish_reason == "length"
    none = drained(generate(tiny, PROMPT, n=0))
    assert (none.samples[0].token_ids, none.stats.steps, none.stats.ttft_s) == ([], 1, None)


def test_samples_share_one_prefill_and_are_those_of_their_number(tiny: Checkpoint) -> None:
    batch = drained(generate(tiny, PROMPT, n=12, num_samples=3, seed=5))
    assert batch.stats.steps == 12
    assert len({tuple(s.token_ids) for s in batch.samples}) == 3
    alone = drained(generate(tiny, PROMPT, n=12, seed=5))
    assert batch.samples[0].token_ids == alone.samples[0].token_ids


def test_a_seed_gives_the_same_text_again_and_another_another(tiny: Checkpoint) -> None:
    a, b, c = (drained(generate(tiny, PROMPT, n=20, seed=s)).samples[0].text for s in (1, 1, 2))
    assert a == b != c


def test_stop_text_ends_a_sample_and_is_not_shown(tiny: Checkpoint) -> None:
    full = drained(generate(tiny, PROMPT, n=30, temperature=0)).samples[0].text
    at = 7
    stop = full[at : at + 3]
    pieces = list(g := generate(tiny, PROMPT, n=30, temperature=0, stop=[stop]))
    assert g.samples[0].finish_reason == "stop"
    assert g.samples[0].text == full[: full.index(stop)]
    assert "".join(p.text for p in pieces) == g.samples[0].text


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_any_of_several_ids_ends_a_text(tiny: Checkpoint, engine: str) -> None:
    free = drained(generate(tiny, PROMPT, n=30, temperature=0, engine=engine)).samples[0].token_ids
    at = next(i for i in range(9, 30) if free[i] not in free[:i])
    assert tiny.tokenizer is not None
    several = replace(tiny, tokenizer=tiny.tokenizer.ending([256, 3, free[at]]))
    ended = drained(generate(several, PROMPT, n=30, temperature=0, engine=engine))
    assert ended.samples[0].token_ids == free[: at + 1]
    assert ended.samples[0].finish_reason == "eos"
    assert ended.engine.length == len(PROMPT) + at
    settings = {"temperature": 0, "engine": engine, "ignore_eos": True}
    on = drained(generate(several, PROMPT, n=30, **settings))  # type: ignore[arg-type]
    assert on.samples[0].token_ids == free


def test_one_sample_stops_the_others_go_on(tiny: Checkpoint) -> None:
    free = drained(generate(tiny, PROMPT, n=20, num_samples=3, temperature=2.0))
    stop = next(c for c in free.samples[1].text if c not in free.samples[0].text)
    g = drained(generate(tiny, PROMPT, n=20, num_samples=3, temperature=2.0, stop=[stop]))
    assert g.samples[0].text == free.samples[0].text
    assert g.samples[0].finish_reason == "length"
    assert g.samples[1].finish_reason == "stop"
    assert g.stats.generated_tokens == sum(len(s.token_ids) for s in g.samples)


class Forced(Sampler):
    """Chooses the end-of-text token at its third step."""

    def choose(self, logits: object, seen: object, *, sample: int = 0, step: int) -> int:
        return 256 if step == 2 else 65


def test_eos_ends_unless_ignored(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt149.engine.track.Sampler", Forced)
    assert tiny.tokenizer is not None
    assert tiny.tokenizer.eos == 256
    for ignore_eos, reason, n in ((False, "eos", 3), (True, "length", 6)):
        g = drained(
            Generation(
                engine(tiny),
                PROMPT,
                tokenizer=tiny.tokenizer,
                options=Options(n=6, ignore_eos=ignore_eos),
            )
        )
        assert (g.samples[0].finish_reason, len(g.samples[0].token_ids)) == (reason, n)
        shown = g.samples[0].token_ids[:2] if reason == "eos" else g.samples[0].token_ids
        assert g.samples[0].text == tiny.tokenizer.decode(shown)


def test_tokens_without_text_are_never_chosen(tiny: Checkpoint) -> None:
    """A model whose vocabulary is padded beyond its tokenizer's."""
    padded = TorchEngine(tiny.model, Attention("flash"))
    assert tiny.tokenizer is not None
    g = Generation(padded, PROMPT, tokenizer=tiny.tokenizer, sampling=GREEDY)
    logits = np.zeros(300, dtype=np.float32)
    logits[299] = 9
    logits[7] = 1
    assert g._next(g._tracks[0], logits, PROMPT) == 7


def test_logprobs_are_the_models_own(tiny: Checkpoint) -> None:
    g = drained(generate(tiny, PROMPT, n=4, logprobs=3, temperature=0))
    ids = torch.tensor([PROMPT + g.samples[0].token_ids])
    with torch.inference_mode():
        want = tiny.model(ids, Attention("reference"))[0].log_softmax(-1)
    for i, entry in enumerate(g.samples[0].logprobs):
        row = want[len(PROMPT) - 1 + i]
        assert entry.token_id == entry.top[0][0] == int(row.argmax())
        assert entry.logprob == pytest.approx(float(row.max()), abs=1e-4)
        assert [p for _, p in entry.top] == sorted((p for _, p in entry.top), reverse=True)
        assert len(entry.top) == 3


def test_interrupted_keeps_what_was_done(tiny: Checkpoint) -> None:
    g = generate(tiny, PROMPT, n=30, temperature=0)
    list(islice(iter(g), 5))
    g.interrupt()
    assert g.samples[0].finish_reason == "interrupted"
    assert len(g.samples[0].token_ids) == 5


def test_a_second_prompt_continues_the_context(tiny: Checkpoint) -> None:
    e = engine(tiny)
    options = Options(n=4)
    first = drained(Generation(e, PROMPT, sampling=GREEDY, options=options))
    more = [*first.unfed, 33, 34]
    second = drained(Generation(e, more, sampling=GREEDY, options=options))
    whole = PROMPT + first.samples[0].token_ids + [33, 34]
    want = drained(generate(tiny, whole, n=4, temperature=0))
    assert second.samples[0].token_ids == want.samples[0].token_ids
    e.clear()
    assert e.length == 0


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        ([], {}, "the prompt is empty"),
        ([257], {}, "has id 257; ids go from 0 to 256"),
        ([1] * 65, {}, "the prompt has 65 tokens, and n_ctx is 64"),
        ([1], {"n_ctx": 65}, "n_ctx is 65, and this model allows 1 to 64"),
        ([1], {"n_ctx": 0}, "n_ctx is 0"),
        ([1], {"n": -1}, "n is -1"),
        ([1], {"num_samples": 0}, "num_samples is 0"),
        ([1], {"num_samples": 4097}, "num_samples is 4097, and must be at most 4096"),
        ([1], {"logprobs": -2}, "logprobs is -2"),
        ([1], {"stop": [""]}, "stop text is empty"),
        ([1], {"n_threads": 0}, "threads is 0"),
    ],
)
def test_what_cannot_be_generated(
    tiny: Checkpoint, prompt: list[int], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate(tiny, prompt, **settings)  # type: ignore[arg-type]


def test_logits_that_are_not_finite_are_said(tiny: Checkpoint, tmp_path: Path) -> None:
    source = Path("tests/wrong_kernels/zeros.cpp").read_text()
    (tmp_path / "nan.cpp").write_text(source.replace("0.0f", '__builtin_nanf("")'))
    with pytest.raises(NotFinite, match=r"257 of 257 logits behind token 5 .*kernel 'zeros'"):
        drained(generate(tiny, PROMPT, kernel=str(tmp_path / "nan.cpp")))


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_kernel_is_not_blamed_for_weights(tiny: Checkpoint, engine: str) -> None:
    weights = dict(tiny.weights)
    weights["wpe.weight"] = weights["wpe.weight"] + np.float32(np.inf)
    spoiled = Checkpoint("spoiled", tiny.config, weights, None)
    with pytest.raises(NotFinite, match=r"It is not the kernel 'naive': through 'simd' it is the"):
        drained(generate(spoiled, PROMPT, kernel="naive", engine=engine))
    with pytest.raises(NotFinite, match=r"or the kernel 'simd' is wrong: see .* -a ref"):
        drained(generate(spoiled, PROMPT, kernel="simd", engine=engine))


def test_an_interrupted_step_leaves_no_trace(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the model: what the engine does not hold is given to the next turn."""
    e = engine(tiny)
    g = Generation(e, PROMPT, sampling=GREEDY, options=Options(n=9))
    list(islice(iter(g), 2))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Attention, "_run_contract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            e.feed([[g.samples[0].token_ids[-1]]])
    assert e.length == len(PROMPT) + 1
    assert e.ids[0] + g.unfed == PROMPT + g.samples[0].token_ids
    second = drained(Generation(e, g.unfed, sampling=GREEDY, options=Options(n=3)))
    want = drained(generate(tiny, PROMPT, n=5, temperature=0)).samples[0].token_ids
    assert g.samples[0].token_ids + second.samples[0].token_ids == want


def test_a_generation_runs_once(tiny: Checkpoint) -> None:
    g = drained(generate(tiny, PROMPT, n=2))
    with pytest.raises(InputError, match="has run already"):
        list(g)


def test_a_single_stop_text_and_an_empty_prompt(tiny: Checkpoint) -> None:
    assert generate(tiny, "A", stop="END").options.stop == ("END",)
    assert generate(tiny, "").prompt == [256]


def test_a_cache_that_does_not_fit_is_refused(tiny: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"KV cache of 1000000000 x 64 tokens takes .* GiB"):
        engine(tiny)._new_cache(10**9)


def test_behind_a_text_no_padding_of_the_vocabulary_is_chosen_and_behind_ids_any(
    tiny: Checkpoint,
) -> None:
    assert tiny.tokenizer is not None
    known = tiny.tokenizer.n_vocab
    table = np.concatenate([tiny.weights["wte.weight"], np.ones((7, 32), np.float32)])
    weights = {**tiny.weights, "wte.weight": table, "lm_head.weight": table}
    config = replace(tiny.config, vocab_size=known + 7)
    padded = replace(tiny, config=config, weights=weights)
    g = drained(generate(padded, "A text", n=2, logprobs=known + 7, temperature=0))
    for entry in g.samples[0].logprobs:
        assert len(entry.top) == known
        assert all(token < known for token, _ in entry.top)
    g = drained(generate(padded, PROMPT, n=2, logprobs=known + 7, temperature=0))
    assert [len(entry.top) for entry in g.samples[0].logprobs] == [known + 7] * 2

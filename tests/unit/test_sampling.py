"""The draw is the documented one, and the filters keep what Hugging Face's keep."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.generation import logits_process

from gpt149.engine.sampling import Sampler, Sampling, log_probabilities
from gpt149.errors import InputError

Logits = NDArray[np.float32]

MASK64 = 2**64 - 1


def array(*values: float) -> Logits:
    return np.array(values, dtype=np.float32)


def logits_of(*probabilities: float) -> Logits:
    with np.errstate(divide="ignore"):
        return array(*np.log(probabilities))


def random_logits(n: int, seed: int, spread: float = 2.0) -> Logits:
    return array(*spread * np.random.default_rng(seed).standard_normal(n))


@cache  # it is a library that is loaded
def sampler_of(settings: Sampling) -> Sampler:
    return Sampler(settings)


def choose(
    settings: Sampling, logits: Logits, step: int = 0, seen: Sequence[int] = (), sample: int = 0
) -> int:
    return sampler_of(settings).choose(logits, seen, sample=sample, step=step)


def kept_of(settings: Sampling, logits: Logits, seen: Sequence[int] = ()) -> set[int]:
    """What is chosen in a thousand steps."""
    return {choose(settings, logits, step, seen) for step in range(1000)}


def chooser(**settings: Any) -> Sampling:
    return Sampling(**{"temperature": 1.0, **settings})


# The documented draw, in numpy

GAMMA = 0x9E3779B97F4A7C15


def mix64(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ z >> np.uint64(31)
    return mixed


def splitmix64(state: int, first: int, n: int) -> NDArray[np.uint64]:
    """Outputs first .. first + n of the generator that starts at `state`."""
    steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GAMMA)
    return mix64(steps + np.uint64((state + first * GAMMA) & MASK64))


def times(seed: int, sample: int, step: int, n: int) -> NDArray[np.float64]:
    """E_i of the ids below n."""
    start = int(mix64(np.array([seed], np.uint64))[0])
    stream = int(splitmix64(start, (sample << 32) + step, 1)[0])
    u = ((splitmix64(stream, 0, n) >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52
    e: NDArray[np.float64] = -np.log(u)
    return e


def drawn(p: NDArray[np.float64], step: int, seed: int = 149, sample: int = 0) -> int:
    """The first to arrive, of ids with relative probabilities p."""
    return int((p / times(seed, sample, step, p.size)).argmax())


# The first outputs of SplitMix64 by its starting state.
SPLITMIX64 = {
    0: (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F),
    1234567: (6457827717110365317, 3203168211198807973, 9817491932198370423),
}


@pytest.mark.parametrize("state", SPLITMIX64)
def test_the_numbers_are_those_of_splitmix64(state: int) -> None:
    assert tuple(splitmix64(state, 0, 3).tolist()) == SPLITMIX64[state]
    assert splitmix64(state, 2, 1).tolist() == [SPLITMIX64[state][2]]


def test_the_times_are_exponential_and_differ_by_seed_sample_step_and_id() -> None:
    numbers = np.stack(
        [
            times(seed, sample, step, 50)
            for seed in (0, 1, 2, 149, 2**64 - 1)
            for sample in range(5)
            for step in range(20)
        ]
    )
    assert np.unique(numbers).size == numbers.size == 25000
    counts = np.histogram(np.exp(-numbers), bins=20, range=(0, 1))[0]
    assert chi_squared(counts, np.full(20, 1250.0)) < 43.8  # 19 degrees of freedom: all but 0.1 %


# The draw


@pytest.mark.parametrize("n", [1, 5, 64, 65, 1000])
@pytest.mark.parametrize("seed", [0, 1, 149, 2**64 - 1])
def test_the_draw_is_the_documented_one(seed: int, n: int) -> None:
    logits = random_logits(n, seed=n)
    for temperature in (0.3, 1.0, 7.0):
        p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
        settings = Sampling(temperature=temperature, seed=seed)
        for sample in (0, 1, 4095):
            for step in (*range(20), 2**31 - 1):
                got = choose(settings, logits, step, sample=sample)
                assert got == drawn(p, step, seed, sample)


def test_the_draw_adds_gumbels_noise_to_the_logits() -> None:
    logits = random_logits(500, seed=1)
    for step in range(100):
        noise = -np.log(times(149, 0, step, logits.size))
        assert choose(chooser(), logits, step) == (logits + noise).argmax()


def test_impossible_tokens_are_never_drawn() -> None:
    ends = array(-np.inf, -2000, 0, 0, 0, -2000, -np.inf)
    assert kept_of(chooser(), ends) == {2, 3, 4}
    assert kept_of(chooser(), np.tile(ends, 30)) <= {
        7 * i + j for i in range(30) for j in (2, 3, 4)
    }


def chi_squared(counts: NDArray[Any], want: NDArray[Any]) -> float:
    return float(((counts - want) ** 2 / want).sum())


@pytest.mark.parametrize("over", ["steps", "samples", "seeds"])
def test_frequencies_are_the_probabilities(over: str) -> None:
    logits = np.random.default_rng(2).permutation(logits_of(0.02, 0.05, 0.08, 0.15, 0.3, 0.4))
    p = np.exp(logits.astype(np.float64))
    p /= p.sum()
    n = 12000
    tokens = [
        sampler_of(chooser(seed=i if over == "seeds" else 3)).choose(
            logits, [], sample=i if over == "samples" else 0, step=i if over == "steps" else 0
        )
        for i in range(n)
    ]
    # 5 and 35 degrees of freedom: what all but 0.1 % of right ones pass.
    assert chi_squared(np.bincount(tokens, minlength=6), n * p) < 20.5
    pairs = 6 * np.array(tokens[::2]) + tokens[1::2]
    assert chi_squared(np.bincount(pairs, minlength=36), n / 2 * np.outer(p, p).ravel()) < 66.6


def test_frequencies_of_many_tokens_are_their_probabilities() -> None:
    logits = random_logits(2000, seed=8)
    order = np.argsort(logits)[::-1]
    p = np.exp(logits[order].astype(np.float64))
    rank = np.empty(logits.size, int)
    rank[order] = np.arange(logits.size)
    bins = (np.cumsum(p) / p.sum() * 20).astype(int).clip(max=19)  # nearly of equal probability
    n = 4000
    tokens = [choose(chooser(seed=5), logits, step) for step in range(n)]
    want = n * np.bincount(bins, weights=p / p.sum())
    assert chi_squared(np.bincount(bins[rank[tokens]], minlength=20), want) < 43.8


def test_temperature_0_takes_the_largest_and_of_equal_ones_the_lower_id() -> None:
    greedy = Sampling(temperature=0)
    for step in range(3):
        assert choose(greedy, array(1, 5, 3), step) == 1
        assert choose(greedy, array(1, 7, 3, 7, 7), step) == 1
        assert choose(greedy, array(0, 0, 0), step) == 0
        assert choose(greedy, array(-3, -1, -np.inf), step) == 1


def test_huge_logits_and_small_temperatures_do_not_overflow() -> None:
    for logits in (array(3e38, -3e38, 3e38), array(-3e38, -3.1e38, -3e38)):
        for temperature in (1.0, 1e-3, 1e-200):
            kept = kept_of(Sampling(temperature=temperature), logits)
            assert kept == {0, 2}


# The filters


@pytest.mark.parametrize(
    ("k", "kept"),
    [(1, {2}), (2, {2, 4}), (3, {1, 2, 4}), (5, {0, 1, 2, 3, 4}), (99, set(range(5)))],
)
def test_top_k_keeps_the_k_likeliest(k: int, kept: set[int]) -> None:
    logits = array(1.0, 2.0, 4.0, 0.5, 3.0)
    assert kept_of(chooser(top_k=k), logits) == kept
    assert kept_of(chooser(top_k=k, temperature=1e20), logits) == kept


@pytest.mark.parametrize(
    ("k", "kept"), [(1, {1}), (2, {1, 0}), (3, {1, 0, 2}), (4, {1, 0, 2, 4}), (5, {0, 1, 2, 3, 4})]
)
def test_top_k_keeps_k_of_equal_ones_those_with_lower_ids(k: int, kept: set[int]) -> None:
    assert kept_of(chooser(top_k=k), array(2, 3, 2, 1, 2)) == kept


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-9, {1}),
        (0.3999, {1}),
        (0.4001, {1, 3}),
        (0.6999, {1, 3}),
        (0.7001, {1, 3, 2}),
        (0.8999, {1, 3, 2}),
        (0.9001, {0, 1, 2, 3}),
        (1.0, {0, 1, 2, 3}),
    ],
)
def test_top_p_keeps_the_likeliest_until_they_reach_p(p: float, kept: set[int]) -> None:
    assert kept_of(chooser(top_p=p), logits_of(0.1, 0.4, 0.2, 0.3)) == kept


def test_top_p_that_is_reached_exactly_needs_no_further_token() -> None:
    logits = array(0, 0, 0, 0)  # of equal ones the lower ids, and quarters are exact
    kept = [kept_of(chooser(top_p=p), logits) for p in (0.25, 0.5, 0.5 + 2**-40, 0.75)]
    assert kept == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}]


@pytest.mark.parametrize(
    ("min_p", "kept"),
    [(0.0, {0, 1, 2, 3}), (0.24, {0, 1, 2, 3}), (0.26, {1, 2, 3}), (0.51, {1, 3}), (1.0, {1})],
)
def test_min_p_drops_what_is_less_likely_than_its_share_of_the_likeliest(
    min_p: float, kept: set[int]
) -> None:
    assert kept_of(chooser(min_p=min_p), logits_of(0.1, 0.4, 0.2, 0.3)) == kept


def test_min_p_keeps_what_lies_exactly_on_its_bound() -> None:
    assert kept_of(chooser(min_p=1.0), array(2, 1, 2, 2)) == {0, 2, 3}


def test_the_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = array(2, 2, -2, -2, 0, 0)
    p = np.exp([1.0, 2, -4, -2, 0, 0])
    for seen in ([0, 2, 4], [4, 2, 0, 0, 2, 2, 0]):
        for step in range(200):
            assert choose(chooser(repetition_penalty=2), logits, step, seen) == drawn(p, step)


def test_the_penalty_counts_for_greedy_too_and_below_1_it_attracts() -> None:
    def greedy(penalty: float, seen: list[int]) -> int:
        settings = Sampling(temperature=0, repetition_penalty=penalty)
        return choose(settings, array(3, 2, 1), seen=seen)

    assert greedy(1.4, [0]) == 0
    assert greedy(1.6, [0]) == 1
    assert greedy(4.0, [0, 1]) == 2
    assert greedy(0.3, [2]) == 2
    assert greedy(4.0, []) == 0


def test_choosing_leaves_the_logits_as_they_are() -> None:
    logits = random_logits(20, seed=5)
    before = logits.copy()
    settings = Sampling(0.7, top_k=5, top_p=0.8, min_p=0.1, repetition_penalty=1.5)
    for step in range(10):
        choose(settings, logits, step, [1, 2, 3])
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("settings", "logits", "seen", "kept"),
    [
        # Penalty, then top-k: the third token has become the likeliest.
        ({"repetition_penalty": 9.0, "top_k": 1}, array(3, 2, 1), [0, 1], {2}),
        # Penalty, then min-p: the first two have become equal.
        ({"repetition_penalty": 2.0, "min_p": 0.9}, array(4, 2, 1), [0], {0, 1}),
        # Temperature, then top-p: the cooled first token reaches 0.7 alone.
        ({"temperature": 0.2, "top_p": 0.7}, logits_of(0.5, 0.3, 0.2), [], {0}),
        ({"temperature": 1.0, "top_p": 0.7}, logits_of(0.5, 0.3, 0.2), [], {0, 1}),
        # Temperature, then min-p: warmed, a quarter of the likeliest is a half of it.
        ({"temperature": 2.0, "min_p": 0.3}, logits_of(0.4, 0.4, 0.1, 0.1), [], {0, 1, 2, 3}),
        ({"temperature": 1.0, "min_p": 0.3}, logits_of(0.4, 0.4, 0.1, 0.1), [], {0, 1}),
        # Top-k, then top-p: among the first two the first has 4/7.
        ({"top_k": 2, "top_p": 0.55}, logits_of(0.4, 0.3, 0.2, 0.1), [], {0}),
        # Top-p, then min-p: among all the first has 0.4, which is not enough.
        ({"top_p": 0.55, "min_p": 0.6}, logits_of(0.4, 0.3, 0.2, 0.1), [], {0, 1}),
    ],
)
def test_settings_compose_in_the_documented_order(
    settings: dict[str, float], logits: Logits, seen: list[int], kept: set[int]
) -> None:
    assert kept_of(chooser(**settings), logits, seen) == kept


# Hugging Face's processors


def huggingface_probabilities(
    settings: Sampling, logits: Logits, seen: Sequence[int]
) -> NDArray[np.float64]:
    """What transformers' generate would draw from with these settings, in its order."""
    processors: list[Any] = []
    if settings.repetition_penalty != 1:
        penalty = float(settings.repetition_penalty)
        processors.append(logits_process.RepetitionPenaltyLogitsProcessor(penalty))
    processors.append(logits_process.TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        processors.append(logits_process.TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        processors.append(logits_process.TopPLogitsWarper(settings.top_p))
    if settings.min_p > 0:
        processors.append(logits_process.MinPLogitsWarper(settings.min_p))
    scores = torch.from_numpy(logits).double()[None]
    for processor in processors:
        scores = processor(torch.tensor([list(seen)]), scores)
    probabilities: NDArray[np.float64] = scores[0].softmax(-1).numpy()
    return probabilities


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 18, "repetition_penalty": 1.5},
        {"top_k": 1000},
        {"top_p": 0.05},
        {"top_p": 0.6},
        {"top_p": 0.95},
        {"min_p": 0.02},
        {"min_p": 0.3},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.9},
        {"temperature": 1e12, "top_k": 7, "top_p": 0.5},
        {"temperature": 0.5, "top_p": 0.9, "min_p": 0.05},
        {"temperature": 1.4, "top_k": 30, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.7},
    ],
    ids=str,
)
def test_the_distribution_is_hugging_faces(settings: dict[str, float]) -> None:
    """With the same noise, the same tokens are drawn from its probabilities."""
    mine = chooser(**settings)
    for seed, n, spread in [*((seed, 60, 2.0) for seed in range(5)), (5, 600, 0.3)]:
        logits = random_logits(n, seed, spread)  # the even ones need many to reach a top_p
        seen = np.random.default_rng(seed).integers(0, n, 15).tolist()
        p = huggingface_probabilities(mine, logits, seen)
        for step in range(200):
            assert choose(mine, logits, step, seen) == drawn(p, step)


# Values that mean nothing

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, NAN, INFINITY, -INFINITY)),
        *(("top_k", value) for value in (-1, NAN)),
        *(("top_p", value) for value in (0, -0.5, 1.001, NAN, INFINITY)),
        *(("min_p", value) for value in (-0.01, 1.5, NAN, INFINITY)),
        *(("repetition_penalty", value) for value in (0, -1.2, NAN, INFINITY)),
        *(("seed", value) for value in (-1, 2**64, NAN)),
    ],
)
def test_a_value_that_means_nothing_is_refused_with_its_number(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(InputError) as e:
        Sampling(**settings)
    assert f"{name} is {value}, and must be " in str(e.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"temperature": 1e9},
        {"top_k": 0},
        {"top_p": 1},
        {"min_p": 1},
        {"repetition_penalty": 0.01},
        {"seed": 0},
        {"seed": 2**64 - 1},
    ],
    ids=str,
)
def test_values_at_the_bounds_are_taken(settings: dict[str, Any]) -> None:
    assert 0 <= choose(Sampling(**settings), random_logits(10, seed=1), 0, [1, 2]) < 10


# Log-probabilities


def test_log_probabilities_are_the_log_softmax_of_the_raw_logits() -> None:
    logits = np.concatenate([random_logits(40, seed=9, spread=20), array(-np.inf)])
    want = torch.from_numpy(logits).double().log_softmax(-1).numpy()
    np.testing.assert_allclose(log_probabilities(logits), want, rtol=1e-12, atol=1e-12)
    assert np.exp(log_probabilities(array(3e38, 3e38))).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("temperature", [1e-300, 1e-308, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = np.array([1, 5, 2, 4], np.float32)
    assert choose(Sampling(temperature=temperature), logits) == 1


def test_a_penalty_ignores_ids_without_a_logit() -> None:
    logits = np.array([1, 5, 2, 4], np.float32)
    assert choose(Sampling(temperature=0, repetition_penalty=2.0), logits, seen=[1, 9]) == 3


@pytest.mark.parametrize("settings", [{"top_k": 2.5}, {"seed": 2.5}])
def test_fractions_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"is 2\.5"):
        Sampling(**settings)  # type: ignore[arg-type]

"""`gpt149 profile`: what instructions, counts and figures mean; and kernels slow in a known way."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gpt149.bench.ceilings import Ceilings
from gpt149.bench.shapes import parse
from gpt149.bench.stats import Ratio
from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.cli import main
from gpt149.kernels.build import Target, build_all
from gpt149.kernels.registry import locate
from gpt149.profile import asm, hot, lines, missed, report, sharing
from gpt149.profile.causes import causes
from gpt149.profile.child import Calls, Counters, Watched
from gpt149.profile.evidence import Evidence, gain
from gpt149.profile.experiments import Found
from gpt149.profile.run import Profile, profile, watching
from gpt149.profile.trace import Counts

SLOW = sorted((Path(__file__).parents[1] / "slow_kernels").glob("*.cpp"))
CAUSE = re.compile(r"^// cause: (\w+)", re.MULTILINE)
CEILINGS = Ceilings(2, 2e11, 1e11, ((1 << 30, 5e10),))
# What no neighbour of a busy machine can make up, or hide: causes that one thread shows.
CLEAR = ("columns_of_v", "hidden_tiles")

LOOPS = """
0000000000001000 <attend>:
    1000:\tvxorps %xmm0,%xmm0,%xmm0
    1004:\tvmovups (%rdi,%rax,1),%zmm1
    100b:\tvfmadd231ps (%rsi,%rax,1),%zmm1,%zmm0
    1012:\tadd    $0x40,%rax
    1016:\tjne    1004 <attend+0x4>
    1018:\tvextractf64x4 $0x1,%zmm0,%ymm1
    101f:\tvaddps %ymm0,%ymm1,%ymm0
    1023:\tvextractf128 $0x1,%ymm0,%xmm1
    1029:\tvaddps %xmm0,%xmm1,%xmm0
    102d:\tvmovss %xmm0,(%r8)
    1031:\tcall   1f00 <expf@plt>
    1036:\tadd    $0x4,%r8
    103a:\tjne    1000 <attend>
    103c:\tvmovss (%rdi),%xmm2
    1040:\tvfmadd231ss (%rsi),%xmm2,%xmm3
    1045:\tadd    $0x100,%rsi
    104c:\tjne    103c <attend+0x3c>
    104e:\tvmovups (%rdi),%zmm4
    1054:\tvmovups %zmm4,(%rsi)
    105a:\tjne    104e <attend+0x4e>
    105c:\tlock add $0x1,(%rdx)
    1060:\tret
"""


def test_instructions_say_what_a_loop_does() -> None:
    code = asm.Listing(LOOPS)
    kinds = {loop.begin: (loop.kind, loop.width) for loop in code.loops}
    assert kinds[0x1004] == ("vector", 16)
    assert kinds[0x103C] == ("scalar", 1)
    assert kinds[0x104E] == ("copies", 0)
    inner, outer = code.loop_of(0x100B), code.loop_of(0x1018)
    assert inner == asm.Loop(0x1004, 0x1016, (), innermost=True)
    assert outer == asm.Loop(0x1000, 0x103A, (), innermost=False)
    assert {0x1018, 0x1029} <= code.folds
    assert not {0x100B, 0x1040} & code.folds
    assert code.before(0x1036).calls == "expf"
    assert code.instructions[code.at(0x105C)].atomic


@pytest.mark.parametrize(
    ("pc", "site", "name"),
    [
        (0x100B, 0, "latency_bound"),  # one sum
        (0x101F, 0, "horizontal_sums"),
        (0x1040, 0, "scalar_loop"),
        (0x1054, 0, "copies_tensors"),
        (0x105C, 0, "atomics"),
        (0, 0x1036, "scalar_exp"),
    ],
)
def test_a_sample_is_of_what_the_code_there_does(pc: int, site: int, name: str) -> None:
    place = lines.Place("mine.cpp", 41, "attend")
    parts = hot.parts([(pc, site, 3)], asm.Listing(LOOPS), {pc or site - 1: place}, 16)
    assert {n: part.share for n, part in parts.items()} == {name: 1.0}
    assert parts[name].place == place


def test_sums_that_do_not_wait_are_a_product() -> None:
    more = "".join(
        f"    10{n:02x}:\tvfmadd231ps (%rsi,%rax,1),%zmm1,%zmm{n - 3}\n" for n in range(5, 8)
    )
    code = asm.Listing(LOOPS.replace("    100b:", more + "    100b:"))
    assert list(hot.parts([(0x100B, 0, 1)], code, {}, 16)) == ["product"]


def test_half_the_width_of_the_machine_is_narrow() -> None:
    code = asm.Listing(LOOPS.replace("zmm", "xmm"))
    assert list(hot.parts([(0x100B, 0, 1)], code, {}, 16)) == ["narrow_vectors"]
    assert list(hot.parts([(0x100B, 0, 1)], code, {}, 4)) == ["latency_bound"]


ESTIMATED = ("page_faults", "oversubscribed", "barrier_bound")


def evidence(**changes: object) -> Evidence:
    """Of a kernel with nothing to blame, except for what is changed of what was found."""
    steady = Ratio(1.0, 0.98, 1.02)
    found = Found(
        parse("12,512,64"), 2, seconds=0.02, busy=0.02, one=0.04, workers=2, imbalance=1.02,
        one_head_workers=2, inflation=steady, shrunk=steady, causal=Ratio(0.54, 0.53, 0.55),
        tiles={(16, 32): steady, (64, 64): steady},
    )  # fmt: skip
    return Evidence(replace(found, **changes), CEILINGS, 16)  # type: ignore[arg-type]


def test_nothing_is_blamed_without_evidence() -> None:
    assert causes(evidence()) == []
    fast = replace(evidence().found, busy=evidence().ceiling[0] / 0.7)
    assert [c.name for c in causes(Evidence(fast, CEILINGS, 16))] == ["compute_bound"]


@pytest.mark.parametrize(
    ("changes", "name", "least"),
    [
        ({"workers": 1, "one_head_workers": 1, "many_heads_workers": 1}, "single_thread", 2.0),
        ({"imbalance": 1.5}, "imbalance", 1.5),
        ({"imbalance": 1.5, "uneven_full": 1.5}, "poor_scaling", 1.5),
        ({"workers": 4}, "oversubscribed", 2.0),
        ({"unflushed": Ratio(1.4, 1.3, 1.5)}, "denormals", 1.4),
        ({"inflation": Ratio(2.0, 1.9, 2.1)}, "false_sharing", 2.0),
        ({"causal": Ratio(1.0, 0.98, 1.01)}, "masked_work", 1.8),
        ({"faults": 500.0, "system": 0.5}, "page_faults", 1.9),
        ({"tiles": {(16, 32): Ratio(1.0, 0.9, 1.1), (64, 64): Ratio(0.5, 0.49, 0.51)}},
         "tile_too_small", 2.0),
        ({"tiles": {(16, 32): Ratio(0.5, 0.49, 0.51), (64, 64): Ratio(1.0, 0.9, 1.1)}},
         "tile_too_large", 2.0),
        ({"shrunk": Ratio(1.6, 1.5, 1.7), "quadratic": True}, "scores_through_memory", 1.6),
        ({"sliced": Ratio(1.6, 1.5, 1.7)}, "tile_too_large", 1.6),
        ({"narrowed": Ratio(1.6, 1.5, 1.7)}, "recomputed_work", 2.0),
        ({"begun": 5000.0}, "barrier_bound", 3.0),
        ({"shape": parse("1,512,64"), "one_head_workers": 1, "many_heads_workers": 2},
         "parallel_over_heads_only", 2.0),
        ({"shape": parse("1,1x4096,64"), "one_head_workers": 1, "prefill_workers": 2,
          "many_heads_workers": 2}, "decode_not_split", 2.0),
    ],
)  # fmt: skip
def test_an_experiment_names_its_cause(changes: dict[str, object], name: str, least: float) -> None:
    first = causes(evidence(**changes))[0]
    assert (first.name, first.measured or name in ESTIMATED) == (name, True)
    assert first.gain >= least


def test_threads_in_turn_are_amdahls_law() -> None:
    locked = causes(replace(evidence(), held=0.8))[0]
    serial = causes(replace(evidence(), alone=0.8))[0]
    assert (locked.name, round(locked.gain, 1)) == ("poor_scaling", 1.6)
    assert (serial.name, round(serial.gain, 1)) == ("poor_scaling", 1.8)
    starved = evidence(workers=1, one_head_workers=1, many_heads_workers=1)
    assert [c.name for c in causes(replace(starved, held=0.8))] == ["poor_scaling"]


def test_a_kernel_as_fast_as_ours_is_not_slow() -> None:
    parts = {"product": hot.Part(0.75), "horizontal_sums": hot.Part(0.25)}
    seen = replace(evidence(), parts=parts)
    assert [c.name for c in causes(seen)] == ["horizontal_sums"]
    beside = replace(seen, found=replace(seen.found, simd=0.9 * seen.found.busy))
    assert causes(beside) == []
    assert "; simd takes 18.0 ms." in report.as_text("mine.cpp", [Profile(beside, [], [], [])])


def test_lines_that_two_threads_write_are_shared() -> None:
    """Of two threads: side by side in a line, each in its own, and both in turn at one place."""
    code = asm.Listing("0000 <f>:\n    10:\tvmovss %xmm0,(%rax)\n    14:\tret\n")

    def stores(*places: int) -> sharing.Shared | None:
        rows = np.zeros((40 * len(places), 19), np.uint64)
        rows[:, 0], rows[:, 2] = 0x10, np.arange(len(rows)) % 2
        rows[:, 3] = [places[n % len(places)] for n in range(len(rows))]
        return sharing.shared(rows, code)

    found = stores(0x1000, 0x1004)
    assert found == sharing.Shared(1.0, 0x10)
    assert stores(0x1000, 0x1040) is None
    assert stores(0x1000) is None


def test_the_compilers_word_is_told_by_line() -> None:
    said = missed.Record(
        "a/mine.cpp:40:21: missed: not vectorized: not suitable for strided load _2 = *_2;\n"
        "a/mine.cpp:50:9: missed: not vectorized: statement clobbers memory: _1 = expf (_4);\n"
        "mine.cpp:60:2: remark: loop not vectorized: cannot prove it is safe to reorder "
        "floating-point operations; allow [-Rpass-analysis=loop-vectorize]\n"
    )

    def why(line: int) -> str:
        return said.why(lines.Place("/a/mine.cpp", line, "attend"))

    assert why(41) == "numbers are read at a distance from each other"
    assert why(50) == "it calls expf"
    assert why(61) == "a sum of floats may not be reordered"
    assert why(30) == why(70) == ""
    place = lines.Place("mine.cpp", 41, "attend")
    parts = {"scalar_loop": hot.Part(0.8, Counter({place: 1}))}
    first = causes(replace(evidence(), parts=parts, record=said))[0]
    assert "the compiler made no vectors here: numbers are read at a distance" in first.sentence


def test_a_line_is_found_whatever_its_files_name() -> None:
    for said in ('/a b/my "c": d.cpp:33', '/a b/my "c": d.cpp:33 (discriminator 2)'):
        found = lines.PLACE.fullmatch(said)
        assert found
        assert found.groups() == ('/a b/my "c": d.cpp', "33")
    assert not lines.PLACE.fullmatch("/a/b.cpp:?")
    assert not lines.PLACE.fullmatch("??:0")


def test_counters_are_told_where_they_may_be_read() -> None:
    counted = replace(evidence(), counters=Counters(4000, 2000, 6))
    text = report.as_text("mine.cpp", [Profile(counted, [], [], [])])
    assert "Counters: 2.0 instructions a cycle, 1.5 cache misses for 1,000" in text
    assert "Counters" not in report.as_text("mine.cpp", [Profile(evidence(), [], [], [])])


def test_rounds_that_contradict_each_other_name_nothing() -> None:
    wild = Ratio(1.0, 0.8, 1.7)
    seen = evidence(causal=wild)
    assert causes(seen) == []
    assert "noisy, so nothing is said of: causal." in report.notes(Profile(seen, [], [], []))


def test_parts_are_ranked_by_what_they_would_bring() -> None:
    place = lines.Place("mine.cpp", 41, "attend")
    parts = {
        "product": hot.Part(0.2),
        "scalar_exp": hot.Part(0.2, called=Counter({"expf": 3})),
        "horizontal_sums": hot.Part(0.6, Counter({place: 2})),
    }
    seen = replace(evidence(), parts=parts)
    first, second = causes(seen)
    assert (first.name, first.place, first.gain) == ("horizontal_sums", place, gain(0.6, 3.5))
    assert second.name == "scalar_exp"
    assert "expf" in second.sentence
    text = report.as_text("mine.cpp", [Profile(seen, [first, second], [(place, 0.6)], [])])
    assert "1. horizontal_sums, 60% of the time (mine.cpp:41)" in text
    assert "Worth about 1.8x, an estimate" in text


def test_counts_tell_what_is_done_again() -> None:
    parts = {"product": hot.Part(0.7), "copies_tensors": hot.Part(0.3)}
    again = replace(evidence(), parts=parts, counts=Counts(2.0, 1.0, 0, True), n_traced=96)
    assert causes(again)[0].name == "recomputed_work"
    copied = replace(
        evidence(), parts=parts, counts=Counts(1.0, 0.5, 0, True, scattered=4.0), n_traced=96
    )
    assert [c.name for c in causes(copied)] == ["tile_too_small"]
    straight = replace(copied, counts=Counts(1.0, 96.0, 0, True))
    assert [c.name for c in causes(straight)] == ["copies_tensors"]
    met = replace(evidence(), parts={}, counts=Counts(1.0, 1.0, 192, True), n_traced=96)
    assert causes(met)[0].name == "barrier_bound"


def test_a_delayed_thread_is_no_imbalance() -> None:
    steady = Calls([{"threads": [3.0, 1.0]}, {"threads": [3.1, 1.0]}])
    delayed = Calls([{"threads": [3.0, 1.0]}, {"threads": [2.0, 2.0]}, {"threads": [4.0, 0.0]}])
    assert steady.imbalance(2) == 1.5
    assert delayed.imbalance(2) is None
    assert delayed.workers == 2


@pytest.mark.parametrize("path", SLOW, ids=lambda path: path.stem)
def test_slow_kernels_are_right(path: Path) -> None:
    assert check(str(path), quick()[:3], timeout=20.0).right


def test_there_are_enough_slow_kernels() -> None:
    assert len(SLOW) >= 25
    assert len({CAUSE.findall(path.read_text())[0] for path in SLOW}) >= 22


needs_objdump = pytest.mark.skipif(
    not (asm.readable() and lines.readable()), reason="reads x86-64 with binutils"
)


@needs_objdump
@pytest.mark.parametrize("path", [p for p in SLOW if p.stem in CLEAR], ids=lambda p: p.stem)
def test_the_cause_is_named(path: Path) -> None:
    """Among the first two: times of a busy machine may exchange neighbours."""
    one = replace(CEILINGS, n_threads=1)
    found = profile(str(path), [parse("2,256,64")], one, lambda _: None)[0]
    names = [cause.name for cause in found.causes[:2]]
    assert CAUSE.findall(path.read_text())[0] in names, (names, found.evidence.parts)


THREADS = """
#include "gpt149.h"
#include <thread>
static int64_t none(const gpt149_args *) { return 0; }
static void work(const gpt149_args *a) {
    volatile float sum = 0;
    for (int n = 0; n < 2000000; n++)
        sum = sum + 1;
    *(float *)a->out = sum;
}
static const char *run(const gpt149_args *a) {
    std::thread other(work, a);
    other.join();
    return nullptr;
}
GPT149_KERNEL({"threads", "a thread of its own", "0", none, run})
"""


def test_threads_that_end_are_watched_too(tmp_path: Path) -> None:
    """Their time counts, samples are theirs, and they can be followed step by step."""
    path = tmp_path / "threads.cpp"
    path.write_text(THREADS)
    library, sampler = (build_all([target])[0] for target in (Target((path,)), watching()))
    case = replace(parse("1,8,8").case(1), batch=1)
    with Watched(locate(path), library, sampler) as child:
        calls = child.calls(case, 2)
        assert calls.median("begun") == 1
        assert calls.busy > 0.5 * calls.median("cpu")
        rows = child.samples(case, 0.05, 100_000)
        assert rows is not None
        assert (rows[rows[:, 0] > 0, 2] > 0).mean() > 0.9
        if asm.readable():
            steps = child.steps(case, 5000)
            assert steps is not None
            assert (steps.rows[:, 2] > 0).any()
        counters = child.counters(case)
        assert isinstance(counters, Counters) or counters  # counted, or the system's own words


@needs_objdump
def test_without_binutils_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = SLOW[0].with_name("hidden_tiles.cpp")
    library = build_all([Target((path,), ("-g1",))])[0]
    assert asm.listing(library) is not None
    monkeypatch.setenv("PATH", "")
    assert asm.listing(library) is None
    assert lines.places(library, [0x1000], path) == {}


def test_the_command_speaks_json_and_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    module = Path(__file__).parents[1] / "cs149" / "module.cpp"
    refused = CliRunner().invoke(main, ["profile", f"{module}:flash", "-s", "4,64,32"])
    assert refused.exit_code == 2
    assert "knows no calls such as 4,64,32: they are made of many" in refused.stderr
    assert CliRunner().invoke(main, ["profile", "simd", "-s", "oops"]).exit_code == 2
    one = replace(CEILINGS, n_threads=1)
    found = profile("simd", [parse("2,1x64,32")], one, lambda _: None)
    entry = json.loads(json.dumps(report.as_json("simd", found)))["shapes"][0]
    assert entry["shape"] == "2,1x64,32"
    assert all(cause["gain"] >= 1 for cause in entry["causes"])


def test_who_works_in_few_calls_of_many_is_not_one_too_many() -> None:
    calls = Calls([{"threads": [0.01, waits], "wall": 0.01} for waits in (0.0, 0.008, 0.0)])
    assert (calls.workers, calls.usual_workers) == (2, 1)


@pytest.mark.parametrize(("low", "share", "named"), [(1.2, 0.03, True), (1.05, 0.03, False)])
def test_few_stores_to_shared_lines_count_where_threads_are_slowed(
    low: float, share: float, named: bool
) -> None:
    slowed = Ratio(low + 0.05, low, low + 0.1)
    found = replace(evidence(inflation=slowed), shared=sharing.Shared(share, 0x10))
    assert ("false_sharing" in [cause.name for cause in causes(found)]) == named


def test_threads_that_are_slowed_share_no_lines_where_stores_say_so() -> None:
    slowed = evidence(inflation=Ratio(2.0, 1.9, 2.1))
    assert [cause.name for cause in causes(slowed)] == ["false_sharing"]
    assert causes(replace(slowed, parts={})) == causes(replace(slowed, compiled=False)) == []

"""Around `gpt149 profile`: variants, --tune, --self-test, --report, the line of `check --watch`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt149.bench.ceilings import Ceilings
from gpt149.bench.shapes import parse
from gpt149.bench.stats import Ratio
from gpt149.cli import main
from gpt149.commands import watch
from gpt149.errors import InputError
from gpt149.kernels.build import build
from gpt149.kernels.registry import compiled, locate
from gpt149.profile import asm, hot, score, tune, tuned
from gpt149.profile.child import Watched
from gpt149.profile.evidence import Cause, Evidence
from gpt149.profile.experiments import Found
from gpt149.profile.html import as_html
from gpt149.profile.lines import Place
from gpt149.profile.run import Profile
from gpt149.profile.tune import Entrant, Setting, Tuned
from gpt149.system.paths import shipped

TESTS = Path(__file__).parents[1]
CEILINGS = Ceilings(1, 2e11, 1e11, ((1 << 30, 5e10),))

# Says what it was given, where that is not what the shape 2,8x16,32 with all variants means.
WATCHFUL = """
#include "gpt149.h"
#include <cmath>

static int64_t none(const gpt149_args *) { return 0; }
static bool usual(const uint16_t *row, int n) {
    for (int x = 0; x < n; x++) {
        const uint32_t bits = (uint32_t)row[x] << 16;
        if (!(std::fabs(__builtin_bit_cast(float, bits)) < 7)) return false;
    }
    return true;
}
static const char *run(const gpt149_args *a) {
    if (a->window != 8 || a->softcap != 30 || a->head_dim_v != 16) return "numbers";
    for (int h = 0; h < a->n_head; h++) {
        if (a->alibi_slopes[h] != std::exp2(-8.0f * (h + 1) / a->n_head)) return "slopes";
        if (std::fabs(a->sinks[h] - std::cos((float)h)) > 1e-6) return "sinks";
        for (int j = 0; j < a->n_kv; j++) {
            const auto *k = (const uint16_t *)a->k + h * a->k_stride[1] + j * a->k_stride[2];
            if (!usual(k, a->head_dim)) return "keys";
        }
    }
    return nullptr;
}
GPT149_KERNEL({"watchful", "test", "0", none, run, GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI |
               GPT149_SINKS | GPT149_HEAD_DIM_V | GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
"""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's ceilings, which take seconds to measure."""
    for module in ("gpt149.commands.profile.ceilings", "gpt149.commands.watch.kept_ceilings"):
        monkeypatch.setattr(module, lambda n_threads: replace(CEILINGS, n_threads=n_threads))


def test_a_variant_is_watched_with_numbers_such_as_models_have(tmp_path: Path) -> None:
    file = tmp_path / "watchful.cpp"
    file.write_text(WATCHFUL)
    source = locate(file)
    shape = parse("2,8x16,32:window=8:softcap=30:alibi:sinks:head_dim_v=16:bf16")
    with Watched(source, compiled(source), None) as child:
        case = replace(shape.case(1), batch=1)
        for one in (case, replace(case, n_head=1, n_kv_head=1), case):
            assert child.calls(one, 1).busy > 0


@pytest.mark.usefixtures("measured")
def test_a_variant_that_is_not_claimed_is_refused() -> None:
    kernel = str(TESTS / "slow_kernels/quick_control.cpp")
    done = CliRunner().invoke(main, ["profile", kernel, "-s", "2,64,32:softcap=3"])
    assert done.exit_code == 1
    assert "a softcap" in done.stderr


@pytest.mark.usefixtures("measured")
def test_a_window_and_all_else_has_a_profile() -> None:
    shape = "2,64,32:window=16:softcap=30:alibi:sinks"
    kernel = str(TESTS / "right_kernels/varied.cpp")
    done = CliRunner().invoke(main, ["profile", kernel, "-s", shape, "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert f"{kernel}: {shape} takes" in done.stdout


@pytest.fixture
def wrong_at_64(tmp_path: Path) -> Path:
    """A kernel that looks at br and bc, and is wrong with the tile of 64 x 32."""
    kernel = (TESTS / "slow_kernels/own_tile_of_four.cpp").read_text()
    kernel = kernel.replace("../kernel_parts", str(TESTS / "kernel_parts"))
    spoilt = "if (a->br == 64 && a->bc == 32) return nullptr;\n    return a->br >= 16"
    file = tmp_path / "mine.cpp"
    file.write_text(kernel.replace("return a->br >= 16", spoilt))
    return file


def test_a_tile_that_is_wrong_is_never_recommended(
    wrong_at_64: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "HEAT_SECONDS", 0.02)
    command = ["profile", str(wrong_at_64), "--tune", "-s", "2,40,16", "--threads", "2", "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1, done.output
    (found,) = json.loads(done.stdout)["tuned"]
    assert [(e["br"], e["bc"], e["wrong"]) for e in found["out"]] == [(64, 32, True)]
    raced = {(e["br"], e["bc"]) for e in (*found["finalists"], *found["others"])}
    assert raced == {(0, 0), *((br, bc) for br in (16, 32, 64) for bc in (16, 32, 64))} - {(64, 32)}
    if best := found["recommended"]:
        tile = f"--br {best['br']} --bc {best['bc']} --threads {best['n_threads']}"
        assert found["command"] == f'gpt149 generate "ROMEO:" -a {wrong_at_64} {tile}'


def raced(**times: list[float]) -> Tuned:
    """A race whose samples are known: own, and tiles by their br."""
    entrants = [
        Entrant(Setting(int(name[1:] or 0), int(name[1:] or 0), 2), samples=samples)
        for name, samples in times.items()
    ]
    shape = parse("4,512,64")
    finalists = sorted(entrants, key=lambda e: e.seconds)
    return Tuned(shape, shape.case(2), entrants[0], finalists, (), ())


@pytest.mark.parametrize(
    ("times", "said", "tile"),
    [
        (
            {"t": [2.0, 2.1, 2.2], "t64": [1.0, 1.1, 1.0]},
            "x as fast as its own tile",
            "--br 64 --bc 64",
        ),
        ({"t": [2.0, 2.1, 2.2], "t64": [2.1, 2.0, 2.2]}, "No tile makes a difference", ""),
        ({"t": [2.0, 2.1, 2.2], "t64": [3.0, 3.1, 3.2]}, "Nothing beats its own tile", ""),
        ({"t": [2.0, 4.0, 1.0], "t64": [1.5, 3.0, 2.0]}, "Noisy: ", ""),
    ],
)
def test_what_is_recommended_beats_its_own_tile_beyond_the_noise(
    times: dict[str, list[float]], said: str, tile: str
) -> None:
    text = tuned.as_text("mine.cpp", raced(**times))
    assert said in text
    assert ("gpt149 generate" in text) == bool(tile)
    assert tile in text


def test_what_is_wrong_with_its_own_tile_does_not_race() -> None:
    own = Entrant(Setting(0, 0, 2), "5 of 10 values are wrong", wrong=True)
    shape = parse("4,512,64")
    text = tuned.as_text("mine.cpp", Tuned(shape, shape.case(2), own, (), (), (own,)))
    assert "WRONG mine.cpp: with its own tile, 5 of 10 values are wrong" in text
    assert "generate" not in text


def test_functions_of_tensors_have_no_tile() -> None:
    done = CliRunner().invoke(main, ["profile", "torch", "--tune"])
    assert done.exit_code == 2
    assert "no tile" in done.stderr


def test_what_does_not_go_together() -> None:
    for arguments, words in (
        ((), "there is no kernel to profile"),
        (("simd", "--self-test"), "kernels and shapes of its own"),
        (("simd", "--tune", "--report", "out.html"), "--tune has no page"),
    ):
        done = CliRunner().invoke(main, ["profile", *arguments])
        assert done.exit_code == 2
        assert words in done.stderr


def scored(kernel: str, expected: str, *causes: str) -> score.Score:
    rank = causes.index(expected) + 1 if expected in causes else None
    return score.Score(
        kernel, score.SHAPE, expected, causes, 2.0, "why", expected == "nothing", rank, 3.0
    )


def test_the_self_test_counts_and_shows_what_it_missed() -> None:
    scores = [
        scored("a", "no_fma", "no_fma", "spills"),
        scored("b", "spills", "no_fma", "spills"),
        scored("c", "imbalance", "no_fma"),
        scored("good", "nothing", "compute_bound"),
        scored("bad", "nothing", "no_fma"),
    ]
    counts = score.totals(scores)
    names = ("slow", "first", "within_two", "controls", "false_alarms")
    assert [counts[name] for name in names] == [3, 1, 2, 2, 1]
    text = score.as_text(scores)
    assert re.findall(r"^  (missed|a false alarm): (\w+)", text, re.MULTILINE) == [
        ("missed", "no_fma"),
        ("a false alarm", "no_fma"),
    ]
    assert json.loads(json.dumps(score.as_json(scores)))["totals"]["first"] == 1


@pytest.mark.usefixtures("measured")
def test_the_self_test_knows_the_checkouts_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {Path(e.spec).stem: e for e in score.entries(TESTS / "slow_kernels")}
    assert known["thread_a_head"].shape == "1,512,64"
    assert known["quick_control"].control
    assert known["simd"].control
    with pytest.raises(InputError, match="needs a checkout"):
        score.entries(tmp_path)
    one = replace(known["hidden_tiles"], shape="2,256,64")
    monkeypatch.setattr(score, "entries", lambda _folder: [one])
    done = CliRunner().invoke(main, ["profile", "--self-test", "--threads", "1", "--json"])
    (found,) = json.loads(done.stdout)["kernels"]
    assert (found["kernel"], found["expected"]) == ("hidden_tiles", "masked_work")
    assert done.exit_code == (0 if found["rank"] in (1, 2) else 1)


@pytest.mark.usefixtures("measured")
def test_watch_ends_with_the_first_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = str(TESTS / "slow_kernels/hidden_tiles.cpp")
    said = watch._why_slow(spec, lambda: False)
    assert said.startswith(("Slow: ", "Fast: ", "No cause "))
    assert "\n" not in said
    assert said.endswith(f"gpt149 profile {spec}")
    assert watch._why_slow(spec, lambda: True).startswith("Saved")
    assert "from outside" in watch._why_slow("torch", lambda: False)
    monkeypatch.setattr(watch, "kept_ceilings", lambda _: None)
    assert "once it has measured this machine" in watch._why_slow(spec, lambda: False)


def test_the_report_shows_time_beside_the_source(tmp_path: Path) -> None:
    file = tmp_path / "<mine>.cpp"
    file.write_text("int a;\nfloat b = a < 3;\n")
    place = Place(str(file), 2, "run")
    found = Found(
        parse("4,512,64"), 1, seconds=0.02, busy=0.02, causal=Ratio(0.9, 0.8, 1.5),
        tiles={(16, 32): Ratio(1.0, 0.98, 1.02)},
    )  # fmt: skip
    seen = Evidence(found, CEILINGS, 16, {"scalar_loop": hot.Part(0.6)})
    cause = Cause("scalar_loop", 2.0, "one < two", share=0.6, place=place)
    page = as_html("<mine>.cpp", [Profile(seen, [cause], [(place, 0.6)], ["<all>"])])
    assert "<mine>" not in page
    assert "one &lt; two. Worth about 2x, an estimate." in page
    assert re.search(r'<a href="#(s0-.+:2)">', page)[1] in re.findall(r'<tr id="(.+?)">', page)  # type: ignore[index]
    assert '<td>2<td style="--share:60.0%">60%<td>float b = a &lt; 3;' in page
    assert "<td>1<td><td>int a;" in page
    assert "<td>a causal mask, against none</td><td>0.90</td><td>0.80 to 1.50</td><td>noisy" in page
    assert "http" not in page


@pytest.fixture
def starts_threads(tmp_path: Path) -> Iterator[Watched]:
    """A kernel that starts a thread in each call, watched."""
    file = tmp_path / "threads.cpp"
    file.write_text("""
        #include "gpt149.h"
        #include <thread>
        static int64_t none(const gpt149_args *) { return 0; }
        static const char *run(const gpt149_args *a) {
            std::thread([=] { ((float *)a->out)[0] = 1; }).join();
            return nullptr;
        }
        GPT149_KERNEL({"threads", "test", "0", none, run})
    """)
    source = locate(file)
    sampler = build(shipped("csrc") / "tools" / "sampler.cpp")
    with Watched(source, compiled(source), sampler) as child:
        yield child


@pytest.mark.skipif(not asm.readable(), reason="instructions are followed on x86-64")
def test_threads_that_a_call_starts_are_no_end_of_its_steps(starts_threads: Watched) -> None:
    steps = starts_threads.steps(replace(parse("1,4,8").case(1), batch=1), 100_000)
    assert steps is not None
    assert steps.whole
    assert len(steps.rows) > 20

"""What modules of real students taught `lab`: mistakes that pass, or are taken for others."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cs149.mistakes import MISTAKES, MODULE, with_mistake
from cs149.mistakes import Mistake as Edit

from gpt149.check.finding import Finding, once
from gpt149.check.report import as_text
from gpt149.check.run import check
from gpt149.check.sanitize import _place
from gpt149.lab.parts import ACCESS, PARTS, cases
from gpt149.lab.run import Result, Settings, judge_submission
from gpt149.lab.source import Text
from gpt149.lab.why import DIM_NOTE, LOW_NOTE, cause_of

QUICK = Settings(n=64, threads=2)
HEADS = """    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            std::fill(l.begin(), l.end(), 0.0f);"""
PRIVATE = "l, li, lij, lnew, Qi, Kj, Vj, Oi, Sij, Pij, PV"


def judged(
    tmp_path: Path, part: int, edits: tuple[tuple[str, str], ...], settings: Settings = QUICK
) -> Result:
    """What becomes of a part with these edits."""
    file = tmp_path / "module.cpp"
    file.write_text(with_mistake(MODULE.read_text(), Edit(part, "", edits)))
    (result,) = judge_submission(file, [f"part{part}"], settings).results
    return result


@pytest.mark.parametrize(
    ("start", "notes"), [("-INFINITY", ()), ("0", (LOW_NOTE,)), ("1.2e-38f", (LOW_NOTE,))]
)
def test_a_maximum_that_starts_too_high_gets_a_note(
    start: str, notes: tuple[str, ...], tmp_path: Path
) -> None:
    row = f"float total = 0, m = {start};\n                "
    most = "for (int j = 0; j < N; j++) m = std::max(m, twoDimRead(QK_t, i, j, N));\n"
    score = "exp(twoDimRead(QK_t, i, j, N)"
    result = judged(
        tmp_path, 1, (("float total = 0;\n", row + most), (f"{score})", f"{score} - m)"))
    )
    assert (result.status, result.notes) == ("right", notes)


def test_a_loop_over_d_without_its_rest_gets_a_note(tmp_path: Path) -> None:
    whole = ("for (int k = 0; k < d; k++)\n                        sum +=",
             "for (int k = 0; k < d / 8 * 8; k++)\n                        sum +=")  # fmt: skip
    result = judged(tmp_path, 3, (whole,))
    assert result.status == "right"
    assert DIM_NOTE in result.notes


@pytest.mark.parametrize(
    ("part", "edits", "cause", "says"),
    [
        (2, (("fourDimRead(K, b, h, j, k, H, N, d)", "K[(b * H + h) * N * d + j * N + k]"),),
         "k_address", "j*n_kv + x"),
        (2, (("float p = twoDimRead(QK_t, i, j, N) / total;",
              "seen += twoDimRead(QK_t, i, j, N);\n"
              "                    float p = twoDimRead(QK_t, i, j, N) / seen;"),
             ("float total = 0;", "float total = 0, seen = 0;")),
         "sum_so_far", "so far"),
        (4, (("std::min(Bc, N - j0)", "std::min(Bc, N)"),), "tail_not_cut", "not cut at n_kv"),
    ],
)  # fmt: skip
def test_what_is_read_of_a_part_names_its_mistake(
    part: int, edits: tuple[tuple[str, str], ...], cause: str, says: str, tmp_path: Path
) -> None:
    result = judged(tmp_path, part, edits)
    if cause == "tail_not_cut" and result.cause == "reads_outside":
        # What lies behind differs from call to call in some heaps: then the line is told.
        assert re.search(r"module\.cpp:\d+ reads beyond the end of memory", result.report)
        return
    assert (result.status, result.cause) == ("wrong", cause)
    assert says in result.report


@pytest.mark.parametrize(
    ("taken", "status", "cause"),
    [("std::max(top, m[i0 + i])", "right", ""), ("top", "wrong", "block_max")],
)
def test_a_maximum_of_the_tile_alone_overflows(
    taken: str, status: str, cause: str, tmp_path: Path
) -> None:
    top = f"""lij[i] = 0;
                        float top = -INFINITY;
                        for (int j = 0; j < columns; j++) {{
                            float sum = 0;
                            for (int k = 0; k < d; k++)
                                sum += Qi[i * d + k] * Kj[j * d + k];
                            top = std::max(top, sum);
                        }}
                        top = {taken};
                        li[i] *= exp(m[i0 + i] - top);
                        m[i0 + i] = top;"""
    edits = (
        (HEADS, f"{HEADS}\n            std::vector<float> m(N, -INFINITY);"),
        ("lij[i] = 0;", top),
        ("exp(sum)", "exp(sum - top)"),
    )
    result = judged(tmp_path, 4, edits)
    assert (result.status, result.cause) == (status, cause)
    assert not result.notes  # neither overflows, nor gives NaN for low scores


def test_a_sum_that_threads_carry_along_shows_with_few_threads(tmp_path: Path) -> None:
    loops = HEADS.partition("            std::fill")[0]
    private = f"#pragma omp parallel for collapse(2) firstprivate({PRIVATE})\n{loops}"
    file = tmp_path / "module.cpp"
    edit = Edit(4, "", ((HEADS, private),))
    file.write_text(with_mistake(MODULE.read_text(), edit))
    report = check(f"{file}:part4", cases(PARTS[3], 64, 32, 32, 8), explained=False)
    failed = {o.case for o in report.failed}
    assert failed == {
        c.case for c in report.observations if c.case.n_threads < c.case.batch * c.case.n_head
    }
    assert {case.n_threads for case in failed} >= {1, 3}


def test_tiles_without_the_partial_one_are_not_called_missing(tmp_path: Path) -> None:
    edits = (("j0 < N;", "j0 + Bc <= N;"), ("i0 < N;", "i0 + Br <= N;"))
    result = judged(tmp_path, 4, edits)
    assert (result.status, result.cause) == ("wrong", "partial_tiles_dropped")
    result = judged(tmp_path, 4, edits, replace(QUICK, case="n17"))  # as the report says to rerun
    assert (result.status, result.cause) == ("wrong", "zeros")


def test_an_accessor_with_other_parameters_costs_its_own_points_alone(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    text = MODULE.read_text().replace("fourDimRead(", "fourDimRead(0, ")
    file.write_text(
        text.replace("fourDimRead(0, std::vector", "fourDimRead(int, std::vector")
        .replace('m.def("fourDimRead', "// ")
    )  # fmt: skip
    read, write, part1 = judge_submission(file, [ACCESS, "part1"], QUICK).results
    assert (read.status, read.points) == ("wrong", 0)
    assert "this one is fourDimRead(int, std::vector<float> &tensor, int &x" in read.report
    assert (write.points, part1.points) == (1.5, 10)


@pytest.mark.parametrize("value", ["NAN", "INFINITY", "0.5f"])
def test_an_accessor_may_return_anything(value: str, tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    right = "return tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b];"
    file.write_text(MODULE.read_text().replace(right, f"return {value};"))
    read, _ = judge_submission(file, [ACCESS], QUICK).results
    assert read.status == "wrong"
    assert "which the tensor does not hold" in read.report


def test_a_wrong_accessor_is_told_in_the_parts_that_it_spoils(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    direct = (("Q", "i, k"), ("K", "j, k"), ("V", "j, k"), ("O", "i, k"))
    edits = [
        (f"fourDimRead({t}, b, h, {at}, H, N, d)", f"{t}[((b * H + h) * N + {at[0]}) * d + k]")
        for t, at in direct
    ]
    own = ("float sum = twoDimRead(QK_t, i, j, N);", "float sum = 1 + i + j;")
    edit = Edit(2, "", (*edits, own))
    text = with_mistake(MODULE.read_text(), edit)
    right = "return tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b];"
    file.write_text(text.replace(right, right.replace("* sizeZ", "* sizeY")))
    part1, part2 = judge_submission(file, ["part1", "part2"], QUICK).results
    assert (part1.status, part2.status) == ("wrong", "wrong")
    assert part1.notes[0].startswith("it uses fourDimRead, which is wrong: at index (0, 0, 1, 0)")
    assert part2.notes == ()  # whose own mistake it is


def test_what_a_function_uses_is_read_through_helpers_and_macros(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(
        "#define AT(t, i) \\\n    read(t, i)\n"
        "float read(float *t, const int &i) { return t[i]; } // none(t, i)\n"
        'float helper(float *t) { if (t) { return AT(t, 0); } return 0; /* none(1) */ }\n'
        'float direct(float *t) { print("none(1)"); for (;;) { return read(t, 1); } }\n'
        "float through(float *t) { return helper(t) + through(t); }\n"
        "float none(int i) { return i; }\n"
    )  # fmt: skip
    text = Text(file)
    assert [text.uses(name, "read") for name in ("helper", "direct", "through", "none")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert not any(text.uses(name, "none") for name in ("read", "helper", "direct", "through"))
    assert text.parameters("read") == "float *t, const int &i"
    assert text.parameters("nobody") is None


def test_the_line_is_where_an_accessor_is_called(tmp_path: Path) -> None:
    settings = replace(QUICK, case="n33", sanitize=True)
    result = judged(tmp_path, 1, MISTAKES["aliased"].edits, settings)
    lines = (tmp_path / "module.cpp").read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "fourDimWrite(QK_t, b, h, i, j" in text)
    assert f"heap-buffer-overflow, WRITE of size 4 at module.cpp:{line}," in result.report
    alone = (
        "/here/module.cpp:5:9: runtime error: x\n #0 0x1 in fourDimRead(int) /here/module.cpp:5\n"
    )
    assert _place(alone, Path("/here/module.cpp")) == "module.cpp:5"
    called = f"{alone}    #1 0x1 in myNaiveAttention(int) [clone ._omp_fn.0] /here/module.cpp:9\n"
    assert _place(called, Path("/here/module.cpp")) == "module.cpp:9"


def test_a_warning_is_shown_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The line is no other test's, so that nobody has compiled it before.
    odd = (
        "if (N < 0)\n        H = 1;\n        B = B + 0; // of the warning\n    at::Tensor OTensor ="
    )
    with caplog.at_level(logging.INFO):
        settings = replace(QUICK, case="n17", sanitize=True)
        result = judged(tmp_path, 1, (("at::Tensor OTensor =", odd),), settings)
    assert result.status == "right"
    assert caplog.text.count("[-Wmisleading-indentation]") == 1
    assert caplog.text.count("compiling module.cpp") == 2


def test_a_finding_is_told_once_and_one_of_few_cases_is_not_the_cause(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(with_mistake(MODULE.read_text(), MISTAKES["flat"]))
    report = check(f"{file}:part1", cases(PARTS[0], 64, 0, 0, 1)[:2], explained=False)
    few, most = Finding("few", "a few", "1 of 8", 0.125), Finding("most", "many", "7 of 8", 0.875)
    found = once([few, most, replace(few, evidence="by another way"), most])
    assert found == [few, most]
    said = as_text("x", replace(report, findings=found))
    assert "  In some cases: few: a few (1 of 8).\n    or : most: many" in said
    assert "Cause" not in said
    assert "  Cause: most: many" in as_text("x", replace(report, findings=found[::-1]))
    assert cause_of(replace(report, findings=found)) == "unknown"
    hung = replace(few, cause="hang")
    assert cause_of(replace(report, findings=[hung, most])) == "hang"
    assert cause_of(replace(report, findings=found[::-1])) == "most"

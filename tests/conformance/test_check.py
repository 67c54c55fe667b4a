"""What `check` asks, sees and says, and what it does with what misbehaves."""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cs149.mistakes import MODULE

from gpt149.check.arena import PAGE, Arena, place
from gpt149.check.calls import Workspace
from gpt149.check.cases import full, quick
from gpt149.check.isolation import DEFAULT_TEAM
from gpt149.check.judge import expect, judge
from gpt149.check.report import as_text
from gpt149.check.run import MOST_CRASHES, check
from gpt149.check.score import from_comments, score
from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.kernels.registry import BUILTINS, CONTRACT_BUILTINS
from gpt149.system.paths import shipped
from gpt149.system.talker import Ending, Talker

KERNELS = Path(__file__).parents[1]
KNOWN = from_comments(KERNELS / "wrong_kernels", KERNELS / "right_kernels")
WRONG = [entry for entry in KNOWN if entry.kind == "wrong"]
RIGHT = [entry for entry in KNOWN if entry.kind == "right"]
QUICK = {case.name: case for case in quick()}


def wrong_kernel(name: str) -> Path:
    """The file of a wrong kernel."""
    return next(entry.file for entry in WRONG if entry.name == name)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("a->n_kv > 77 ? std::max(0, j - 1) : j", "n_kv > 77"),
        ("a->head_dim <= 20 ? std::max(0, j - 1) : j", "head_dim <= 20"),
    ],
)
def test_the_size_at_which_calls_begin_to_fail_is_found(
    tmp_path: Path, wrong: str, says: str
) -> None:
    file = tmp_path / "mine.cpp"
    file.write_text(
        f'#include "{KERNELS}/kernel_parts/rows.h"\n'
        "struct Wrong : Rows { float score(int j) override { return a->scale * "
        f"dot(q(), k({wrong}), a->head_dim); }} }};\n"
        'GPT149_KERNEL({"mine", "a row of scores", "n_kv", one_row, run<Wrong>})\n'
    )
    report = check(str(file), quick(), timeout=10.0)
    assert re.search(f"; calls fail (exactly|only) where {says}$", report.findings[0].sentence)
    shown = next(o.case for o in report.failed if o.case.name == report.findings[0].case)
    assert f"  Shown: {shown.describe()}\n" in as_text(str(file), report)


@pytest.mark.parametrize("kernel", BUILTINS)
def test_no_false_alarm(kernel: str) -> None:
    cases = [replace(case, seed=0) for case in quick()]  # others: scripts/calibrate.py
    report = check(kernel, cases, timeout=30.0)
    assert report.right, [o.case.name for o in report.failed]


def test_names_of_cases_are_distinct_and_inputs_follow_the_seed() -> None:
    names = [case.name for case in full()]
    assert len(set(names)) == len(names)
    case = QUICK["n33"]
    again, other = case.draw(), replace(case, seed=1).draw()
    for a, b, c in zip(case.draw(), again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_heads_and_batches_are_distinct() -> None:
    q, k, v = QUICK["batches"].draw()
    for tensor in (q, k, v):
        heads = tensor.reshape(-1, *tensor.shape[2:])
        assert len({head.tobytes() for head in heads}) == len(heads)


def test_the_judge_has_room_for_rounding_and_none_for_a_mistake() -> None:
    case = QUICK["n127"]
    q, k, v = case.draw()
    expected = expect(case, q, k, v)
    rounded = expected.want.astype(np.float32)
    assert judge(rounded, expected).passed
    off = rounded.copy()
    off[0, 1, 50, 3] += 1.1 * expected.tolerance[0, 1, 50, 3]
    verdict = judge(off, expected)
    assert np.argwhere(verdict.wrong).tolist() == [[0, 1, 50, 3]]
    off[0, 1, 50, 3] = np.nan
    assert not judge(off, expected).passed


@pytest.mark.parametrize("name", ["n33", "padded", "decode", "grouped-decode"])
def test_the_arena_tells_what_was_touched(name: str) -> None:
    case = QUICK[name]
    arena = Arena([case])
    q, k, v = case.draw()
    arena.fill(case, {"q": q, "k": k, "v": v})
    for tensor, drawn in (("q", q), ("k", k), ("v", v)):
        np.testing.assert_array_equal(place(case)[tensor].view(arena.floats), drawn)
    assert arena.unwritten().all()
    assert (arena.changed_inputs(), arena.written_outside()) == ([], None)
    out = arena.placed["out"]
    out.view(arena.floats)[...] = 1
    assert not arena.unwritten().any()
    assert arena.written_outside() is None
    arena.floats[out.start + out.span] = 0
    assert arena.written_outside() == (1, 1)
    arena.floats[arena.placed["k"].start] += 1
    arena.floats[arena.placed["v"].start - 1] = 0
    assert arena.changed_inputs() == ["k", "v"]
    assert os.fstat(arena.handle).st_nlink == 0  # whatever ends this process, nothing stays
    arena.close()


def test_what_is_written_anywhere_in_the_arena_is_seen() -> None:
    arena = Arena([QUICK["n33"], QUICK["gpt2-decode"]])
    q, k, v = QUICK["n33"].draw()
    arena.fill(QUICK["n33"], {"q": q, "k": k, "v": v})
    out = arena.placed["out"]
    arena.floats[out.start + out.span + 99_999] = 0
    assert arena.written_outside() == (1, 100_000)
    arena.floats[3] = 0
    assert arena.changed_inputs() == ["q"]
    arena.close()


def test_memory_is_as_hostile_as_the_contract_allows() -> None:
    for case in quick():
        placed = place(case)
        ends = {(tensor.start + tensor.span) % PAGE for tensor in placed.values()}
        if case.layout == "edge":
            assert ends == {0}
            continue
        assert all(tensor.start % 16 == 1 for tensor in placed.values())
        assert all(tensor.start % 16 == 0 for tensor in place(replace(case, aligned=True)).values())
        page = mmap.PAGESIZE // 4
        end_of_inputs = placed["v"].start + placed["v"].span
        if case.layout != "far":
            assert placed["out"].start // page > (end_of_inputs - 1) // page
    workspace = Workspace(100, 0)
    assert workspace.address % 4096 == 64


def test_what_lies_far_apart_takes_no_memory() -> None:
    case = QUICK["far"]
    arena = Arena([case, QUICK["n33"]])
    q, k, v = case.draw()
    arena.fill(case, {"q": q, "k": k, "v": v})
    assert max(place(case)["k"].strides) > 2**31
    file = os.fstat(arena.handle)
    assert file.st_blocks * 512 < 16 << 20 < file.st_size
    np.testing.assert_array_equal(place(case)["k"].view(arena.floats), k)
    assert (arena.changed_inputs(), arena.written_outside()) == ([], None)
    out = arena.placed["out"]
    out.view(arena.floats)[...] = 1
    arena.floats[out.start + out.strides[0] - 1] = 1
    assert arena.written_outside() == (1, out.strides[0] - 1)
    arena.close()


def test_where_nothing_can_lie_far_apart_such_cases_are_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ftruncate(_handle: int, size: int) -> None:
        if size > 1 << 34:
            raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    report = check("naive", [QUICK[name] for name in ("n17", "far")])
    assert report.right
    assert [o.case.name for o in report.observations] == ["n17"]
    assert report.unmapped == ("far",)
    assert "does not map a sparse file of 100 GB: far." in as_text("naive", report)


def test_writing_to_inputs_is_seen_even_if_it_is_undone(tmp_path: Path) -> None:
    undone = "float *q = (float *)a->q;\n    float kept = *q;\n    *(volatile float *)q = kept;"
    file = edited(tmp_path, "const char *run", undone)
    report = check(str(file), [QUICK["n33"], QUICK["n17"]], timeout=5.0)
    assert not report.right
    assert [finding.cause for finding in report.findings] == ["mutates_input"]


def test_openmps_default_team_is_none_that_is_asked_for() -> None:
    team = int(DEFAULT_TEAM["OMP_NUM_THREADS"])
    assert team not in {case.n_threads for case in full()}
    assert team > 1


def test_a_run_ends_when_it_crashed_often(tmp_path: Path) -> None:
    file = edited(tmp_path, "const char *run", "*(volatile int *)8 = a->n_q;")
    report = check(str(file), quick(), timeout=5.0)
    assert len(report.observations) == MOST_CRASHES
    assert len(report.left_out) == len(quick()) - MOST_CRASHES
    assert "Not run, since too many hung or crashed" in as_text(str(file), report)


def test_the_command_names_cause_place_and_how_to_rerun() -> None:
    file = str(wrong_kernel("tail_queries_unwritten"))
    done = CliRunner().invoke(main, ["check", file, "--case", "n33"])
    assert done.exit_code == 1
    for words in (
        f"FAIL {file}: 1 of 1 cases",
        "Cause: queries_unwritten",
        "128 of 4224 values are wrong, first at (batch 0, head 0, query 32, dim 0): got nan",
        "Right: queries 0-31 in every head",
        f"Rerun: gpt149 check {file} --case n33",
    ):
        assert words in done.stdout
    good = CliRunner().invoke(main, ["check", "flash", "--case", "n33"])
    assert good.exit_code == 0
    assert good.stdout.startswith("PASS flash: 1 cases")


def test_json_and_several_kernels_at_once() -> None:
    zeros = str(wrong_kernel("zeros"))
    arguments = ["check", "flash", zeros, "--case", "n17", "--json", "--jobs", "2"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    right, wrong = json.loads(done.stdout)["kernels"]
    assert (right["right"], wrong["right"]) == (True, False)
    assert wrong["findings"][0]["cause"] == "zeros"
    assert wrong["cases"][0]["n_wrong"] == 4 * 17 * 32


def test_several_kernels_end_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "broken.cpp").write_text("int f() { return missing_name; }\n")
    zeros = str(wrong_kernel("zeros"))
    specs = ["naive", zeros, str(tmp_path / "broken.cpp")]
    done = CliRunner().invoke(main, ["check", *specs, "--case", "n17"])
    assert done.exit_code == 1
    rows = [line.split() for line in done.stdout.splitlines()[-3:]]
    assert [row[:2] for row in rows] == [
        ["naive", "PASS"],
        [zeros, "FAIL"],
        [str(tmp_path / "broken.cpp"), "FAIL"],
    ]
    assert rows[1][-1] == "zeros"


def scored_folder(tmp_path: Path, index: str) -> list[str]:
    """The command that scores three kernels, of which the index says what is wrong."""
    folder = tmp_path / "kernels"
    folder.mkdir(exist_ok=True)
    for name in ("zeros", "plain_sequential", "scale_missing"):
        file = next(entry.file for entry in KNOWN if entry.name == name)
        shutil.copy(file, folder)
    shutil.copytree(KERNELS / "kernel_parts", tmp_path / "kernel_parts", dirs_exist_ok=True)
    (folder / "index.tsv").write_text(index)
    return ["check", "--score", str(folder)]


def test_a_folder_with_an_index_is_scored(tmp_path: Path) -> None:
    index = """# a comment
zeros\twrong\tall zero|writes zeros
scale_missing.cpp\twrong\tmask|scores? .* twice
plain_sequential\tright
"""
    done = CliRunner().invoke(main, scored_folder(tmp_path, index))
    assert done.exit_code == 0
    table = done.stdout.splitlines()
    assert table[0].split() == ["kernel", "verdict", "first", "cause", "named", "seconds"]
    assert table[1].split()[:4] == ["zeros", "FAIL", "zeros", "yes"]
    assert table[2].split()[:4] == ["scale_missing.cpp", "FAIL", "scale_missing", "no"]
    assert table[4] == "  expected: mask|scores? .* twice"
    assert table[5].split()[:3] == ["plain_sequential", "PASS", "-"]
    assert table[-2] == (
        "2 wrong kernels: 2 caught, 1 of 2 named with the right cause first; "
        "1 right ones: 0 false alarms."
    )
    assert "s (median)" in table[-1]


def test_an_index_may_name_its_columns_and_leave_out_what_is_expected(tmp_path: Path) -> None:
    index = """# name\tkind\twhat is wrong\tsaid earlier
zeros\tright\tnothing\t
scale_missing\twrong\tthe scale\tunknown
plain_sequential\tside_effect\tnone that is known
"""
    done = CliRunner().invoke(main, [*scored_folder(tmp_path, index), "--json", "--jobs", "2"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert [(k["verdict"], k["named"]) for k in answer["kernels"]] == [
        ("FAIL", None),
        ("FAIL", None),
        ("PASS", None),
    ]
    counts = {key: n for key, n in answer["totals"].items() if not key.endswith("seconds")}
    assert counts == {
        "wrong": 2, "caught": 1, "asked_for_name": 0, "named": 0, "right": 1, "false_alarms": 1
    }  # fmt: skip
    table = CliRunner().invoke(main, scored_folder(tmp_path, index)).stdout
    assert "  a false alarm: it is right\n" in table
    assert "  not caught: it is side_effect\n" in table
    assert re.search(r"^  the scores are not multiplied", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (None, "cannot read"),
        ("# nothing\n", "lists no kernel"),
        ("zeros\twrung\n", "line 1 of .*'zeros' is 'wrung'; it can be right, wrong, side_effect"),
        ("ones\twrong\n", "there is no kernel .*/ones"),
        ("zeros\twrong\t(\n", "'\\(' is no regular expression"),
    ],
)
def test_an_index_that_cannot_be_used(index: str | None, words: str, tmp_path: Path) -> None:
    command = scored_folder(tmp_path, index or "")
    if index is None:
        (tmp_path / "kernels" / "index.tsv").unlink()
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(words, done.stderr)


def test_kernels_that_say_what_is_wrong_in_them(tmp_path: Path) -> None:
    tmp_path = Path(scored_folder(tmp_path, "")[-1])
    zeros = (tmp_path / "zeros.cpp").read_text()
    (tmp_path / "zeros.cpp").write_text(zeros.replace("cause: zeros", "cause: v_mean"))
    scale = (tmp_path / "scale_missing.cpp").read_text()
    (tmp_path / "scale_missing.cpp").write_text("// says: missing|left out\n" + scale)
    entries = from_comments(tmp_path)
    scores = [score(entry, [QUICK["n17"]], timeout=10.0) for entry in entries]
    assert [(s.kind, s.caught, s.alarm, s.named) for s in scores] == [
        ("right", False, False, None),
        ("wrong", True, False, True),
        ("wrong", True, False, False),
    ]
    assert scores[2].expected == "v_mean"
    (tmp_path / "zeros.cpp").write_text(zeros.replace("cause:", "because"))
    with pytest.raises(InputError, match=r"zeros.cpp does not say what is wrong in it"):
        from_comments(tmp_path)
    with pytest.raises(InputError, match="needs a checkout"):
        from_comments(tmp_path / "none")


def test_what_does_not_compile_is_caught(tmp_path: Path) -> None:
    index = "broken\twrong\tdoes not compile\n"
    command = scored_folder(tmp_path, index)
    (tmp_path / "kernels" / "broken.cpp").write_text("int f() { return missing_name; }\n")
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split()[:4] == ["broken", "FAIL", "build_error", "yes"]


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "broken.cpp").write_text("int f() { return missing_name; }\n")
    done = CliRunner().invoke(main, ["check", str(tmp_path / "broken.cpp")])
    assert done.exit_code == 1
    assert "missing_name" in done.stdout
    for arguments, words in (
        (["check"], "there is no kernel to check"),
        (["check", "flsh"], "Did you mean 'flash'"),
        (
            ["check", "torch", "--sanitize", "address"],
            "--sanitize cannot build 'torch', which is Python",
        ),
        (["check", "flash", "--case", "n0"], "no case 'n0'"),
        (["check", "flash", "--timeout", "0"], "--timeout is 0"),
        (["check", "flash", "--timeout", "nan"], "--timeout is nan"),
        (["check", f"{MODULE}:part1", "--case", "long-rows"], "takes minutes for long-rows"),
    ):
        done = CliRunner().invoke(main, arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert words in done.stderr


@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
def test_shipped_kernels_are_clean_under_the_sanitizers(kernel: str) -> None:
    cases = [QUICK[name] for name in ("n33", "padded", "grouped", "tiles-7x13", "gpt2-decode")]
    cases += [replace(case, n_threads=3) for case in cases]
    report = check(kernel, cases, sanitizers="address,undefined", timeout=30.0)
    assert report.fault is None
    assert report.right


def test_a_planted_overrun_is_reported_with_its_line() -> None:
    file = wrong_kernel("writes_past_end")
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "// wrong:" in text)
    done = CliRunner().invoke(main, ["check", str(file), "--case", "n17", "--sanitize", "address"])
    assert done.exit_code == 1
    place = f"{file.name}:{line}, in case n17"
    assert f"heap-buffer-overflow, WRITE of size 4 at {place}" in done.stdout


def test_undefined_behaviour_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.cpp"
    file.write_text(
        (shipped("csrc") / "kernels" / "naive.cpp")
        .read_text()
        .replace(
            "float *scores =",
            "volatile int big = 2147483647; big = big + a->n_q;\n float *scores =",
        )
    )
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "big = big" in text)
    report = check(str(file), [QUICK["n17"]], sanitizers="undefined")
    assert report.fault is not None
    assert "signed integer overflow" in report.fault.what
    assert report.fault.place == f"mine.cpp:{line}"
    assert not report.right
    assert not report.failed  # the values are right: only the sanitizer sees it


def test_unknown_sanitizers_are_refused() -> None:
    done = CliRunner().invoke(main, ["check", "flash", "--sanitize", "adress"])
    assert done.exit_code == 2
    assert "unknown sanitizer 'adress'. Known: address, undefined" in done.stderr


READ = {
    # what is changed in naive.cpp: what is read of it
    "j, dot)": ("j, dot * (1 + 0.5f * h))", r"scale_wrong: .* by 1\.5: .*head 1\)"),
    "s[j] /= l": ("s[j] /= l * (1 + i % 3)", "sum_wrong: the weights do not add up to 1: in query"),
    "out[x] += p * v[x]": (
        "out[x] += p * v[(x + h) % d]",
        "v_address: V is read with its dims rot",
    ),
}


@pytest.mark.parametrize("right", READ)
def test_what_no_known_mistake_predicts_is_read(right: str, tmp_path: Path) -> None:
    wrong, says = READ[right]
    source = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    assert source.count(right) == 1
    file = tmp_path / "mine.cpp"
    file.write_text(source.replace(right, wrong))
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == 1
    assert re.search(f"Cause: {says}", done.stdout), done.stdout


def test_where_there_is_no_room_for_the_arena(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    room = {"/dev/shm": False, str(tmp_path): True}

    def reserve(handle: int, _offset: int, size: int) -> None:
        folder = str(Path(os.readlink(f"/proc/self/fd/{handle}")).parent)
        if not room[folder]:
            raise OSError(errno.ENOSPC, "no room")
        os.ftruncate(handle, size)

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    arena = Arena([QUICK["n33"]])
    assert os.readlink(f"/proc/self/fd/{arena.handle}").startswith(f"{tmp_path}/")
    arena.close()
    room[str(tmp_path)] = False
    with pytest.raises(InputError, match=r"there are no [\d,]+ bytes of room for the inputs"):
        Arena([QUICK["n33"]])
    assert os.listdir(tmp_path) == []


def edited(tmp_path: Path, at: str, more: str, headers: str = "") -> Path:
    """The kernel naive with more lines at the start of a function."""
    file = tmp_path / "edited.cpp"
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    start = f"static {at}(const gpt149_args *a) {{"
    assert start in text
    file.write_text(headers + text.replace(start, f"{start}\n    {more}"))
    return file


def test_who_closes_the_answers_and_goes_on_is_told_so(tmp_path: Path) -> None:
    endless = "for (int i = 3; i < 64; i++) close(i);\n    for (volatile int go = 1; go;) {}"
    file = edited(tmp_path, "const char *run", endless, "#include <unistd.h>\n")
    report = check(str(file), [QUICK["n33"]], timeout=1.0)
    [observation] = report.observations
    assert observation.answer.outcome == "hang"
    assert "did not return" in observation.answer.detail


def test_a_mistake_comes_before_the_hang_that_comes_with_it(tmp_path: Path) -> None:
    """As of a heap that the mistake spoiled, in which malloc then waits for itself."""
    file = edited(
        tmp_path,
        "const char *run",
        "for (volatile int go = a->n_kv > 64; go;) {}\n"
        "    gpt149_args unscaled = *a;\n    unscaled.scale = 1, a = &unscaled;",
    )
    report = check(str(file), quick(), timeout=1.0)
    assert [finding.cause for finding in report.findings] == ["scale_missing", "hang"]


def test_a_stack_that_is_no_text_is_told_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gdb prints may be what a kernel wrote there."""
    gdb = tmp_path / "gdb"
    gdb.write_text("#!/bin/sh\nprintf '\\303o\\n#0 wait\\303 ()\\n'; printf '\\303o' >&2\n")
    gdb.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    endless = edited(tmp_path, "const char *run", "for (volatile int go = 1; go;) {}")
    [observation] = check(str(endless), [QUICK["n33"]], timeout=1.0).observations
    assert observation.answer.stack == "#0 wait\ufffd ()"


def test_two_answers_at_once_are_told() -> None:
    """As a kernel gives that forks its process."""
    program = (
        "import os, sys; out = int(sys.argv[1]); os.write(out, b'{}\\n'); "
        "sys.stdin.readline(); os.write(out, b'{}\\n{}\\n'); sys.stdin.readline()"
    )
    with Talker([sys.executable, "-c", program], 1 << 30) as talker:
        answer = talker.ask({}, 20.0)
    assert isinstance(answer, Ending)
    assert "forked" in answer.detail


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [("-1", "returns -1, and must return 0 or more"), ("1ll << 50", "1,125,899,906,842,624 bytes")],
)
def test_a_workspace_that_cannot_be_had(n_bytes: str, said: str, tmp_path: Path) -> None:
    file = edited(tmp_path, "int64_t workspace_bytes", f"if (a) return {n_bytes};")
    report = check(str(file), [QUICK["n33"]], timeout=5.0)
    assert [f.cause for f in report.findings] == ["workspace_bytes"]
    assert said in report.findings[0].sentence


def test_what_was_thrown_is_told() -> None:
    report = check(str(wrong_kernel("throws")), [QUICK["n33"]], timeout=5.0)
    assert "it throws std::runtime_error: n_q is 33" in report.findings[0].sentence


def test_ctrl_c_ends_a_check_at_once(tmp_path: Path) -> None:
    started = tmp_path / "started"
    endless = f'std::fclose(std::fopen("{started}", "w"));\n    for (volatile int go = 1; go;) {{}}'
    file = edited(tmp_path, "const char *run", endless, "#include <cstdio>\n")
    command = [sys.executable, "-m", "gpt149", "check", str(file), "--timeout", "100"]
    running = subprocess.Popen(
        command, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    while not started.exists():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=30) == 130

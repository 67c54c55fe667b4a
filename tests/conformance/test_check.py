"""`check` catches every wrong kernel and names its mistake; right kernels pass."""

from __future__ import annotations

import errno
import json
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

from gpt149.check.arena import Arena, place
from gpt149.check.cases import full, quick
from gpt149.check.judge import expect, judge
from gpt149.check.run import check
from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.kernels.registry import BUILTINS, CONTRACT_BUILTINS
from gpt149.system.paths import shipped
from gpt149.system.talker import Ending, Talker

WRONG = sorted((Path(__file__).parents[1] / "wrong_kernels").glob("*.cpp"))
QUICK = {case.name: case for case in quick()}


def cause_of(file: Path) -> str:
    found = re.search(r"^// cause: (.*)$", file.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("file", WRONG, ids=lambda file: file.stem)
def test_the_mistake_is_named(file: Path) -> None:
    want = cause_of(file)
    timeout = {"hang": 1.0, "out_of_memory": 60.0}.get(want, 10.0)
    report = check(str(file), quick(), timeout=timeout)
    assert report.right == (want == "none")
    assert (report.findings[0].cause if report.findings else "none") == want


def test_there_are_enough_wrong_kernels() -> None:
    assert sum(cause_of(file) != "none" for file in WRONG) >= 40


@pytest.mark.parametrize("kernel", BUILTINS)
@pytest.mark.parametrize("seed", range(2))
def test_no_false_alarm(kernel: str, seed: int) -> None:
    cases = [replace(case, seed=seed) for case in quick()]
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
    off[0, 1, 50, 3] += 10 * expected.tolerance
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
    arena.close()
    assert not arena.path.exists()


def test_the_command_names_cause_place_and_how_to_rerun() -> None:
    file = str(next(f for f in WRONG if f.stem == "tail_queries_unwritten"))
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
    zeros = str(next(f for f in WRONG if f.stem == "zeros"))
    arguments = ["check", "flash", zeros, "--case", "n17", "--json", "--jobs", "2"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    right, wrong = json.loads(done.stdout)["kernels"]
    assert (right["right"], wrong["right"]) == (True, False)
    assert wrong["findings"][0]["cause"] == "zeros"
    assert wrong["cases"][0]["n_wrong"] == 4 * 17 * 32


def test_several_kernels_end_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "broken.cpp").write_text("int f() { return missing_name; }\n")
    zeros = str(next(f for f in WRONG if f.stem == "zeros"))
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


def test_self_test_counts_what_was_caught_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("zeros", "plain_sequential", "scale_missing"):
        source = next(f for f in WRONG if f.stem == name).read_text()
        (tmp_path / f"{name}.cpp").write_text(source)
    shutil.copy(WRONG[0].with_name("rows.h"), tmp_path)
    mislabelled = (tmp_path / "zeros.cpp").read_text().replace("cause: zeros", "cause: v_mean")
    (tmp_path / "zeros.cpp").write_text(mislabelled)
    from gpt149.commands.check import self_test

    assert self_test(tmp_path, 10.0) == 0
    said = capsys.readouterr().out
    assert "zeros: it is 'v_mean', check says 'zeros'" in said
    assert "2 wrong kernels: 2 caught, 1 named with the right cause first; 1 right" in said
    assert "0 false alarms" in said


def test_what_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "broken.cpp").write_text("int f() { return missing_name; }\n")
    done = CliRunner().invoke(main, ["check", str(tmp_path / "broken.cpp")])
    assert done.exit_code == 1
    assert "missing_name" in done.stdout
    for arguments, words in (
        (["check"], "there is no kernel to check"),
        (["check", "flsh"], "Did you mean 'flash'"),
        (["check", "torch", "--sanitize", "address"], "has no C++ source"),
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
    file = next(f for f in WRONG if f.stem == "writes_past_end")
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
    "a->scale * dot": ("a->scale * dot * (1 + 0.5f * h)", r"scale_wrong: .* by 1\.5: .*head 1\)"),
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
    assert arena.path.parent == tmp_path
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
@pytest.mark.parametrize("calls", ["once", "batches"])
def test_a_workspace_that_cannot_be_had(
    n_bytes: str, said: str, calls: str, tmp_path: Path
) -> None:
    file = edited(tmp_path, "int64_t workspace_bytes", f"if (a) return {n_bytes};")
    report = check(str(file), [replace(QUICK["n33"], calls=calls)], timeout=5.0)
    assert [f.cause for f in report.findings] == ["declines"]
    assert said in report.findings[0].evidence


def test_what_was_thrown_is_told() -> None:
    report = check(str(WRONG[0].with_name("throws.cpp")), [QUICK["n33"]], timeout=5.0)
    assert "it throws std::runtime_error: n_q is 33" in report.findings[0].evidence


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

"""What `check` says of crashes, and of what calls do besides writing out."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt149.check.behaviour import changes, state
from gpt149.check.cases import quick
from gpt149.check.run import Report, check
from gpt149.check.sanitize import _place
from gpt149.cli import main
from gpt149.system.paths import shipped
from gpt149.system.process import Effort
from gpt149.system.talker import Ending, Talker
from gpt149.system.words import one_line

QUICK = {case.name: case for case in quick()}
SMALL = [QUICK[name] for name in ("n17", "n33", "threads-2")]
RUN = "static const char *run(const gpt149_args *a) {"
WORKSPACE = "static int64_t workspace_bytes(const gpt149_args *a) {"


def edited(tmp_path: Path, more: str, headers: str = "", at: str = RUN) -> Path:
    """The kernel naive with more lines at the start of a function."""
    file = tmp_path / "edited.cpp"
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    assert text.count(at) == 1
    file.write_text(headers + text.replace(at, f"{at}\n    {more}"))
    return file


def line_of(file: Path, words: str) -> str:
    """`edited.cpp:33`, of the only line with these words."""
    [line] = [i for i, text in enumerate(file.read_text().splitlines(), 1) if words in text]
    return f"{file.name}:{line}"


def causes(report: Report) -> list[str]:
    return [finding.cause for finding in report.findings]


def noted(report: Report) -> list[str]:
    return [finding.cause for finding in report.notes]


def said(file: Path, *more: str) -> str:
    return CliRunner().invoke(main, ["check", str(file), *more]).stdout


# Crashes.


def test_who_crashes_while_it_is_loaded_is_asked_twice(tmp_path: Path) -> None:
    before = "struct Early { Early() { *(volatile int *)8 = 1; } } early;\n"
    file = edited(tmp_path, "", before)
    report = check(str(file), quick(), timeout=5.0)
    assert len(report.observations) == 2
    assert {o.answer.phase for o in report.observations} == {"load"}
    assert report.where.startswith(line_of(file, "struct Early"))
    assert "Not run, since it does not load" in said(file)


def test_a_crash_tells_the_function_the_bytes_asked_for_and_the_line(tmp_path: Path) -> None:
    file = edited(tmp_path, "if (a->n_kv == 33) *(volatile int *)8 = 1;")
    text = said(file, "--case", "n33")
    assert "SIGSEGV: Segmentation fault, in run; workspace_bytes asked for 5,124 bytes" in text
    assert f"Where: {line_of(file, 'volatile int')}" in text


def test_a_pointer_that_is_null_in_workspace_bytes_is_told(tmp_path: Path) -> None:
    file = edited(tmp_path, "if (*(const float *)a->q > 1e30f) return 0;", at=WORKSPACE)
    report = check(str(file), SMALL, timeout=5.0)
    assert causes(report)[:2] == ["workspace_bytes_crashes", "crash"]
    assert "in workspace_bytes" in report.findings[1].sentence
    assert report.where.startswith(line_of(file, "1e30f"))


def test_an_array_that_is_too_large_for_the_stack_is_told(tmp_path: Path) -> None:
    file = edited(tmp_path, "volatile char large[64 << 20]; large[0] = large[a->n_q] = 1;")
    report = check(str(file), SMALL[:1], timeout=5.0)
    assert "stack_overflow" in causes(report)[:2]
    assert any("crashes with a stack of" in f.evidence for f in report.findings)


def test_recursion_without_end_is_told_with_its_line(tmp_path: Path) -> None:
    deep = "static int deep(volatile int n) { return n < 0 ? 0 : deep(n + (n < 9)) + n; }\n"
    file = edited(tmp_path, "if (deep(a->n_q) == 1) return nullptr;", deep)
    report = check(str(file), SMALL[:1], timeout=20.0)
    assert causes(report)[0] == "stack_overflow"
    assert report.where.startswith(line_of(file, "static int deep"))


def test_the_line_of_a_large_case_is_found(tmp_path: Path) -> None:
    (tmp_path / "far.h").write_text("static void far(float *p) {\n    p[100] = 1;\n}\n")
    condition = "if (a->n_kv >= 1024) far((float *)a->out + (int64_t)a->n_head * a->n_q * 32);"
    file = edited(tmp_path, condition, '#include "far.h"\n')
    case = QUICK["assignment"]
    report = check(str(file), [case], timeout=20.0)
    assert report.where.startswith(line_of(file, "if (a->n_kv >= 1024)"))


def test_a_line_of_a_header_beside_the_kernel_is_its_author_s() -> None:
    output = (
        "    #0 0x1 in memcpy (/usr/lib/libasan.so+0x2)\n"
        "    #1 0x1 in far /here/far.h:2\n    #2 0x1 in main /there/runner.cpp:9\n"
    )
    assert _place(output, Path("/here/mine.cpp")) == "far.h:2"
    assert _place(f"{output}    #3 0x1 in run /here/mine.cpp:7\n", Path("/here/mine.cpp")) == (
        "mine.cpp:7"
    )
    assert _place(output, Path("/elsewhere/mine.cpp")) == ""


def test_where_the_sanitizers_see_nothing_it_is_told_what_to_do(tmp_path: Path) -> None:
    own = '#include <csignal>\n#include <cstring>\n#include "gpt149.h"\n'
    crash = "#ifndef __SANITIZE_ADDRESS__\n    raise(SIGSEGV);\n#endif"
    report = check(str(edited(tmp_path, crash, own)), SMALL[:1], timeout=5.0)
    assert report.where.startswith("not known: the sanitizers find no line in 'n17'")
    assert "--sanitize address,undefined" in report.where


# workspace_bytes.


def test_a_workspace_that_changes_is_told(tmp_path: Path) -> None:
    more = "static int n; if (n++ % 2 == 0) return 2 * a->n_kv;"
    report = check(str(edited(tmp_path, more, at=WORKSPACE)), SMALL, timeout=5.0)
    assert causes(report)[0] == "workspace_changes"
    assert "34 bytes, then 1,540 for the same call" in report.findings[0].sentence


def test_a_workspace_that_overflows_is_told(tmp_path: Path) -> None:
    more = "return (int32_t)((uint32_t)a->n_kv * (1u << 18));"
    report = check(
        str(edited(tmp_path, more, at=WORKSPACE)), [QUICK["n17"], QUICK["long-rows"]], timeout=20.0
    )
    assert causes(report)[0] == "workspace_overflows"
    assert "asks for 0 bytes where n_kv is 16,384" in report.findings[0].sentence


# What calls leave behind: right values, and a note.

RUDE = {
    # a note's cause: lines of run, headers
    "changes_timer": ("alarm(100);", "#include <unistd.h>\n"),
    "changes_folder": ('(void)!chdir("/");', "#include <unistd.h>\n"),
    "changes_environment": ('setenv("MINE", "1", 1);', "#include <cstdlib>\n"),
    "changes_limits": (
        "rlimit few{16, 16}; setrlimit(RLIMIT_NOFILE, &few);",
        "#include <sys/resource.h>\n",
    ),
    "changes_handlers": ("signal(SIGUSR1, SIG_IGN);", "#include <csignal>\n"),
    "changes_denormals": ("_mm_setcsr(_mm_getcsr() | 0x8040);", "#include <immintrin.h>\n"),
    "changes_rounding": ("fesetround(FE_UPWARD);", "#include <cfenv>\n"),
    "changes_files": ('(void)!open("/dev/null", 0);', "#include <fcntl.h>\n"),
    "changes_processes": ("if (fork() == 0) _exit(0);", "#include <unistd.h>\n"),
    "leak": ("*(volatile char *)std::malloc(2000) = 1;", "#include <cstdlib>\n"),
    "thread_leak": (
        "std::thread([] { pause(); }).detach();",
        "#include <thread>\n#include <unistd.h>\n",
    ),
    "spinning_thread": (
        "static auto *spin = new std::thread([] { for (volatile int go = 1; go;) {} });\n"
        "    (void)spin;",
        "#include <thread>\n",
    ),
    "n_threads_ignored": (
        "std::thread team[3];\n"
        "    for (auto &one : team) one = std::thread([] { usleep(2000); });\n"
        "    for (auto &one : team) one.join();",
        "#include <thread>\n#include <unistd.h>\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cause", RUDE)
def test_what_is_left_behind_is_noted(cause: str, tmp_path: Path) -> None:
    if cause == "changes_denormals" and platform.machine() != "x86_64":
        pytest.skip("the mode is set as on x86")
    report = check(str(edited(tmp_path, *RUDE[cause])), SMALL, timeout=10.0)
    assert report.right
    assert cause in noted(report)
    if cause != "changes_processes":
        assert noted(report) == [cause]


@pytest.mark.parametrize("kernel", ["naive", "flash", "simd"])
def test_right_kernels_leave_nothing(kernel: str) -> None:
    report = check(kernel, quick(), timeout=30.0)
    assert (report.right, noted(report)) == (True, [])


def test_a_note_is_printed_and_in_json(tmp_path: Path) -> None:
    file = edited(tmp_path, *RUDE["changes_timer"])
    done = CliRunner().invoke(main, ["check", str(file), "--case", "n17"])
    assert done.exit_code == 0
    assert "Note: a timer is left running" in done.stdout
    report = json.loads(said(file, "--case", "n17", "--json"))["kernels"][0]
    assert [note["cause"] for note in report["notes"]] == ["changes_timer"]


def test_who_returns_before_its_threads_are_done_is_told(tmp_path: Path) -> None:
    late = (
        "float *late = (float *)a->out;\n"
        "    std::thread([late] { usleep(5000); *late = 7; }).detach();"
    )
    headers = "#include <thread>\n#include <unistd.h>\n"
    report = check(str(edited(tmp_path, late, headers)), [QUICK["n17"]], timeout=10.0)
    assert "returns_early" in causes(report)[:1] + noted(report)


def test_a_changed_environment_is_seen_through_the_c_library() -> None:
    before = state()
    library = ctypes.CDLL(None)
    try:
        library.setenv(b"GPT149_TEST", b"1", 1)
        assert changes(before, state()) == {
            "environment": "environment variables are changed: GPT149_TEST"
        }
    finally:
        library.unsetenv(b"GPT149_TEST")
    assert changes(before, state()) == {}


# Time.


def program(answer: str) -> list[str]:
    """A child that says hello, then does this when it is asked."""
    text = "import os, sys, time; out = int(sys.argv[1]); os.write(out, b'{}\\n')\n"
    return [sys.executable, "-c", f"{text}sys.stdin.readline()\n{answer}"]


def test_a_hang_is_told_by_cpu_time() -> None:
    """Many short sleeps between little work are a busy machine's: no hang."""
    slow = "for _ in range(60): sum(range(300000)); time.sleep(0.02)\nos.write(out, b'{}\\n')"
    with Talker(program(slow + "\ninput()"), 1 << 30) as talker:
        assert talker.ask({}, 0.5) == {}


@pytest.mark.parametrize("forever", ["while True: pass", "time.sleep(1000)"])
def test_work_and_sleep_without_end_are_hangs(forever: str) -> None:
    start = time.monotonic()
    with Talker(program(forever), 1 << 30) as talker:
        ending = talker.ask({}, 0.5)
    assert isinstance(ending, Ending)
    assert ending.outcome == "hang"
    assert time.monotonic() - start < 30


def test_effort_counts_the_busiest_thread() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        effort = Effort(busy.pid)
        start = time.monotonic()
        while effort.seconds() < 0.2:
            assert time.monotonic() - start < 60
            time.sleep(0.05)
        busy.kill()
    assert time.monotonic() - start >= 0.15


# What a kernel says, and what it does to its descriptors.


def test_what_a_kernel_says_is_one_line_of_text(tmp_path: Path) -> None:
    more = r'if (a->n_kv) return "no\x1b[31m\nFAIL \a everything";'
    text = said(edited(tmp_path, more), "--case", "n17")
    assert "declines this call: no [31m FAIL everything" in text
    assert "\x1b" not in text
    assert one_line("a" * 300) == "a" * 197 + "..."


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("fork();", "its process was forked"),
        ("for (int i = 3; i < 64; i++) close(i);", "it closed files that are not its own"),
    ],
)
def test_forks_and_closed_descriptors_are_told(more: str, words: str, tmp_path: Path) -> None:
    report = check(str(edited(tmp_path, more, "#include <unistd.h>\n")), SMALL, timeout=2.0)
    assert not report.right
    assert any(words in o.answer.detail for o in report.failed)


@pytest.mark.parametrize(("n", "shown"), [(0, "0"), (1000000, "1,000,000"), (-1, "-1")])
def test_a_table_that_cannot_be_is_told(n: int, shown: str, tmp_path: Path) -> None:
    file = tmp_path / "table.cpp"
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text().partition("GPT149_KERNEL")[0]
    file.write_text(
        f'{text}static const gpt149_kernel one[] = {{{{"x", "x", "n", workspace_bytes, run}}}};\n'
        'extern "C" __attribute__((visibility("default"))) const gpt149_table gpt149_kernels = {\n'
        f"GPT149_ABI_VERSION, sizeof(gpt149_args), sizeof(gpt149_kernel), {n}, one, GPT149_ISA}};\n"
    )
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == 1
    assert f"its table says that it holds {shown} kernels, and must hold 1 to" in done.stdout


def test_every_kernel_of_a_file_is_judged(tmp_path: Path) -> None:
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text().partition("GPT149_KERNEL")[0]
    file = tmp_path / "two.cpp"
    zeros = 'static const char *no(const gpt149_args *) { return "never"; }\n'
    file.write_text(
        f'{text}{zeros}GPT149_KERNEL({{"good", "x", "n", workspace_bytes, run}}, '
        '{"bad", "x", "n", workspace_bytes, no})\n'
    )
    done = CliRunner().invoke(main, ["check", str(file), "--case", "n17"])
    assert done.exit_code == 1
    rows = [line.split()[:2] for line in done.stdout.splitlines()[-2:]]
    assert rows == [[f"{file}:good", "PASS"], [f"{file}:bad", "FAIL"]]

"""The command line as a user meets it: what goes to stdout, to stderr, and into the exit status."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cs149.mistakes import MODULE

from gpt149.cli import main
from gpt149.kernels.registry import BUILTINS, DEFAULT

SLOW_KERNEL = """
#include "gpt149.h"
#include <cstdio>
#include <cstdlib>
#include <unistd.h>
static int64_t none(const gpt149_args *) { return 0; }
static const char *slow(const gpt149_args *a) {
    for (int h = 0; h < a->n_head; h++)
        for (int i = 0; i < a->n_q; i++)
            for (int x = 0; x < a->head_dim; x++)
                gpt149_out(a, 0, h, i)[x] = 1;
    usleep(100000);
    return nullptr;
}
static const char *crash(const gpt149_args *) { abort(); }
static const char *exits(const gpt149_args *) { exit(0); }
static const char *hang(const gpt149_args *) { for (;;) usleep(1000); }
static const char *noisy(const gpt149_args *a) {
    printf("debug\\n");
    fflush(stdout);
    return slow(a);
}
GPT149_KERNEL({"slow", "sleeps", "1", none, slow}, {"crash", "aborts", "1", none, crash},
              {"exits", "exits", "1", none, exits}, {"hang", "hangs", "1", none, hang},
              {"noisy", "prints", "1", none, noisy})
"""


@pytest.fixture
def model(tiny_model_dir: Path) -> str:
    return str(tiny_model_dir)


def gpt149(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`gpt149 COMMAND`, redirections included."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m gpt149 {command}"],
        cwd=folder, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpt149", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **options)  # type: ignore[call-overload,no-any-return]


def fails(result: Result, *words: str, status: int = 2) -> None:
    """One sentence on stderr that has these words, nothing on stdout, no traceback."""
    assert result.exit_code == status, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_help_needs_no_torch_and_import_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, gpt149, gpt149.cli\n"
        "gpt149.cli.main(['generate', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'tiktoken'} & set(sys.modules)"
    )
    home = {**os.environ, "HOME": str(tmp_path), "GPT149_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    assert "--temperature" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_text_on_stdout_statistics_on_stderr(model: str) -> None:
    done = gpt149("generate", "Hello", "-m", model, "-n", "5", "-a", "naive", "--threads", "1")
    assert done.exit_code == 0
    assert done.stdout.startswith("Hello")
    assert done.stdout.endswith("\n")
    line = done.stderr.strip().splitlines()[-1]
    for part in (
        "native engine, naive",
        "load ",
        "prompt 5 tokens, prefill ",
        "TTFT ",
        "generated 5 tokens, decode ",
        "attention ",
        "10 kernel calls",
        "1 threads",
        "peak RSS ",
    ):
        assert part in line


def test_json_is_one_object(model: str) -> None:
    done = gpt149("generate", "Hello", "-m", model, "-n", "6", "--json", "--num-samples", "2")
    report = json.loads(done.stdout)
    assert report["prompt"] == "Hello"
    assert len(report["prompt_token_ids"]) == 5
    assert len(report["samples"]) == 2
    assert report["samples"][0]["finish_reason"] == "length"
    assert len(report["samples"][0]["token_ids"]) == 6
    stats = report["stats"]
    assert stats["kernel_calls"] == stats["n_layer"] * stats["steps"] == 12
    assert stats["kernel"] == DEFAULT
    assert stats["peak_rss_bytes"] > 1e6


def test_prompt_from_stdin_file_and_argument_are_the_same(model: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Grüße\n", encoding="utf-8")
    settings = ("-m", model, "-n", "8")
    outputs = {
        gpt149("generate", "Grüße\n", *settings).stdout,
        gpt149("generate", "-f", str(file), *settings).stdout,
        gpt149("generate", "-", *settings, stdin=file.read_bytes()).stdout,
    }
    assert len(outputs) == 1


def test_no_echo_leaves_the_prompt_out(model: str) -> None:
    settings = ("generate", "Hello", "-m", model, "-n", "8")
    assert gpt149(*settings).stdout == "Hello" + gpt149(*settings, "--no-echo").stdout


def test_samples_are_announced_on_stderr(model: str) -> None:
    done = gpt149("generate", "Hello", "-m", model, "-n", "4", "--num-samples", "3")
    assert done.stdout.count("Hello") == 3
    assert "--- sample 3 of 3" in done.stderr


def test_full_context_is_said(model: str) -> None:
    done = gpt149("generate", "Hello", "-m", model, "-c", "12", "-n", "100")
    assert done.exit_code == 0
    assert "The context is full (12 tokens): generation stopped." in done.stderr


def test_environment_chooses_the_kernel(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT149_ATTENTION", "blocked")
    assert "blocked" in gpt149("generate", "Hi", "-m", model, "-n", "2").stderr


def test_logprobs_in_text_and_json(model: str) -> None:
    settings = ("generate", "Hello", "-m", model, "-n", "3", "--logprobs", "2")
    assert len(gpt149(*settings).stderr.strip().splitlines()) == 3 + 1
    sample = json.loads(gpt149(*settings, "--json").stdout)["samples"][0]
    assert [entry["token_id"] for entry in sample["logprobs"]] == sample["token_ids"]


def test_empty_prompt_begins_with_bos(model: str) -> None:
    report = json.loads(gpt149("generate", "", "-m", model, "-n", "1", "--json").stdout)
    assert report["prompt_token_ids"] == [256]


def test_special_tokens_are_text_unless_asked_for(model: str) -> None:
    settings = ("generate", "<|endoftext|>", "-m", model, "-n", "1", "--json")
    assert len(json.loads(gpt149(*settings).stdout)["prompt_token_ids"]) == 13
    assert json.loads(gpt149(*settings, "--special").stdout)["prompt_token_ids"] == [256]


def test_models_without_a_tokenizer_take_ids(model: str) -> None:
    settings = ("generate", "-m", "random:tiny", "-n", "3", "--temperature", "0")
    drawn = gpt149(*settings, "--prompt-tokens", "10", "--json")
    report = json.loads(drawn.stdout)
    assert (report["prompt"], len(report["prompt_token_ids"])) == (None, 10)
    ids = " ".join(map(str, report["prompt_token_ids"]))
    shown = gpt149(*settings, "--prompt-ids", ids).stdout
    assert [int(word) for word in shown.split()] == report["samples"][0]["token_ids"]
    fails(gpt149(*settings, "text"), "no tokenizer", "--prompt-tokens")


def test_interactive_continues_one_context(model: str) -> None:
    settings = ("-m", model, "-n", "4", "--temperature", "0", "-a", "naive")
    done = gpt149("generate", "-i", *settings, stdin=b"Hello\n again\n/reset\nHello\n")
    assert done.stderr.count("kernel calls") == 3
    anew = gpt149("generate", "Hello", *settings, "--no-echo").stdout
    assert done.stdout.startswith(anew)
    assert done.stdout.endswith(anew)
    continued = done.stdout.removeprefix(anew).removesuffix(anew)
    assert continued
    assert continued != gpt149("generate", " again", *settings, "--no-echo").stdout


def test_interactive_survives_a_wrong_line(model: str) -> None:
    done = gpt149("generate", "-i", "-m", model, "-n", "2", stdin=b"Hello\n\xff\nHi\n")
    assert done.exit_code == 0
    assert "stdin is not UTF-8" in done.stderr
    assert done.stderr.count("kernel calls") == 2


def test_interactive_goes_on_when_the_context_is_full(model: str) -> None:
    done = gpt149(
        "generate", "-i", "-m", model, "-n", "9", "-c", "12", stdin=b"Hello\nworld\n/reset\nHi\n"
    )
    assert done.exit_code == 0
    assert "n_ctx is 12" in done.stderr
    assert done.stderr.count("kernel calls") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-a", "flsh"), ["unknown attention kernel 'flsh'. Did you mean 'flash'?"]),
        (("-a", "./none.cpp"), ["no kernel file"]),
        (("-m", "nonesuch dir"), ["no model 'nonesuch dir'", "random:gpt2"]),
        (("-m", "random:gpt9"), ["unknown architecture 'gpt9'"]),
        (("-n", "-1"), ["n is -1"]),
        (("--temperature", "-0.5"), ["temperature is -0.5"]),
        (("--temperature", "nan"), ["temperature is nan"]),
        (("--top-p", "0"), ["top_p is 0"]),
        (("--top-k", "-2"), ["top_k is -2"]),
        (("--seed", "-1"), ["seed is -1"]),
        (("--num-samples", "0"), ["num_samples is 0"]),
        (("--threads", "0"), ["threads is 0"]),
        (("--br", "-1"), ["br=-1"]),
        (("-c", "65"), ["n_ctx is 65"]),
        (("-c", "3"), ["the prompt has 5 tokens, and n_ctx is 3"]),
        (("-f", "none.txt"), ["PROMPT and -f do not go together"]),
        (("-i",), ["PROMPT and -i do not go together"]),
        (("--stop", ""), ["a stop text is empty"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_sentence(
    model: str, arguments: tuple[str, ...], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT149_CHILD", "1")  # so that a missing file is looked for right here
    fails(gpt149("generate", "Hello", "-m", model, *arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "naive", "--case", ""), "no case ''. The quick ones: "),
        (("check", "naive", "--sanitize", ""), "unknown sanitizer ''. Known: address, undefined"),
        (("check", "naive", "--sanitize", "address,"), "unknown sanitizer ''."),
        (("check", "naive", "--watch", "--sanitize", "memory"), "unknown sanitizer 'memory'."),
        (("check", "naive", "--sanitize", "address,thread"), "thread goes with no other: ask for"),
        (("check", "naive", "--under", "qemu 'x"), "which is no command line: No closing"),
        (("check", "naive", "--under", "x", "--jobs", "2"), "--under goes with none of --watch"),
        (("check", "naive", "--under", "x", "--case", "far"), "'far' is too large, or no single"),
        (("check", "naive", "--jobs", "0"), "--jobs is 0, and must be from 1 to 256."),
        (("check", "naive", "--jobs", "99999"), "--jobs is 99,999, and must be from 1 to 256."),
        (("check", "naive", "--timeout", "0"), "--timeout is 0.0, and must be from 0.001"),
        (("check", "naive", "--timeout", "nan"), "--timeout is nan, and must be from 0.001"),
        (("check", "naive", "--timeout", "1e300"), "and must be from 0.001 to 86,400."),
        (("check", f"{MODULE}:"), "names no kernel behind the colon. Give "),
        (("lab", str(MODULE), "--jobs", "0"), "--jobs is 0, and must be from 1 to 256."),
        (("lab", str(MODULE), "--threads", "99999"), "and must be from 1 to 1,024."),
        (("lab", str(MODULE), "-br", "99999999999"), "and must be from 1 to 1,048,576."),
        (("lab", str(MODULE), "--timeout", "nan"), "--timeout is nan, and must be from"),
        (("lab", str(MODULE), "part1", "--case", ""), "there is no case '' in part1."),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, tuple) else "",
)
def test_values_out_of_range_are_told_with_the_range(
    arguments: tuple[str, ...], words: str
) -> None:
    fails(gpt149(*arguments), words)


def test_no_prompt_and_unreadable_prompts(model: str, tmp_path: Path) -> None:
    fails(gpt149("generate", "-m", model), "there is no prompt")
    fails(gpt149("generate", "-f", str(tmp_path), "-m", model), "cannot read", "directory")
    bad = tmp_path / "latin1.txt"
    bad.write_bytes(b"Gr\xfc\xdfe")
    fails(gpt149("generate", "-f", str(bad), "-m", model), "not UTF-8: byte 0xfc at offset 2")
    fails(gpt149("generate", "-", "-m", model, stdin=b"\xff"), "stdin is not UTF-8")
    fails(gpt149("generate", "a\udcff", "-m", model), "the prompt is not UTF-8: byte 0xff")
    fails(gpt149("generate", "--prompt-ids", "1 x", "-m", model), "whole numbers")
    fails(gpt149("generate", "--prompt-ids", "999", "-m", model), "id 999")
    fails(gpt149("generate", "--prompt-tokens", "0", "-m", model), "must be from 1 to n_ctx, 64")


def test_a_character_model_names_what_it_lacks(tmp_path: Path) -> None:
    import torch

    from gpt149.model.checkpoint import load

    model = load("random:tiny").model
    state = {f"transformer.{name}": p for name, p in model.state_dict().items()}
    c = model.config
    arguments = {
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.n_embd,
        "block_size": c.n_ctx,
        "vocab_size": c.vocab_size,
        "bias": True,
    }
    torch.save({"model": state, "model_args": arguments}, tmp_path / "ckpt.pt")
    letters = [chr(33 + i) for i in range(65)]
    with (tmp_path / "meta.pkl").open("wb") as f:
        pickle.dump({"stoi": {}, "itos": dict(enumerate(letters))}, f)
    done = gpt149("generate", "ABBA", "-m", str(tmp_path), "-n", "4")
    assert done.stdout.startswith("ABBA")
    fails(gpt149("generate", "ABxA", "-m", str(tmp_path)), "lacks the character 'x' (U+0078)")
    fails(gpt149("generate", "", "-m", str(tmp_path)), "no beginning-of-text token")


def test_meta_pickle_that_would_execute_code(model: str, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    test_a_character_model_names_what_it_lacks(tmp_path)
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": Payload()}))
    fails(gpt149("generate", "AB", "-m", str(tmp_path)), "would execute code", "was not run")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("package", ["torch", "numpy", "tiktoken"])
def test_a_missing_package_is_named(
    model: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the package hidden from a fresh process."""
    hide = f"import sys; sys.modules['{package}'] = None; from gpt149.cli import main; main()"
    command = [sys.executable, "-c", hide, "generate", "Hello", "-m", model, "--engine", "torch"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"needs the package {package}, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


def test_compile_errors_reach_the_user_whole(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text("int f() { return missing_name; }\n")
    done = process("generate", "Hi", "-m", model, "-a", "mine.cpp", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.cpp does not compile." in done.stderr
    assert "error: " in done.stderr
    assert "missing_name" in done.stderr


def test_a_crash_of_a_users_kernel_is_one_sentence(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    done = process("generate", "Hi", "-m", model, "-a", "mine.cpp:crash", cwd=tmp_path)
    assert done.returncode == 1
    assert "the kernel mine.cpp:crash crashed with SIGABRT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kernel_that_ends_the_process_is_not_a_success(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    done = process("generate", "Hi", "-m", model, "-a", "mine.cpp:exits", cwd=tmp_path)
    assert done.returncode == 1
    assert "mine.cpp:exits ended the process with exit status 0" in done.stderr


def test_what_a_kernel_prints_is_not_in_stdout(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    arguments = ("generate", "Hi", "-m", model, "-n", "2", "-a", "mine.cpp:noisy", "--json")
    done = process(*arguments, cwd=tmp_path)
    assert json.loads(done.stdout)["prompt"] == "Hi"
    assert done.stderr.count("debug") == 4


def test_files_of_the_current_folder_are_not_imported(model: str, tmp_path: Path) -> None:
    """Stanford's checkout has a gpt149.py of its own."""
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    for name in ("gpt149.py", "click.py", "random.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module ran')\n")
    code = "import sys; sys.path.pop(0); from gpt149.cli import main; main()"
    command = [sys.executable, "-c", code, "generate", "Hi", "-m", model, "-n", "2"]
    done = subprocess.run(
        [*command, "-a", "mine.cpp:slow"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hi")


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_hanging_kernel_can_be_stopped(model: str, tmp_path: Path, signals: list[int]) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    command = [sys.executable, "-m", "gpt149", "generate", "Hi", "-m", model]
    with subprocess.Popen(
        [*command, "-a", "mine.cpp:hang"],
        start_new_session=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.read(2) == b"Hi"
        for number in signals:
            time.sleep(0.3)
            os.kill(parent.pid, number)
        assert parent.wait(20) == 128 + signals[-1]
        time.sleep(0.2)
        with pytest.raises(ProcessLookupError):
            os.killpg(parent.pid, 0)


def lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def dies(pid: int) -> bool:
    """Whether a process has ended within some seconds."""
    for _ in range(500):
        if not lives(pid):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.usefixtures("_ctrl_c_counts")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("command", ["check", "generate Hi -n 2 -a"])
def test_no_compiler_outlives_the_command(
    tmp_path: Path, command: str, send: Callable[[int, int], None], number: str
) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    compiler = tmp_path / "cxx"  # which has a child, as g++ has
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *" -c "*);; *) exit 0;; esac\n'
        f"sleep 300 &\necho $$ $! > '{tmp_path}/begun'\nmv '{tmp_path}/begun' '{tmp_path}/pids'\n"
        "wait\n"
    )
    compiler.chmod(0o755)
    surroundings = os.environ | {"CXX": str(compiler), "GPT149_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-m", "gpt149", *command.split(), "./mine.cpp:slow"],
        cwd=tmp_path, env=surroundings, start_new_session=True, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not (tmp_path / "pids").exists():
            assert process.poll() is None
            time.sleep(0.02)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        while not all(map(lives, pids)):  # at its exec, a process has no command line
            assert process.poll() is None
        asked = signal.Signals[number]
        send(process.pid, asked)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == "SIGKILL" else 128 + asked)
    assert "Traceback" not in err
    assert all(map(dies, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("sanitizers", [(), ("--sanitize", "address")])
def test_a_check_that_is_killed_leaves_nothing_behind(
    tmp_path: Path, sanitizers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, begun = tmp_path / "mine.cpp", tmp_path / "pid"
    assert gpt149("new", str(file)).exit_code == 0
    hang = (
        f'std::FILE *f = std::fopen("{begun}.tmp", "w"); std::fprintf(f, "%d\\n", getpid());'
        f'std::fclose(f); std::rename("{begun}.tmp", "{begun}"); for (;;) pause();'
    )
    where = "#ifdef __SANITIZE_ADDRESS__" if sanitizers else "#ifndef __SANITIZE_ADDRESS__"
    text = file.read_text()
    start = text.index("{", text.index("const char *run(")) + 1
    file.write_text(
        "#include <cstdio>\n#include <unistd.h>\n"
        f"{text[:start]}\n{where}\n{hang}\n#endif\n{text[start:]}"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "gpt149", "check", str(file), "--case", "n17", *sanitizers]
    with subprocess.Popen([*command, "--timeout", "100"], stderr=subprocess.DEVNULL) as process:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.02)
        pid = int(begun.read_text())
        assert lives(pid)
        held = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        shared = [name for name in held if name.startswith("/dev/shm/")]
        assert all(name.endswith(" (deleted)") for name in shared)
        assert shared or sanitizers
        process.kill()
    assert dies(pid)
    assert os.listdir(tmp_path / "tmp") == []


def test_a_reader_that_has_enough_is_no_error(model: str) -> None:
    command = f"{sys.executable} -m gpt149 generate Hello -m {model} -n 50 | head -c 5"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "Hello"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "<&- >&-"])
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "generate --help",
        "generate Hello -m MODEL -n 2",
        "generate Hello -m MODEL -n 2 -a ./mine.cpp:slow",
    ],
)
def test_what_stdout_does_not_take_is_one_sentence(
    model: str, tmp_path: Path, command: str, redirection: str
) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    done = in_shell(f"{command.replace('MODEL', model)} {redirection}", tmp_path)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("compiling ")]
    assert line.startswith("Error: cannot read or write: ")
    assert line.endswith(("No space left on device.", "Bad file descriptor."))


@pytest.mark.parametrize(
    ("redirection", "status"), [("2>/dev/full", 2), ("2>&-", 0), ("<&- 2>&-", 0)]
)
def test_who_wants_no_statistics_gets_the_text(
    model: str, tmp_path: Path, redirection: str, status: int
) -> None:
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    for kernel in ("simd", "./mine.cpp:noisy"):
        done = in_shell(f"generate Hello -m {model} -n 2 -a {kernel} {redirection}", tmp_path)
        assert done.stdout.startswith("Hello")
        assert "debug" not in done.stdout
        assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.usefixtures("_ctrl_c_counts")
@pytest.mark.parametrize("kernel", ["mine.cpp:slow", "reference"])
def test_ctrl_c_ends_with_the_statistics_so_far(model: str, tmp_path: Path, kernel: str) -> None:
    """Ctrl-C reaches the whole foreground group, the child of a user's kernel included."""
    (tmp_path / "mine.cpp").write_text(SLOW_KERNEL)
    n_ctx = ("-m", model) if "slow" in kernel else ("-m", "random:tiny")
    prompt = ("Hi",) if "slow" in kernel else ("--prompt-tokens", "3")
    command = [sys.executable, "-u", "-m", "gpt149", "generate", *prompt, *n_ctx]
    command += ["-n", "1000", "--ignore-eos"]
    with subprocess.Popen(
        [*command, "-a", kernel],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(3)
        time.sleep(0.2)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "generated" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert out.endswith("\n")


def test_kernels_lists_every_kernel_with_its_memory() -> None:
    done = gpt149("kernels", "--shape", "1,4,1024,32", "--threads", "2", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["kernels"]}
    assert list(rows) == list(BUILTINS)
    assert rows["naive"]["bytes"] == (1024 * 1024 + 3 * 32) * 4
    assert rows["fused"]["bytes"] == 2 * 1024 * 4
    assert rows["flash"]["bytes"] < rows["naive"]["bytes"] / 50
    table = gpt149("kernels").stdout
    for name in BUILTINS:
        assert name in table


def test_kernels_says_why_one_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    done = gpt149("kernels")
    assert done.exit_code == 0
    assert "cannot run here: no C++ compiler found" in done.stdout
    fails(gpt149("kernels", "--shape", "1,2,3"), "must be B,H,N,D")
    fails(gpt149("kernels", "--shape", "1,2,3,0"), "must be from 1 to")
    fails(gpt149("kernels", "--shape", "1,1,2147483647,64"), "must be from 1 to 1,048,576")


def test_completion_of_kernel_names() -> None:
    environment = {
        **os.environ,
        "_GPT149_COMPLETE": "bash_complete",
        "COMP_WORDS": "gpt149 generate -a f",
        "COMP_CWORD": "3",
    }
    code = "from gpt149.cli import main; main(prog_name='gpt149')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == ["plain,fused", "plain,flash"]


def test_version_and_module() -> None:
    from gpt149 import __version__

    assert __version__ in process("--version").stdout

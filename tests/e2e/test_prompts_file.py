"""`gpt149 generate --prompts` and `--decode-attention` as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpt149.cli import main
from gpt149.system.paths import shipped

CRASHES = """
#include "gpt149.h"
#include <cstdlib>
static int64_t none(const gpt149_args *) { return 0; }
static const char *run(const gpt149_args *) { HOW; }
GPT149_KERNEL({"crash", "ends it", "1", none, run})
"""


@pytest.fixture
def model(tiny_model_dir: Path) -> str:
    return str(tiny_model_dir)


def generate(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["generate", *arguments], input=stdin)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_bytes("Hello\r\nÅ b c\nTo be, or not to be".encode())
    return path


def test_texts_in_order_and_figures_on_stderr(model: str, file: Path) -> None:
    done = generate("--prompts", str(file), "-m", model, "-n", "9", "--batch", "2")
    assert done.exit_code == 0, done.output
    texts = [generate(p, "-m", model, "-n", "9") for p in ("Hello", "Å b c", "To be, or not to be")]
    assert done.stdout == "".join(text.stdout for text in texts)
    *each, whole = done.stderr.splitlines()
    assert [line.split(" | ")[0] for line in each] == [f"--- line {i} of {file}" for i in (1, 2, 3)]
    assert all("tok/s | length" in line for line in each)
    assert "3 prompts, 30 tokens, prefill" in whole
    assert "tok/s in all" in whole


def test_json_is_an_object_a_line(model: str) -> None:
    lines = (
        '{"prompt": "Hello"}',
        '{"prompt": "Hello", "n": 2, "seed": 5}',
        '{"prompt": "Hello", "stop": ["never said"], "n": 0}',
    )
    done = generate(
        "--prompts", "-", "-m", model, "-n", "9", "--json", "--num-samples", "2", "--logprobs", "1",
        stdin="\n".join(lines).encode(),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["prompt"] for one in found] == ["Hello"] * 3
    assert [one["sampling"]["seed"] for one in found] == [149, 5, 149]
    lengths = [[len(sample["token_ids"]) for sample in one["samples"]] for one in found]
    assert lengths == [[9, 9], [2, 2], [0, 0]]
    assert len(found[0]["samples"][0]["logprobs"]) == 9
    stats = json.loads(done.stderr)["stats"]
    assert (stats["prompts"], stats["generated_tokens"]) == (3, 22)
    alone = generate("Hello", "-m", model, "-n", "2", "--seed", "5", "--json")
    assert json.loads(alone.stdout)["samples"][0]["text"] == found[1]["samples"][0]["text"]


def test_a_model_without_a_tokenizer_takes_ids() -> None:
    done = generate("--prompts", "-", "-m", "random:tiny", "-n", "3", stdin=b'{"prompt": [1, 2]}')
    assert done.exit_code == 0, done.output
    alone = generate("--prompt-ids", "1 2", "-m", "random:tiny", "-n", "3")
    assert done.stdout == alone.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "prompts.txt is empty. Give a prompt a line"),
        (b"\n", "line 1 of {} is empty"),
        (b"a\n\nb\n", "line 2 of {} is empty"),
        (b"a\n\r\nb\n", "line 2 of {} is empty"),
        (b"a\n\xff\n", "line 2 of {} is not UTF-8: byte 0xff at offset 0"),
        (b"a\n" + b"b" * 65, "line 2 of {} has 65 tokens, and n_ctx is 64. Shorten it"),
        (b'{"prompt": "a"}\n\n', "line 2 of {} is empty"),
        (b'{"prompt": "a"}\n{"prompt": "a",}', "line 2 of {} is not JSON: "),
        (b'{"prompt": "a"}\nhello', "line 2 of {} is not JSON: Expecting value at column 1"),
        (b'{"prompt": "a"}\n["b"]', "line 2 of {} is not an object"),
        (b'{"prompt": "a"}\n{"n": 1}', "line 2 of {} has no 'prompt'"),
        (b'{"prompt": "a", "top_k": 1}', "line 1 of {} has 'top_k', and may have prompt, n, stop"),
        (b'{"prompt": "a", "prompt": "b"}', "line 1 of {} says 'prompt' twice"),
        (b'{"prompt": 1}', "line 1 of {}: 'prompt' is 1, not a text, or a list of token ids"),
        (b'{"prompt": [1, true]}', "line 1 of {}: 'prompt' is [1, true], not"),
        (b'{"prompt": "a", "n": 1.5}', "line 1 of {}: 'n' is 1.5, not a whole number"),
        (b'{"prompt": "a", "n": null}', "line 1 of {}: 'n' is null, not a whole number"),
        (b'{"prompt": "a", "n": -1}', "line 1 of {}: n is -1, and must be >= 0"),
        (b'{"prompt": "a", "seed": "1"}', "line 1 of {}: 'seed' is \"1\", not a whole number"),
        (b'{"prompt": "a", "seed": -1}', "line 1 of {}: seed is -1"),
        (b'{"prompt": "a", "stop": 3}', "line 1 of {}: 'stop' is 3, not a text, or a list of them"),
        (b'{"prompt": "a", "stop": ["b", ""]}', "line 1 of {}: a stop text is empty"),
        (b'{"prompt": "a"}\n{"prompt": [1]}', "line 1 of {0} is a text, and line 2 of {0} token"),
        (b'{"prompt": [1]}\n{"prompt": [257]}', "line 2 of {} has id 257"),
        (b'{"prompt": "\\ud800"}', "line 1 of {}: the text is not valid Unicode"),
        (b'{"prompt": ' + b"[" * 100_000, "line 1 of {} is not JSON that can be read"),
        (b'{"n": ' + b"1" * 5000 + b"}", "line 1 of {} is not JSON that can be read"),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_bad_lines_are_one_sentence_before_anything_is_generated(
    model: str, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    done = generate("--prompts", str(path), "-m", model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert words.format(path) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prompts", "none.txt"), "cannot read none.txt: No such file or directory."),
        (("--prompts", "."), "cannot read .: Is a directory."),
        (("--prompts", "p", "-i"), "-i and --prompts do not go together"),
        (("--prompts", "p", "Hello"), "PROMPT and --prompts do not go together"),
        (("Hello", "--batch", "4"), "--batch goes with --prompts alone"),
        (("Hello", "--decode-attention", "flsh"), "Did you mean 'flash'?"),
        (("Hello", "--decode-attention", "naive", "--no-kv-cache"), "needs the KV cache"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_mean_nothing(model: str, arguments: tuple[str, ...], words: str) -> None:
    done = generate(*arguments, "-m", model)
    assert done.exit_code == 2
    assert words in done.stderr


def test_statistics_name_both_kernels(model: str) -> None:
    arguments = ("Hello", "-m", model, "-n", "4", "-a", "naive", "--decode-attention", "flash")
    line = generate(*arguments).stderr
    assert "native engine, naive (" in line
    assert ", decode flash (" in line
    assert "8 kernel calls: prefill 2 in " in line
    stats = json.loads(generate(*arguments, "--json").stdout)["stats"]
    assert (stats["kernel"], stats["decode_kernel"]) == ("naive", "flash")
    assert (stats["kernel_calls"], stats["decode_kernel_calls"]) == (8, 6)


@pytest.mark.parametrize(
    ("how", "words"),
    [("abort()", "crashed with SIGABRT"), ("exit(0)", "ended the process with exit status 0")],
)
def test_a_crash_is_told_of_the_kernel_that_ran(
    model: str, tmp_path: Path, how: str, words: str
) -> None:
    (tmp_path / "crash.cpp").write_text(CRASHES.replace("HOW", how))
    (tmp_path / "right.cpp").write_text((shipped("csrc") / "kernels" / "naive.cpp").read_text())
    command = [sys.executable, "-m", "gpt149", "generate", "Hello", "-m", model, "-n", "3"]
    for first, second in (
        ("crash.cpp", "right.cpp"),
        ("right.cpp", "crash.cpp"),
        ("simd", "crash.cpp"),
        ("crash.cpp", "simd"),
    ):
        kernels = ["-a", first, "--decode-attention", second]
        done = subprocess.run([*command, *kernels], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"the kernel crash.cpp {words}" in done.stderr


@pytest.mark.usefixtures("_ctrl_c_counts")
def test_ctrl_c_shows_what_there_is(model: str, tmp_path: Path) -> None:
    (tmp_path / "slow.cpp").write_text(
        CRASHES.replace("HOW", "usleep(30000); return nullptr").replace("cstdlib", "unistd.h")
    )
    (tmp_path / "prompts.txt").write_text('{"prompt": "a", "n": 1}\n' + '{"prompt": "b"}\n' * 9)
    command = [sys.executable, "-u", "-m", "gpt149", "generate", "--prompts", "prompts.txt"]
    command += ["-m", model, "-a", "slow.cpp", "--batch", "2", "--ignore-eos"]
    with subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.read(1)
        time.sleep(0.3)
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out.endswith("\n")
    assert "Traceback" not in err
    assert "| interrupted" in err
    assert "7 of 10 prompts were not begun." in err
    assert "native engine" in err.splitlines()[-1]

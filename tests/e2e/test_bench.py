"""`bench` as its users run it, small; what is too good to be true is rejected."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpt149.cli import main
from gpt149.system.paths import shipped

SMALL = ("--attention-only", "-s", "2,48,16", "-s", "2,1x48,16", "--seconds", "0.3")
WRONG = Path(__file__).parents[1] / "wrong_kernels"


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_attention_alone(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    done = bench("naive", "torch", *SMALL, "-o", "json", "--save", saved)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    rows = {(row["kernel"], row["test"]): row for row in found["rows"]}
    assert set(rows) == {(k, s) for k in ("naive", "torch") for s in ("2,48,16", "2,1x48,16")}
    for row in rows.values():
        assert row["samples"] >= 3
        assert 0 < row["min_s"] <= row["median_s"]
        assert row["share_of_ceiling"] > 0
    assert rows["naive", "2,48,16"]["workspace_bytes"] == 4 * (48 * 48 + 3 * 16)
    assert rows["torch", "2,48,16"]["times_torch"] == 1
    ceilings = found["ceilings"]
    assert 1e9 < ceilings["flops_one_thread"] < 1e13
    assert len(ceilings["bandwidths"]) == 8
    said = re.search(
        r"([\d.]+) us and ([\d,]+) bytes are the harness's own", bench("naive", *SMALL).stdout
    )
    assert said
    assert float(said[1]) > 0
    assert int(said[2].replace(",", "")) > 0
    again = bench("naive", "torch", *SMALL, "--against", saved, "--threshold", "900%")
    assert again.exit_code == 0
    assert "times as fast" in again.stderr


VARIANTS = (
    *("2,48,16:window=5", "2,3x48,16:window=5", "2,48,16:softcap=1", "2,48,16:alibi"),
    *("2,48,16:sinks", "2,48,16:head_dim_v=8", "2,48,16:bf16"),
    "2,48,16:window=5:softcap=1:alibi:sinks:head_dim_v=24:bf16",
)


def test_variants_are_timed_or_said_to_be_missing() -> None:
    shapes = [part for shape in VARIANTS for part in ("-s", shape)]
    done = bench(
        *(
            "naive",
            "flash",
            "simd",
            "torch",
            "reference",
            "tests/right_kernels/plain_sequential.cpp",
        ),
        *("--attention-only", *shapes, "--seconds", "1", "-o", "jsonl"),
    )
    assert done.exit_code == 0, done.output
    rows = {(row["kernel"], row["test"]): row for row in map(json.loads, done.stdout.splitlines())}
    for shape in VARIANTS:
        for kernel in ("naive", "flash", "simd", "reference"):
            assert rows[kernel, shape]["samples"] >= 3, rows[kernel, shape]
        last = rows["tests/right_kernels/plain_sequential.cpp", shape]
        assert "does not claim" in last["skipped"]
    assert "a softcap" in rows["torch", "2,48,16:softcap=1"]["skipped"]
    assert rows["torch", "2,48,16:window=5"]["samples"] >= 3


@pytest.mark.parametrize(
    ("right", "wrong", "shape"),
    [
        ("gpt149_first(a, b, i)", "0", "2,48,16:window=5"),
        ("gpt149_sink(a, h)", "-INFINITY", "2,48,16:sinks"),
        ("gpt149_score(a, h, i, j, dot)", "a->scale * dot", "2,48,16:softcap=1"),
        ("gpt149_score(a, h, i, j, dot)", "a->scale * dot", "2,48,16:alibi"),
        ("gpt149_out(a, b, h, i), d_v", "gpt149_out(a, b, h, i), d_v - 1", "2,48,16:head_dim_v=8"),
        ("gpt149_load(a->kv_dtype, gpt149_v", "gpt149_load(0, gpt149_v", "2,48,16:bf16"),
    ],
)
def test_a_variant_that_is_claimed_and_ignored_is_rejected(
    right: str, wrong: str, shape: str, tmp_path: Path
) -> None:
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    assert right in text
    (tmp_path / "ignores.cpp").write_text(text.replace(right, wrong))
    file = tmp_path / "ignores.cpp"
    done = bench(file, "--attention-only", "-s", shape, "--seconds", "0.2", "-o", "jsonl")
    assert done.exit_code == 1
    assert "a timed result is wrong" in json.loads(done.stdout)["rejected"]


def test_generation_with_depths(tiny_model_dir: Path) -> None:
    done = bench(
        *("naive", "reference", "--generation-only", "-m", tiny_model_dir, "-p", "8", "-n", "4"),
        *("-d", "0,32", "--seconds", "0.3", "-o", "jsonl"),
    )
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["test"] for row in rows if row["kernel"] == "naive"] == ["pp8", "tg4", "tg4 @ d32"]
    for row in rows:
        assert row["tok_s"] > 0
        assert 0 < row["attention_share"] < 1
        assert row["peak_rss_bytes"] > 1e7
    assert rows[0]["ttft_s"] == rows[0]["median_s"]


def test_a_test_that_does_not_fit_is_skipped(tiny_model_dir: Path) -> None:
    done = bench(
        *("naive", "--generation-only", "-m", tiny_model_dir, "-p", "65", "-n", "0"),
        *("--seconds", "0.1", "-o", "jsonl"),
    )
    assert done.exit_code == 0
    assert "65 tokens do not fit into n_ctx, 64" in json.loads(done.stdout)["skipped"]


def test_wrong_and_fast_is_rejected(tiny_model_dir: Path) -> None:
    zeros = WRONG / "zeros.cpp"
    done = bench(zeros, "naive", *SMALL)
    assert done.exit_code == 1
    assert f"REJECTED {zeros}, 2,1x48,16: " in done.stdout
    assert "rejected" in done.stdout
    done = bench(
        *(zeros, "--generation-only", "-m", tiny_model_dir, "-p", "8", "-n", "0"),
        *("--seconds", "0.1", "-o", "jsonl"),
    )
    assert done.exit_code == 1
    assert "its logits are off by" in json.loads(done.stdout)["rejected"]


def test_a_result_that_was_kept_is_rejected(tmp_path: Path) -> None:
    """Right when `check` calls it, and when each call has buffers of its own; then it remembers."""
    file = tmp_path / "keeps.cpp"
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    text = text.replace(
        "static const char *run(const gpt149_args *a) {",
        "static const char *run(const gpt149_args *a) {\n"
        "    static const void *done[64];\n"
        "    for (const void *one : done)\n"
        "        if (one == a->out) return usleep(1000), nullptr;\n"
        "    static int n = 0;\n"
        "    if (a->n_q == 48) done[n++ % 64] = a->out;\n",
    )
    file.write_text(f"#include <unistd.h>\n{text}")
    done = bench(file, "--attention-only", "-s", "2,48,16", "--seconds", "0.2", "-o", "jsonl")
    assert done.exit_code == 1
    assert "a timed result is wrong" in json.loads(done.stdout)["rejected"]


def remembering(folder: Path, key: str, then: str) -> Path:
    """naive.cpp that knows the times `n` that it met this `key` before, and `then` does what."""
    text = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    text = text.replace("const char *run(", "const char *compute(")
    text = text.replace(
        "GPT149_KERNEL",
        """
static const char *run(const gpt149_args *a) {
    using Floats = std::vector<float>;
    const int d = a->head_dim;
    Floats key;
    const auto look = [&](const float *row) { key.insert(key.end(), row, row + d); };
    for (int h = 0; h < a->n_head; h++) {
        KEY
    }
    static std::map<Floats, std::pair<int, std::map<int, Floats>>> memory;
    auto &[times, kept] = memory[key];
    const int n = times++;
    if (const char *why = compute(a)) return why;
    const auto replay = [&](int h, int i, bool old) {
        float *row = gpt149_out(a, 0, h, i);
        Floats &before = kept[h * a->n_q + i];
        if (old) std::copy(before.begin(), before.end(), row);
        else before.assign(row, row + d);
    };
    for (int h = 0; h < a->n_head; h++)
        for (int i = 0; i < a->n_q; i++) {
            THEN
        }
    return nullptr;
}

GPT149_KERNEL""",
    )
    file = folder / "remembers.cpp"
    headers = "#include <algorithm>\n#include <map>\n#include <vector>\n"
    file.write_text(headers + text.replace("KEY\n", key + "\n").replace("THEN", then))
    return file


@pytest.mark.parametrize(
    "old",
    [
        pytest.param("n >= 10", id="right-ten-times"),
        pytest.param("n % 10", id="right-once-in-ten"),
        pytest.param("n >= 1", id="by-content"),
        pytest.param("n >= 1 && h % 2", id="half-of-the-heads"),
        pytest.param("n >= 1 && i < a->n_q - 1", id="all-but-the-last-row"),
        pytest.param("n >= 1 && i > 0", id="all-but-the-first-row"),
        pytest.param("n >= 1 && i > 0 && i < a->n_q - 1", id="rows-between"),
    ],
)
def test_what_replays_is_rejected(old: str, tmp_path: Path) -> None:
    """Results are kept by the middle rows, and by the sign of the last query's first number."""
    key = "look(gpt149_q(a, 0, h, 24)), look(gpt149_k(a, 0, h, 24)), look(gpt149_v(a, 0, h, 24));"
    key += " if (!h) key.push_back(gpt149_q(a, 0, 0, 47)[0] < 0);"
    file = remembering(tmp_path, key, f"replay(h, i, {old});")
    done = bench(file, "--attention-only", "-s", "2,48,16", "--seconds", "0.2", "-o", "jsonl")
    assert done.exit_code == 1
    assert "kept from an earlier call" in json.loads(done.stdout)["rejected"]


def test_what_replays_in_a_model_is_rejected(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Right in each layer ten times, then what it gave there before; a layer is its cache."""
    key = "if (!h) key.push_back(((intptr_t)a->k >> 4) % (1 << 24));"
    file = remembering(tmp_path, key, "replay(h, i, n >= 10);")
    done = bench(
        *(file, "--generation-only", "-m", tiny_model_dir, "-p", "8", "-n", "0"),
        *("--seconds", "0.1", "--threads", "1", "-o", "jsonl"),
    )
    assert done.exit_code == 1
    assert "its logits are off by" in json.loads(done.stdout)["rejected"]


@pytest.mark.parametrize("head", [0, 1])
def test_no_inputs_of_a_head_come_twice(head: int, tmp_path: Path) -> None:
    """So who memoises by all of the content never finds it again, and gains nothing."""
    key = f"if (h == {head}) for (int i = 0; i < 48; i++) "
    key += "look(gpt149_q(a, 0, h, i)), look(gpt149_k(a, 0, h, i)), look(gpt149_v(a, 0, h, i));"
    file = remembering(tmp_path, key, 'if (n) return "this was asked before";')
    done = bench(file, "--attention-only", "-s", "2,48,16", "--seconds", "0.2", "-o", "jsonl")
    row = json.loads(done.stdout)
    assert (done.exit_code, row["skipped"], row["rejected"]) == (0, "", "")


@pytest.mark.parametrize("name", ["segfault", "declines"])
def test_crashes_are_rejected_and_declining_is_not(name: str) -> None:
    done = bench(WRONG / f"{name}.cpp", "naive", *SMALL, "-o", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(row["samples"] >= 3 for row in rows if row["kernel"] == "naive")
    mine = [row for row in rows if row["kernel"] != "naive"]
    if name == "declines":
        assert done.exit_code == 0
        assert all("declines" in row["skipped"] for row in mine)
    else:
        assert done.exit_code == 1
        assert any("SIGSEGV" in row["rejected"] for row in mine)


def test_a_kernel_that_takes_too_much_memory_is_skipped() -> None:
    done = bench(WRONG / "eats_memory.cpp", "--attention-only", "-s", "2,80,16", "-o", "jsonl")
    assert done.exit_code == 0
    assert "it took more than 2 GiB" in json.loads(done.stdout)["skipped"]


def test_the_report_is_written(tmp_path: Path) -> None:
    file = tmp_path / "out.html"
    command = ["bench", "naive", *SMALL, "--report", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "gpt149", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = file.read_text()
    assert page.startswith("<!doctype html>")
    assert "4,2048,64" in page
    assert f"gpt149 {' '.join(command)}" in page
    assert page.count("<script>") == 1
    for line in done.stdout.splitlines():
        if line.split()[:2] == ["naive", "4,2048,64"]:
            ms = line.split()[2]
            assert f'<td data-sort="{ms}">{ms}</td>' in page
            break
    else:
        pytest.fail(f"no row of 4,2048,64 in {done.stdout}")


def test_what_bench_refuses(tmp_path: Path) -> None:
    for arguments, words in (
        (("flsh",), "Did you mean 'flash'"),
        (("-p", "many"), "-p is 'many'"),
        (("-d", "-5"), "-d is '-5'"),
        (("-n", "-1"), "-n is -1"),
        (("--seconds", "nan"), "--seconds nan"),
        (("--attention-only", "--generation-only"), "nothing to measure"),
        (("-s", "12,64"), "must be HEADS,TOKENS,DIM"),
        (("-s", "12,64,8:window"), "'window' in the shape"),
        (("--threshold", "lots"), "is not a share"),
        (("--against", tmp_path / "none.json"), "cannot read"),
        (("naive", *SMALL, "--save", tmp_path / "none" / "x.json"), "cannot write"),
    ):
        done = bench(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.stderr


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path) -> None:
    bench("naive", *SMALL)  # the ceilings are measured by now
    saved = tmp_path / "run.json"
    command = [sys.executable, "-m", "gpt149", "bench", "naive", "--attention-only"]
    shapes = [part for n in range(8, 40) for part in ("-s", f"1,{n},8")]
    process = subprocess.Popen(
        [*command, *shapes, "--seconds", "60", "--save", str(saved)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    time.sleep(8)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted: what is missing was not measured." in out
    found = json.loads(saved.read_text())
    assert 0 < len(found["rows"]) < 32
    assert found["interrupted"] is True


def test_runs_of_other_terms_are_not_compared(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    assert bench("naive", *SMALL, "--threads", "1", "--save", saved).exit_code == 0
    for option, value, said in (
        ("--threads", "2", "--threads 1, and this would be with --threads 2"),
        ("-m", "random:tiny", "-m shakespeare, and this would be with -m random:tiny"),
    ):
        done = bench("naive", *SMALL, "--threads", "1", "--against", saved, option, value)
        assert done.exit_code == 2
        assert said in done.stderr


def test_runs_without_a_common_row_are_not_compared(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    assert bench("naive", *SMALL, "--save", saved).exit_code == 0
    other = ("--attention-only", "-s", "1,16,8", "--seconds", "0.2", "--against", saved)
    done = bench("naive", *other)
    assert done.exit_code == 2
    assert "no row is in both runs" in done.stderr
    assert "naive 2,48,16" in done.stderr

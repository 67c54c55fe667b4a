"""Damaged model files end in a sentence and exit status 2, or are read as transformers reads them.

A new seed at each run; the cases of `modelfiles.corpus`, which once failed, come first. Set
GPT149_FUZZ_SEED to repeat a run, GPT149_FUZZ_SECONDS for a longer one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelfiles.corpus import CORPUS

TESTS = Path(__file__).resolve().parents[1]
A_CASE_MAY_TAKE = 240.0  # seconds: one takes 15 ms; only what never ends is meant


def fuzzed(seed: str, seconds: float, cases: int) -> list[dict[str, Any]]:
    """What the child reports; raises AssertionError with the case at which it died or hung."""
    command = [sys.executable, "-m", "modelfiles.fuzz", seed, str(seconds), str(cases)]
    ended = ""
    try:
        done = subprocess.run(
            command,
            cwd=TESTS,
            capture_output=True,
            text=True,
            timeout=seconds + A_CASE_MAY_TAKE,
            check=False,
        )
        said, errors = done.stdout, done.stderr
        if done.returncode:
            ended = f"the child ended with {done.returncode}: {errors[-2000:]}"
    except subprocess.TimeoutExpired as e:
        said = (e.stdout or b"").decode()
        ended = "the child never ended"
    lines = [json.loads(line) for line in said.splitlines()]
    assert not ended, f"seed {seed}: {ended}, at {lines[-1] if lines else 'no case'}"
    return lines


def test_damaged_model_files_end_in_a_sentence_or_in_the_right_text() -> None:
    seed = os.environ.get("GPT149_FUZZ_SEED") or str(random.SystemRandom().randrange(10**9))
    seconds = float(os.environ.get("GPT149_FUZZ_SECONDS") or 6)
    print(f"GPT149_FUZZ_SEED={seed}")
    lines = fuzzed(seed, seconds, 10**6)
    done = {line["case"]: line["done"] for line in lines if "case" in line}
    failed = [(line["failed"], done.get(line["failed"]), line["why"])
              for line in lines if "failed" in line]  # fmt: skip
    print(lines[-1])
    assert not failed, f"GPT149_FUZZ_SEED={seed}, {len(failed)} of {len(done)}: {failed[0]}"
    counts = lines[-1]["counts"]
    assert len(done) > len(CORPUS)
    # A fuzzer that everything refuses, or nothing, would show nothing.
    assert counts["refused"] > 10
    assert counts.get("read, text", 0) > 0

"""A signal at any moment of any command: it ends, and nothing of it is left behind.

GPT149_SIGNALS is how many are tried.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODULE, KERNEL = TESTS / "cs149" / "module.cpp", TESTS / "right_kernels" / "own_memory.cpp"
COMMANDS = (
    ("generate", "ROMEO:", "-n", "900"),
    ("generate", "ROMEO:", "-n", "900", "-a", str(KERNEL)),
    ("generate", "ROMEO:", "-n", "200", "--engine", "torch", "-a", "flash"),
    ("check", str(KERNEL), "--full"),
    ("check", "naive", "flash", "--jobs", "2"),
    ("check", str(TESTS / "wrong_kernels" / "mask_rounded_up.cpp")),
    ("check", str(KERNEL), "--sanitize", "address"),
    ("bench", "naive", "simd", "--attention-only", "--seconds", "1"),
    ("bench", str(KERNEL), "--seconds", "1"),
    ("lab", str(MODULE)),
    ("eval", str(TESTS / "cs149" / "module.cpp")),
    ("kernels",),
    ("diff", "naive", "simd", "-n", "200"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
LONGEST = 3.0  # seconds before the signal
MARK = "GPT149_TRIAL"
TRIALS = int(os.environ.get("GPT149_SIGNALS", "8"))


def left(mark: str) -> list[str]:
    """Command lines of processes that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in found if line]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.usefixtures("_ctrl_c_counts")
@pytest.mark.parametrize("trial", range(TRIALS))
def test_nothing_is_left_behind(trial: int, tmp_path: Path) -> None:
    draw = random.Random(149 + trial)
    command, number = draw.choice(COMMANDS), draw.choice(SIGNALS)
    send, wait = draw.choice((os.kill, os.killpg)), draw.uniform(0, LONGEST)
    mark, temporary = f"{os.getpid()}-{trial}", tmp_path / "tmp"
    temporary.mkdir()
    # A cache of its own now and then: then a compiler is at work.
    cache = {"GPT149_CACHE": str(tmp_path / "cache")} if draw.random() < 0.3 else {}
    shared = set(Path("/dev/shm").glob("gpt149-*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "gpt149", *command], cwd=tmp_path, start_new_session=True,
        env=os.environ | {MARK: mark, "TMPDIR": str(temporary)} | cache,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        time.sleep(wait)
        if process.poll() is None:
            send(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert b"Traceback" not in said, said.decode()
        for _ in range(250):
            if not (rest := left(mark)):
                break
            time.sleep(0.02)
        assert not rest, (command, number, send, wait)
        assert set(Path("/dev/shm").glob("gpt149-*")) <= shared
        if number != signal.SIGKILL:  # at which nobody can tidy up
            assert not list(temporary.iterdir())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    ("raised", "status"), [("sys.exit(143)", 143), ("raise KeyboardInterrupt", 130)]
)
def test_what_swallows_exceptions_does_not_swallow_a_signal(raised: str, status: int) -> None:
    program = f"""
import sys
from gpt149.cli import end_from_anywhere
sys.unraisablehook = end_from_anywhere
class Held:
    def __del__(self):
        {raised}
Held()
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")

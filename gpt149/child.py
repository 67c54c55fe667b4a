"""A user's kernel is native code that may do anything: commands that use one run in a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from .errors import KernelCrashed

MARK = "GPT149_CHILD"


def in_child() -> bool:
    """Whether this process is the child that may run a user's kernel."""
    return MARK in os.environ


def run_in_child(kernel: str) -> int:
    """Run this very command line again in a child process; returns its exit status.

    Raises:
        KernelCrashed: a signal killed the child.
    """
    command = [sys.executable, "-m", "gpt149", *sys.argv[1:]]
    with subprocess.Popen(command, env={**os.environ, MARK: "1"}) as child:
        # Ctrl-C reaches the whole foreground group: the child answers it, we wait for the answer.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            status = child.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    if status < 0:
        raise KernelCrashed(
            f"the kernel {kernel} crashed with {signal.Signals(-status).name}: "
            f"{signal.strsignal(-status)}. The text above is what came before."
        )
    return status

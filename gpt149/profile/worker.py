"""The child that a kernel is watched in: timed calls, samples of one, and one step by step."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from ctypes import c_int64, c_uint64
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..check.calls import NAN_BYTE, Command, Workspace, filled, tensor_views, without_pointers
from ..errors import Gpt149Error, KernelDeclined
from ..kernels.abi import Args, needs
from ..kernels.loaders.contract import ContractKernel, check_claims
from ..kernels.loaders.tensors import CONVERTED, TensorKernel
from ..kernels.registry import Kernel, load_described
from ..system.child import Reply, serve

ROW_COLUMNS = (
    19  # the address, where from, the thread, and 16 registers: see csrc/tools/sampler.cpp
)
MOST_SAMPLES = 1 << 17
SEED = 149
PAGES = 128  # fewer than a huge one
BLOCK = (1 << 18) + 19  # floats that are drawn; odd, so that no two rows are the same
DENORMAL_SCORE = -95.0
NOTHING = ("", False, 0)  # of inputs: their kind, whether they are bfloat16, how many floats


def main() -> None:
    """Arguments: the kernel as JSON, the sampler's library or "", the descriptor for answers."""
    described, sampler, answers = sys.argv[1:]
    serve(int(answers), lambda: _begin(described, sampler))


def _begin(described: str, sampler: str) -> tuple[Reply, Callable[[Reply], Reply]]:
    library = json.loads(described)["library"]
    own = Path(library) if library else None
    watcher = _Watcher(load_described(described), own, sampler)

    def answer(command: Reply) -> Reply:
        try:
            return {"outcome": "ok", **getattr(watcher, command["do"])(command)}
        except Gpt149Error as e:
            return {"outcome": "declined", "detail": str(e)}

    return {"isa": watcher.kernel.isa, "fault_seconds": fault_seconds()}, answer


def fault_seconds() -> float:
    """What the first touch of a page takes: the least of a few tries."""
    found = []
    for _ in range(5):
        fresh = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
        start = time.thread_time()
        for at in range(0, len(fresh), mmap.PAGESIZE):
            fresh[at] = 1
        found.append((time.thread_time() - start) / PAGES)
        fresh.close()
    return min(found)


def thread_clocks() -> dict[int, float]:
    """Seconds of CPU time of each thread of this process (Linux); {} elsewhere.

    Clocks of other threads have ids that hold theirs: see clock_getcpuclockid(3).
    """
    try:
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return {}
    clocks = {}
    for thread in threads:
        try:
            clocks[thread] = time.clock_gettime((~thread << 3) | 6)
        except OSError:  # it ended
            continue
    return clocks


def dealt(seconds: Sequence[float], at_once: int) -> list[float]:
    """Times of threads that ended, as those of the `at_once` that were there at the same time."""
    n = max(1, min(at_once, len(seconds)))
    return [sum(seconds[first::n]) for first in range(n)] if seconds else []


class _Watcher:
    """One kernel, and the library that samples."""

    def __init__(self, kernel: Kernel, library: Path | None, sampler: str) -> None:
        self.kernel = kernel
        self.memory, self.inputs = mmap.mmap(-1, mmap.PAGESIZE), NOTHING
        self.blocks: dict[bool, NDArray[np.float32]] = {}  # numbers that are drawn, by bfloat16
        self.workspace, self.asked = Workspace(0, NAN_BYTE), 0  # and what the last call asked for
        self.sampler = ctypes.CDLL(sampler) if sampler else None
        self.library = library
        if self.sampler:
            for name in ("gpt149_step", "gpt149_sample_end", "gpt149_ended"):
                getattr(self.sampler, name).restype = c_int64

    def _fill(self, command: Command) -> None:
        """Memory that holds the command's tensors, with numbers in it."""
        n, half = command["floats"], bool(command["shape"]["dtype"])
        kind = command["inputs"]
        if n > len(self.memory) // 4:
            self.memory, self.inputs = mmap.mmap(-1, 4 * n), NOTHING
            self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        floats = np.frombuffer(self.memory, np.float32)[:n]
        # Numbers are as good for tensors that lie elsewhere, unless they are those of a variant.
        if (kind, half) != self.inputs[:2] or n > self.inputs[2] or kind == "denormal":
            self._draw(command, floats)
            self.inputs = kind, half, n
        if command["vectors"]:
            self.inputs = NOTHING
        for name, vector in command["vectors"].items():
            start = command["tensors"][name][0]
            floats[start : start + len(vector)] = vector

    def _draw(self, command: Command, floats: NDArray[np.float32]) -> None:
        block = self._block(bool(command["shape"]["dtype"]))
        for start in range(0, len(floats), BLOCK):
            floats[start : start + BLOCK] = block[: min(BLOCK, len(floats) - start)]
        if (
            command["inputs"] == "denormal"
        ):  # one key scores 0, and the weights of the others are denormal
            shape, tensors = command["shape"], command["tensors"]
            q, k = (tensors[name][0] for name in "qk")
            floats[q:k] = 1
            floats[k : tensors["v"][0]] = DENORMAL_SCORE / shape["head_dim"] / shape["scale"]
            for h in range(shape["n_kv_head"]):
                first = k + h * tensors["k"][1][1]
                floats[first : first + shape["head_dim"]] = 0

    def _block(self, half: bool) -> NDArray[np.float32]:
        if half not in self.blocks:
            block = np.random.default_rng(SEED).standard_normal(2 * BLOCK, np.float32)
            if half:  # two of bfloat16 in each
                block = np.array(block.view(np.uint16)[1::2]).view(np.float32)
            self.blocks[half] = block
        return self.blocks[half]

    def prepare(self, command: Command) -> Callable[[], object]:
        """The call that a command describes."""
        self._fill(command)
        if isinstance(self.kernel, TensorKernel):
            return self._tensors(self.kernel, command)
        args = self._args(self.kernel, command)
        kernel = self.kernel
        return lambda: kernel.run(args)

    def _args(self, kernel: ContractKernel, command: Command) -> Args:
        args = filled(self.base, command)
        self.asked = kernel.workspace_bytes(without_pointers(args))
        if self.asked > self.workspace.n_bytes:  # to fill it takes longer than many a call
            self.workspace = Workspace(self.asked, NAN_BYTE)
        args.workspace = self.workspace.address
        return args

    def _tensors(self, kernel: TensorKernel, command: Command) -> Callable[[], object]:
        import torch

        needed = needs(filled(self.base, command))
        if needed & CONVERTED:
            raise KernelDeclined(
                f"the kernel '{kernel.name}' is a function of tensors, which gets float32 whatever "
                "the model has. Ask for a shape without :bf16."
            )
        check_claims(kernel.name, kernel.features, needed)
        shape = command["shape"]
        torch.set_num_threads(shape["n_threads"])
        views = tensor_views(self.memory, command)
        q, k, v, _ = (views.pop(name) for name in ("q", "k", "v", "out"))
        options = {name: shape[name] for name in ("window", "softcap", "head_dim_v") if shape[name]}
        options |= {"causal": shape["causal"], "scale": shape["scale"], **views}
        return lambda: kernel.function(q, k, v, **options)

    def time(self, command: Command) -> Reply:
        """Calls, each with its wall and CPU time, that of each thread, and its page faults."""
        run = self.prepare(command)
        calls = []
        if self.sampler:
            self.sampler.gpt149_flush_denormals(command["flush"])
        for _ in range(command["repeat"]):
            self._ended()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            before, cpu, wall = thread_clocks(), time.process_time(), time.perf_counter()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            after, used = thread_clocks(), resource.getrusage(resource.RUSAGE_SELF)
            threads = [seconds - before.get(thread, 0.0) for thread, seconds in after.items()]
            ended, n_ended, at_once = self._ended()
            threads += dealt(ended, at_once)
            calls.append(
                {
                    "wall": wall,
                    "cpu": cpu,
                    "system": used.ru_stime - usage.ru_stime,
                    "faults": used.ru_minflt - usage.ru_minflt,
                    "threads": sorted(threads, reverse=True),
                    "begun": n_ended,
                }
            )
        if self.sampler:
            self.sampler.gpt149_flush_denormals(0)
        return {"calls": calls, "workspace_bytes": self.asked}

    def _ended(self) -> tuple[list[float], int, int]:
        """CPU seconds of threads that ended since; how many, and how many were there at once."""
        if self.sampler is None:
            return [], 0, 0
        into, n, at_once = ctypes.POINTER(c_int64)(), c_int64(), c_int64()
        kept = self.sampler.gpt149_ended(ctypes.byref(into), ctypes.byref(n), ctypes.byref(at_once))
        return [into[i] / 1e9 for i in range(kept)], n.value, at_once.value

    def sample(self, command: Command) -> Reply:
        """Where threads are, every so many `nanoseconds`, until `seconds` are over.

        Rows go to the file `into`. Addresses of the kernel are those of its file; of others, the
        address is 0, and `site` is where the kernel called from, or 0.
        """
        if self.sampler is None or self.library is None:
            return {"rows": 0}
        run, (start, begin, end) = self.prepare(command), code_of(self.library)
        rows: NDArray[np.uint64] = np.zeros((MOST_SAMPLES, ROW_COLUMNS), np.uint64)
        run()
        failed = self.sampler.gpt149_sample_begin(
            c_uint64(begin), c_uint64(end), rows.ctypes.data_as(ctypes.c_void_p),
            c_int64(len(rows)), c_int64(command["nanoseconds"]),
        )  # fmt: skip
        if failed:
            return {"rows": 0}
        stop = time.perf_counter() + command["seconds"]
        try:
            while time.perf_counter() < stop:
                run()
        finally:  # no signal may find rows that are gone
            n = self.sampler.gpt149_sample_end()
        rows = rows[:n]
        own = (rows[:, 0] >= begin) & (rows[:, 0] < end)
        rows = rows[own | (rows[:, 1] > 0)]  # else it is our own loop
        own = (rows[:, 0] >= begin) & (rows[:, 0] < end)
        rows[:, 0] = np.where(own, rows[:, 0] - np.uint64(start), 0)
        rows[:, 1] = np.where(own, 0, rows[:, 1] - np.uint64(start))
        np.save(command["into"], rows)
        return {"rows": len(rows)}

    def count(self, command: Command) -> Reply:
        """Instructions, cycles and cache misses of a call; or the error number of the refusal."""
        if self.sampler is None:
            return {"errno": errno.ENOSYS}
        run, counts = self.prepare(command), (c_uint64 * 3)()
        run()
        if refused := self.sampler.gpt149_count_begin():
            return {"errno": refused}
        run()
        self.sampler.gpt149_count_end(counts)
        return {"errno": 0, "counts": list(counts)}

    def step(self, command: Command) -> Reply:
        """One call, an instruction at a time: rows go to the file `into`."""
        kernel = self.kernel
        if self.sampler is None or self.library is None or not isinstance(kernel, ContractKernel):
            return {"rows": 0}
        start, begin, end = code_of(self.library)
        self._fill(command)
        args = self._args(kernel, command)
        kernel.run(args)  # what the first call alone does is not of interest
        rows: NDArray[np.uint64] = np.zeros((command["most"], ROW_COLUMNS), np.uint64)
        outside = c_int64(0)
        n = self.sampler.gpt149_step(
            ctypes.cast(kernel.entry.run, ctypes.c_void_p), ctypes.byref(args),
            c_uint64(begin), c_uint64(end), rows.ctypes.data_as(ctypes.c_void_p),
            c_int64(len(rows)), ctypes.byref(outside),
        )  # fmt: skip
        if n < 0:
            return {"rows": 0}
        rows = rows[:n]
        rows[:, 0] -= np.uint64(start)
        np.save(command["into"], rows)
        return {"rows": n, "whole": n + outside.value < command["most"]}

    def workspace_asked(self, command: Command) -> Reply:
        """Bytes of workspace that a call would ask for; 0 for what asks for none."""
        if not isinstance(self.kernel, ContractKernel):
            return {"bytes": 0}
        return {"bytes": self.kernel.workspace_bytes(without_pointers(filled(0, command)))}


def code_of(library: Path) -> tuple[int, int, int]:
    """Where a library is mapped, and where its code begins and ends there."""
    start = begin = end = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or Path(fields[5]) != library.resolve():
            continue
        low, high = (int(word, 16) for word in fields[0].split("-"))
        start = start or low  # of the file's first page, which may be mapped again with the code
        if "x" in fields[1]:
            begin, end = low, high
    return start, begin, end

"""The engine in C++ (csrc/engine/), fed through ctypes; imports no torch.

It runs kernels of the contract; weights are packed once, in float32, bfloat16, int8 or int4.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ctypes import byref, c_char_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, KernelDeclined
from ..kernels import abi
from ..kernels.build import file_digest
from ..kernels.loaders.contract import ContractKernel, check_claims, check_tiles, declined
from ..kernels.registry import Kernel
from ..model.checkpoint import Checkpoint
from ..system.mapping import Mapping, origin, unwritten
from ..system.threads import checked_threads
from .binding import DRAW, MATRICES, RUN, VECTORS, Config, Library, library
from .choices import DTYPES, KV_DTYPES, check_choice
from .packed import Entry
from .protocol import Burst, assigned, checked_n_ctx
from .sampling import CSampling

SCREENED_BYTES = 16 << 20  # of a head in float32, from which on reading all of it costs
SCREENED = ("float32", "bf16")  # others are no larger than the copy
BURST_SECONDS = 0.02  # of tokens chosen without a look at them: text still flows

F32 = NDArray[np.float32]


class NativeEngine:
    """See `protocol.Engine`. Also chooses tokens itself: see `protocol.Decoder`."""

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        kernel: ContractKernel,
        *,
        decode_kernel: ContractKernel | None = None,
        n_threads: int | None = None,
        n_ctx: int | None = None,
        br: int = 0,
        bc: int = 0,
        dtype: str = "float32",
        kv_dtype: str = "float32",
        screened: bool | None = None,
    ) -> None:
        """dtype: of the weights, one of DTYPES. kv_dtype: of the KV cache, one of KV_DTYPES.

        screened: whether a head in float32 or bf16 has a copy in int8, for decoding to read instead
        of most of it, without filters or with top-k (csrc/engine/screen.h); None: if it is large.

        Raises:
            InputError: a value that means nothing, or there is not enough memory.
            BuildError, MissingDependency: the engine cannot be compiled.
        """
        self.config, self.dtype, self.kv_dtype = checkpoint.config, dtype, kv_dtype
        self.kernel: Kernel = kernel
        self.decode_kernel: Kernel = decode_kernel or kernel
        self.n_threads = checked_threads(n_threads)
        check_tiles(br, bc)
        self.n_ctx = checked_n_ctx(n_ctx, self.config)
        check_choice("dtype", dtype, DTYPES)
        check_choice("kv_dtype", kv_dtype, KV_DTYPES)
        self._kv_type = np.dtype(np.float32 if kv_dtype == "float32" else np.uint16)
        self.ids: list[list[int]] = [[]]
        self._slots = [0]  # of the KV cache, one a sequence
        self.calls = 0
        if screened is None:
            screened = 4 * self.config.n_embd * self.config.vocab_size >= SCREENED_BYTES
        units = library(dtype, screened=screened and dtype in SCREENED)
        self._library = units.engine
        self._engine = self._new(units, br, bc)
        self._load(checkpoint.weights, units.built)
        self._reserve(1)

    def __del__(self) -> None:
        if getattr(self, "_engine", None):
            self._library.gpt149_engine_free(self._engine)

    @property
    def length(self) -> int:
        return max(map(len, self.ids), default=0)

    @property
    def attention_seconds(self) -> float:
        return float(self._library.gpt149_engine_attention_seconds(self._engine))

    def feed(self, ids: Sequence[Sequence[int]]) -> F32:
        """See `protocol.Engine`; raises KernelDeclined."""
        fed = sum(1 for new in ids if new)
        logits = np.empty((fed, self.config.vocab_size), np.float32)
        self._step(ids, logits, every=False)
        return logits

    def logits(self, ids: Sequence[int]) -> F32:
        """One step of the only sequence: what follows each id, (n, vocab_size)."""
        logits = np.empty((len(ids), self.config.vocab_size), np.float32)
        self._step([ids], logits, every=True)
        return logits

    def _step(self, ids: Sequence[Sequence[int]], logits: F32, *, every: bool) -> None:
        fed, runs = self._runs(ids)
        why = self._library.gpt149_engine_step(
            self._engine, self._kernel(), _address(fed), _address(runs), len(runs),
            _address(logits), every,
        )  # fmt: skip
        self._check(why)
        self.calls += self.config.n_layer
        self.ids = [old + list(new) for old, new in zip(self.ids, ids, strict=True)]

    def decode(self, burst: Burst) -> list[list[int]]:
        """See `protocol.Decoder`; raises KernelDeclined."""
        fed, runs = self._runs(burst.ids, more=burst.n - 1)
        run_of = {s: run for run, s in enumerate(s for s, new in enumerate(burst.ids) if new)}
        draws = np.array(
            [(d.seed, d.step, run_of[d.sequence], d.sample) for d in burst.draws], DRAW
        )
        assert burst.n == 1 or draws["run"].tolist() == list(range(len(runs)))
        seen = self._seen(burst) if burst.sampling.repetition_penalty != 1 else None
        chosen, why = np.empty((burst.n, len(draws)), np.int32), c_char_p()
        done = self._library.gpt149_engine_decode(
            self._engine, self._kernel(), _address(fed), _address(runs), len(runs),
            byref(CSampling.of(burst.sampling)), burst.known, _address(seen), _address(draws),
            len(draws), -1 if burst.stop is None else burst.stop, BURST_SECONDS, burst.n,
            _address(chosen), _address(self._logits), byref(why),
        )  # fmt: skip
        self._check(why.value)
        self.calls += max(1, done) * self.config.n_layer
        for sequence, new in enumerate(burst.ids):
            self.ids[sequence] += new
            if sequence in run_of and done > 1:
                self.ids[sequence] += chosen[: done - 1, run_of[sequence]].tolist()
        tokens: list[list[int]] = chosen[:done].tolist()
        return tokens

    def _runs(
        self, ids: Sequence[Sequence[int]], *, more: int = 0
    ) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """What is fed, (rows,), and to which sequences, (runs,), each of which has room for `more`
        tokens behind it.
        """
        runs, row = [], 0
        for slot, held, new in zip(self._slots, self.ids, ids, strict=True):
            assert not new or len(held) + len(new) + more <= self.n_ctx
            if new:
                runs.append((slot, len(held), len(new), row))
            row += len(new)
        return np.array([token for new in ids for token in new], np.int32), np.array(runs, RUN)

    def _seen(self, burst: Burst) -> NDArray[np.uint8]:
        """Marks of what each draw's sequence has, or is about to be fed: (draws, vocab_size)."""
        seen = np.zeros((len(burst.draws), self.config.vocab_size), np.uint8)
        for marks, draw in zip(seen, burst.draws, strict=True):
            marks[self.ids[draw.sequence]] = marks[list(burst.ids[draw.sequence])] = 1
        return seen

    @contextmanager
    def using(self, kernel: Kernel) -> Iterator[None]:
        mine, self.kernel = self.kernel, kernel
        try:
            yield
        finally:
            self.kernel = mine

    def arrange(self, sources: Sequence[int | None]) -> None:
        ids, slots, k, v = self.ids, self._slots, self._k, self._v
        if len(sources) > k.shape[1]:
            self._reserve(len(sources))
        self._slots = assigned(slots, sources, self._k.shape[1])
        self.ids = [[] if source is None else list(ids[source]) for source in sources]
        for slot, source in zip(self._slots, sources, strict=True):
            if source is not None and (slot != slots[source] or self._k is not k):
                n = len(ids[source])
                self._k[:, slot, :, :n] = k[:, slots[source], :, :n]
                self._v[:, slot, :, :n] = v[:, slots[source], :, :n]

    def rewind(self, lengths: Sequence[int]) -> None:
        self.ids = [ids[:length] for ids, length in zip(self.ids, lengths, strict=True)]

    def clear(self) -> None:
        self.ids, self._slots = [[]], [0]
        if self._k.shape[1] > 1:
            self._reserve(1)

    def _kernel(self) -> ctypes.Array[abi.KernelEntry]:
        assert isinstance(self.kernel, ContractKernel)
        if self.kv_dtype != "float32":
            check_claims(
                self.kernel.name, self.kernel.features, abi.Feature.KV_BFLOAT16,
                others=", or --kv-dtype float32",
            )  # fmt: skip
        return byref(self.kernel.entry)  # type: ignore[return-value]

    def _check(self, why: bytes | None) -> None:
        if why is not None:
            raise declined(self.kernel.name, why)

    def _new(self, units: Library, br: int, bc: int) -> int:
        config = Config.of(
            self.config, n_ctx=self.n_ctx, kv_dtype=self.kv_dtype, n_threads=self.n_threads,
            br=br, bc=bc,
        )  # fmt: skip
        made: int | None = self._library.gpt149_engine_new(
            byref(config), units.weights, units.screen
        )
        if made is None:
            raise _no_memory()
        return made

    def _load(self, weights: dict[str, F32], built: Sequence[Path]) -> None:
        """Take the weights packed from the cache, or pack them, and keep them there behind that."""
        files = unwritten({f for w in weights.values() if isinstance(f := origin(w), Mapping)})
        tied = weights["lm_head.weight"] is weights["wte.weight"]
        made = (*map(str, built), file_digest(Path(__file__)), f"{self.config} {tied}")
        entry = Entry.of(weights, files, self.dtype, *made)
        there = entry is not None and entry.fill(self._library, self._engine)
        self._pack(weights, files)
        size = self._library.gpt149_engine_seal(self._engine)
        if entry and not there:
            keeping = threading.Thread(
                target=self._keep, args=(entry, size), daemon=True, name="gpt149-packed"
            )
            with suppress(RuntimeError):  # can't start new thread
                keeping.start()
                atexit.register(_wait_for, keeping)

    def _keep(self, entry: Entry, size: int) -> None:
        """In a thread of its own, for which the engine stays alive: tokens come first."""
        os.nice(10)  # on Linux, of the thread
        entry.keep(self._library, self._engine, size)

    def _pack(self, weights: dict[str, F32], files: set[Mapping]) -> None:
        """Pack the weights, the largest first: a file's pages are let go as soon as that is done.

        Matrices that are there, packed, are not read.
        """
        lib, c = self._library, self.config
        head, table = weights["lm_head.weight"], weights["wte.weight"]
        ends = [
            _whole(head),
            None if table is head else _whole(table),
            _whole(weights["wpe.weight"]),
            _whole(weights["ln_f.weight"]),
            self._bias(weights, "ln_f.bias", c.n_embd),
        ]
        good = lib.gpt149_engine_ends(self._engine, *(_address(a) for a in ends))
        _let_go(files)
        for layer in range(c.n_layer):
            lib.gpt149_engine_scale(self._engine, layer, c.scale(layer))
            for i, name in enumerate(VECTORS):
                vector = self._bias(weights, f"h.{layer}.{name}", c.n_embd)
                good &= lib.gpt149_engine_vector(self._engine, layer, i, _address(vector))
            for i, name in enumerate(MATRICES):
                w = np.require(weights[f"h.{layer}.{name}.weight"], np.float32, "A")
                if 4 not in w.strides:
                    w = _whole(w)
                outputs, inputs = w.shape
                bias = self._bias(weights, f"h.{layer}.{name}.bias", outputs)
                good &= lib.gpt149_engine_matrix(
                    self._engine, layer, i, _address(w), inputs, outputs, w.strides[1] // 4,
                    w.strides[0] // 4, _address(bias),
                )  # fmt: skip
                _let_go(files)
        if not good:
            raise _no_memory()

    @staticmethod
    def _bias(weights: dict[str, F32], name: str, n: int) -> F32:
        """A vector; zeros where the model has none."""
        return _whole(weights[name]) if name in weights else np.zeros(n, np.float32)

    def _reserve(self, n_slots: int) -> None:
        """A KV cache of untouched memory for so many sequences."""
        c = self.config
        size = (c.n_layer, n_slots, c.n_head, self.n_ctx, c.head_dim)
        self._k, self._v = (_untouched(size, self._kv_type) for _ in range(2))
        self._logits = np.empty((n_slots, c.vocab_size), np.float32)  # that bursts choose from
        self._library.gpt149_engine_cache(
            self._engine, _address(self._k), _address(self._v), n_slots
        )


def reads_bfloat16(kernel: ContractKernel, head_dim: int) -> bool:
    """Whether keys and values in bfloat16 are read as such: a single value must come back whole.

    A kernel that overlooks their type is not taken at its word.
    """
    value = np.arange(1, head_dim + 1, dtype=np.float32) % 128
    kv = np.zeros((2, head_dim), np.uint16)  # with room for who reads it as float32
    kv[0] = value.view(np.uint32) >> 16
    q, out = np.ones(head_dim, np.float32), np.zeros(head_dim, np.float32)
    args = abi.shape_args(
        batch=1, n_head=1, n_kv_head=1, head_dim=head_dim, n_q=1, n_kv=1, causal=True, scale=1.0,
        n_threads=1, kv_dtype=abi.BFLOAT16,
    )  # fmt: skip
    for name in ("q_stride", "k_stride", "v_stride", "out_stride"):
        setattr(args, name, abi.Strides(head_dim, head_dim, head_dim))
    try:
        workspace = _untouched((max(1, kernel.workspace_bytes(args)),), np.dtype(np.uint8))
        args.q, args.k, args.v, args.out, args.workspace = (
            _address(a) for a in (q, kv, kv, out, workspace)
        )
        kernel.run(args)
    except KernelDeclined:
        return False
    return np.allclose(out, value)


def _address(array: NDArray[np.generic] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _whole(array: F32) -> F32:
    return np.require(array, np.float32, ["A", "C"])


def _untouched(size: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory that counts page by page as it is used, where numpy's would in pages of 2 MB."""
    try:
        memory = mmap.mmap(-1, math.prod(size) * dtype.itemsize)
    except (OSError, OverflowError, ValueError) as e:
        raise _no_memory() from e
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(size)


def _no_memory() -> InputError:
    return InputError(
        "there is not enough memory for the weights and the KV cache. Ask for a shorter context "
        "(-c), fewer samples (--num-samples), or --dtype bf16, int8 or int4."
    )


def _wait_for(thread: threading.Thread) -> None:
    with suppress(KeyboardInterrupt):
        thread.join()


def _let_go(files: set[Mapping]) -> None:
    """Drop the pages of mapped files; they can be read again, where nobody wrote to them."""
    for file in files:
        file.madvise(mmap.MADV_DONTNEED)

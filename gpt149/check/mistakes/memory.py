"""How memory is read: rows and columns, strides, heads, groups, batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..arena import Placed, place
from ..cases import Case
from .setup import Array, Change, Mistake, Setup, with_tensors


def layouts(case: Case) -> Iterator[Mistake]:
    for name in "qkv":
        n = case.n_q if name == "q" else case.n_kv

        def reshaped(setup: Setup, name: str = name, n: int = n) -> Setup:
            t = getattr(setup, name)
            return with_tensors(setup, {name: t.reshape(*t.shape[:2], -1, n).swapaxes(-1, -2)})

        yield Mistake(
            f"{name}_flat_reshape",
            f"{name.upper()}'s rows and columns are exchanged by reshaping: element (token j, dim "
            "s) is read at flat index s*n + j instead of j*head_dim + s",
            reshaped,
            name,
        )

        def transposed(setup: Setup, name: str = name) -> Setup:
            t = getattr(setup, name).copy()
            m = min(t.shape[2], t.shape[3])
            t[..., :m, :m] = t[..., :m, :m].swapaxes(-1, -2).copy()
            return with_tensors(setup, {name: t})

        yield Mistake(
            f"{name}_transposed",
            f"{name.upper()} is read with token and dim exchanged",
            transposed,
            name,
        )
    yield from _strides(case)


def _strides(case: Case) -> Iterator[Mistake]:
    placed = place(case)

    def reread(setup: Setup, name: str, strides: tuple[int, int, int]) -> Array:
        """The tensor as other strides would read it; NaN where that leaves the tensor."""
        p, t = placed[name], getattr(setup, name)
        size = max(p.span, Placed(0, p.shape, strides).span)
        memory = np.full(size, np.nan, np.float32)
        Placed(0, p.shape, p.strides).view(memory)[...] = t
        return Placed(0, p.shape, strides).view(memory).astype(np.float64)

    def contiguous(name: str) -> tuple[int, int, int]:
        _, h, n, d = placed[name].shape
        return (h * n * d, n * d, d)

    ignored = [n for n in ("q", "k", "v") if placed[n].strides != contiguous(n)]
    for names in ([ignored] if len(ignored) > 1 else []) + [[n] for n in ignored]:

        def inputs(setup: Setup, names: list[str] = names) -> Setup:
            return with_tensors(setup, {n: reread(setup, n, contiguous(n)) for n in names})

        yield Mistake(
            "strides_ignored",
            f"the strides of {', '.join(names)} are ignored: contiguous memory is assumed",
            inputs,
            "strides",
        )

    def scattered(out: Array) -> Array:
        p = placed["out"]
        memory = np.full(max(p.span, out.size), np.nan, np.float32)
        memory[: out.size] = out.reshape(-1)
        return Placed(0, p.shape, p.strides).view(memory).astype(np.float64)

    if placed["out"].strides != contiguous("out"):
        yield Mistake(
            "strides_ignored",
            "the strides of out are ignored: contiguous memory is assumed",
            lambda setup: replace(setup, after=(*setup.after, scattered)),
            "strides",
        )
        if ignored:

            def everything(setup: Setup) -> Setup:
                read = {n: reread(setup, n, contiguous(n)) for n in ignored}
                return replace(with_tensors(setup, read), after=(*setup.after, scattered))

            yield Mistake(
                "strides_ignored",
                "all strides are ignored: contiguous memory is assumed",
                everything,
                "strides",
            )
    for name, other in (("v", "k"), ("k", "v"), ("k", "q"), ("v", "q")):
        if placed[name].strides != placed[other].strides:
            yield Mistake(
                "wrong_stride",
                f"{name} is read with the strides of {other}",
                lambda setup, name=name, other=other: replace(  # type: ignore[misc]
                    setup, **{name: reread(setup, name, placed[other].strides)}
                ),
                "strides",
            )


def indexes(case: Case) -> Iterator[Mistake]:
    heads = np.arange(case.n_head)

    def first_head(setup: Setup) -> Setup:
        q = np.repeat(setup.q[:, :1], case.n_head, 1)
        return replace(setup, q=q, kv_head=np.zeros_like(setup.kv_head))

    def permuted(order: NDArray[np.intp]) -> Change:
        return lambda setup: replace(setup, q=setup.q[:, order], kv_head=setup.kv_head[order])

    def kv_heads(kv_head: NDArray[np.intp]) -> Change:
        return lambda setup: replace(setup, kv_head=kv_head)

    def first_batch(setup: Setup) -> Setup:
        read = {n: np.repeat(getattr(setup, n)[:1], case.batch, 0) for n in "qkv"}
        return with_tensors(setup, read)

    if case.n_head > 1:
        yield Mistake(
            "head_ignored", "the head index is ignored: all heads are head 0", first_head, "head"
        )
        for order, how in ((heads[::-1], "in reverse"), (np.roll(heads, 1), "shifted by one")):
            yield Mistake("head_mixed", f"the heads are mixed up: {how}", permuted(order), "head")
    if case.n_kv_head > 1:
        yield Mistake(
            "kv_head_ignored",
            "K and V are read from head 0 for every head",
            kv_heads(np.zeros_like(heads)),
            "head",
        )
    if 1 < case.n_kv_head < case.n_head:
        for mapping, how in (
            (heads % case.n_kv_head, "h % n_kv_head"),
            (np.minimum(heads, case.n_kv_head - 1), "min(h, n_kv_head - 1)"),
        ):
            yield Mistake(
                "group_mapping",
                f"grouped heads are mapped wrong: head h reads key head {how} instead of "
                "h / (n_head / n_kv_head)",
                kv_heads(mapping),
                "head",
            )
    if case.batch > 1:
        yield Mistake(
            "batch_ignored",
            "the batch index is ignored: all batches are batch 0",
            first_batch,
            "batch",
        )

    def swapped(setup: Setup) -> Setup:
        if case.n_q == case.n_kv and case.n_head == case.n_kv_head:
            return replace(setup, q=setup.k, k=setup.q)
        last_q = np.minimum(np.arange(case.n_kv), case.n_q - 1)
        last_k = np.minimum(np.arange(case.n_q), case.n_kv - 1)
        k = setup.k[:, setup.kv_head]
        return replace(
            setup,
            q=k[:, :, last_k],
            k=setup.q[:, :, last_q],
            v=setup.v[:, setup.kv_head],
            kv_head=heads,
        )

    def kv_swapped(setup: Setup) -> Setup:
        return replace(setup, k=setup.v, v=setup.k)

    if case.width == case.head_dim:
        yield Mistake("kv_swapped", "K and V are swapped", kv_swapped, "kv")
    yield Mistake("qk_swapped", "Q and K are swapped: scores are those of K Q^T", swapped, "qk")

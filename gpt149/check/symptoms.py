"""What can be said of failing cases from what they left behind, with nothing tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .finding import Finding, describe_rows
from .judge import EPS, SMALLEST
from .observe import Observation

CANCELLATION = "cancellation"
CANCELS = 4.0  # times 2^-24 of V's largest value


def without_values(failed: Sequence[Observation]) -> Iterator[Finding]:
    """What is wrong whatever the values are: crashes, and memory that is not the kernel's."""
    outcomes = {
        "crash": "the kernel crashes",
        "hang": "the kernel does not return",
        "memory": "the kernel allocates without end",
        "exit": "the kernel ends the process",
        "declined": "the kernel declines",
        "raised": "the kernel raises an exception",
        "workspace": "workspace_bytes asks for what cannot be given",
    }
    causes = {"memory": "out_of_memory", "exit": "exits", "declined": "declines"}
    causes["workspace"] = "workspace_bytes"
    for outcome, sentence in outcomes.items():
        hit = [o for o in failed if o.answer.outcome == outcome]
        if hit:
            first = min(hit, key=lambda o: o.case.work)
            yield Finding(
                causes.get(outcome, outcome),
                f"{sentence}: {first.answer.detail}" if first.answer.detail else sentence,
                f"{len(hit)} cases, the smallest '{first.case.name}' ({first.case.describe()})",
                len(hit) / len(failed),
            )
    changed = [o for o in failed if o.changed_inputs]
    if changed:
        names = sorted({name for o in changed for name in o.changed_inputs})
        yield Finding(
            "mutates_input",
            f"the kernel changes its input {', '.join(names)}",
            f"in {len(changed)} cases",
            len(changed) / len(failed),
        )
    outside = [o for o in failed if o.written_outside and not o.wrong]
    if outside:
        n, first_at = outside[0].written_outside or (0, 0)
        where = f"{first_at} elements behind its end" if first_at > 0 else "between or before rows"
        yield Finding(
            "writes_outside",
            f"the kernel writes outside of out: {n} elements, the first {where}",
            f"in {len(outside)} cases",
            len(outside) / len(failed),
        )
    unsteady = [o for o in failed if o.answer.workspace_unsteady]
    if unsteady:
        asked, again = unsteady[0].answer.workspace_unsteady or (0, 0)
        yield Finding(
            "workspace_changes",
            f"workspace_bytes is not the same twice: {asked:,} bytes, then {again:,} for the same "
            "call",
            f"'{unsteady[0].case.name}'",
            1.0,
        )
    overrun = [o for o in failed if o.answer.workspace_overrun]
    if overrun:
        yield Finding(
            "workspace_overrun",
            "the kernel writes outside of the workspace that it asked for",
            f"in {len(overrun)} cases, the smallest '{overrun[0].case.name}'",
            len(overrun) / len(failed),
        )


def by_pattern(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """What the shape of the error says where no reference matches."""
    outside = [o for o in wrong if o.from_outside.any()]
    if outside:
        yield Finding(
            "reads_outside",
            "it computes with memory that is not q, k or v: strides, head_dim or a length are "
            "taken for others",
            f"the NaN that lies around the inputs comes out in {len(outside)} of {len(wrong)} "
            f"failing cases; in '{outside[0].case.name}' ({outside[0].case.describe()}): "
            f"{describe_rows(outside[0].from_outside)}",
            0.5,
        )
        return
    if any(not np.isfinite(o.out).all() for o in wrong):
        first = next(o for o in wrong if not np.isfinite(o.out).all())
        yield Finding(
            "not_finite",
            f"NaN or infinity: {describe_rows(~np.isfinite(first.out))}",
            f"'{first.case.name}'",
            0.5,
        )
        return
    sizes = [_relative(o) for o in wrong]
    if max(sizes) < 2**-5 and min(sizes) > 2**-14:
        yield Finding(
            "half_precision",
            "the errors are those of half precision (8 to 11 bits) somewhere inside",
            f"relative error {min(sizes):.1e} to {max(sizes):.1e}, in every part of the output",
            0.5,
        )


def by_size(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """Errors that are no larger than the rounding of V: of something that cancels later."""
    sizes = []
    for o in wrong:
        assert o.verdict is not None
        group = o.case.n_head // o.case.n_kv_head
        largest = np.abs(o.v).max(2, keepdims=True).repeat(group, axis=1)
        off = np.abs(o.out.astype(np.float64) - o.verdict.expected.want)
        sizes.append(float((off / largest)[o.verdict.wrong].max()))
    if not sizes or not all(size <= CANCELS * EPS for size in sizes):  # NaN is not
        return
    yield Finding(
        CANCELLATION,
        f"errors are at most {max(sizes) / EPS:.1f} x 2^-24 of V's largest value, but far more "
        "than that of the result: something of V's size is rounded on the way and cancels later, "
        "as where a mean is corrected by (v - mean), or weights that should be 0 are not quite",
        f"in {len(wrong)} of {len(wrong)} failing cases",
        1.0,
    )


def _relative(o: Observation) -> float:
    assert o.verdict is not None
    return float(o.verdict.error / max(SMALLEST, np.abs(o.verdict.expected.want).max()))

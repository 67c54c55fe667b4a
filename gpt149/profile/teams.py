"""What threads do to each other, as causes."""

from __future__ import annotations

from collections.abc import Iterator

from .evidence import Cause, Evidence, gain

UNEVEN, INFLATED = 1.2, 1.35
MANY_FAULTS = 16
LEAST_SHARED, SHARED_LINE = 0.05, 4.0  # of the samples; times as fast, once it is one's own
SOME_SHARED, SOME_INFLATED = 0.01, 1.15  # less is enough where both say so
IN_TURN = 0.3  # of the work: then threads wait for each other, and seem to be one
BEGUN, BEGIN_SECONDS = 4, 20e-6
OFTEN, MEETING_SECONDS = 24, 5e-6  # queries a meeting of threads; what one takes


def threads(evidence: Evidence) -> Iterator[Cause]:
    """Idle, uneven, in each other's way, or too many."""
    f = evidence.found
    n = f.n_threads
    if f.begun > BEGUN * n:
        yield Cause(
            "barrier_bound",
            1 + f.begun / n * BEGIN_SECONDS / f.busy,
            f"{f.begun:,.0f} threads begin and end in a call, some {BEGIN_SECONDS * 1e6:.0f} us "
            "each: begin n_threads of them, and deal out the work to these",
        )
    if max(f.threads_of_one, f.workers - n + 1) > 1:
        yield Cause(
            "oversubscribed",
            max(f.workers / n, f.threads_of_one, 1.1),
            f"{max(f.workers, f.threads_of_one)} threads work, and {n} were asked for (n_threads): "
            "the others' processors are somebody else's",
        )
    if n == 1:
        return
    meeting = _meetings(evidence)
    if meeting:
        yield meeting
    elsewhere = max(f.many_heads_workers or 1, f.prefill_workers or 1, f.one_head_workers or 1)
    if max(evidence.alone, evidence.held) > IN_TURN:
        yield from _in_turn(evidence)
        return
    if f.workers == 1 and (elsewhere == 1 or f.shape.n_head > 1):
        yield Cause(
            "single_thread", float(n), f"one thread works, and {n} were asked for (n_threads)", True
        )
        return
    rows = "keys" if f.shape.n_q == 1 else "queries"
    if f.one_head_workers == 1:
        heads = f.shape.n_head
        wasted = -(-heads // n) * n / heads
        name = "parallel_over_heads_only"
        if f.shape.n_q == 1 and (f.prefill_workers or 1) > 1:
            name = "decode_not_split"
        yield Cause(
            name, wasted, f"of one head, one thread works: share out its {rows} as well", True
        )
    elif f.workers > 1 and f.imbalance and f.imbalance > UNEVEN and (f.uneven_full or 1) > UNEVEN:
        yield Cause(
            "poor_scaling",
            f.imbalance,
            f"the busiest thread works {f.imbalance:.2f} times as long as the mean, with a "
            "mask and without: a part is one thread's, or is dealt out unevenly",
            True,
        )
    elif f.workers > 1 and f.imbalance and f.imbalance > UNEVEN:
        yield Cause(
            "imbalance",
            f.imbalance,
            f"the busiest thread works {f.imbalance:.2f} times as long as the mean: with a mask, "
            "later queries see more keys. Deal rows out in turn (schedule(dynamic))",
            True,
        )
    else:
        yield from _in_turn(evidence)
    yield from _shared_lines(evidence, meeting is not None)


def _in_turn(evidence: Evidence) -> Iterator[Cause]:
    """What one thread does at a time; Amdahl's law."""
    n = evidence.found.n_threads
    for share, gained, why in (
        (
            evidence.alone,
            1 + evidence.alone * (n - 1),
            "is done by one thread, before others begin",
        ),
        (evidence.held, max(1.0, evidence.held * n), "is done under a lock, by a thread at a time"),
    ):
        yield Cause(
            "poor_scaling",
            gained,
            f"{share:.0%} of the work {why}: share it out, each thread in memory of its own",
            share=share,
        )


def _shared_lines(evidence: Evidence, meets: bool) -> Iterator[Cause]:
    """Threads that hinder each other by what they write."""
    f, c, shared = evidence.found, evidence.ceilings, evidence.shared
    natural = f.n_threads * c.flops_one_thread / c.flops
    alike = f.inflation and f.n_threads >= f.workers > 1 and f.faults < MANY_FAULTS
    inflated = f.inflation.median / natural if f.inflation and alike else 1.0
    atomic = bool(evidence.parts) and "atomics" in (evidence.parts or {})
    # Where stores are read, it is by them: neighbours slow a processor down as well.
    unread = evidence.parts is None and evidence.compiled
    both = f.inflation and alike and f.inflation.low > SOME_INFLATED * natural
    if shared and shared.share > (SOME_SHARED if both else LEAST_SHARED) and not atomic:
        estimate = gain(shared.share, SHARED_LINE)
        yield Cause(
            "false_sharing",
            max(inflated, estimate),
            "threads write to the same cache lines, each to its own part of them: keep what a "
            "thread writes 64 bytes apart from others'",
            inflated > estimate,
            shared.share,
            evidence.shared_place,
        )
    elif inflated > INFLATED and not meets and f.shape.n_q > 1 and (atomic or unread):
        yield Cause(
            "atomics" if atomic else "false_sharing",
            inflated,
            f"{f.n_threads} threads take {inflated:.2f} times the CPU time of one: they write to "
            "the same cache lines. Keep what a thread writes 64 bytes apart from others'",
            True,
            place=evidence.place("atomics"),
        )


def _meetings(evidence: Evidence) -> Cause | None:
    """Where threads meet for every few queries."""
    counts, f = evidence.counts, evidence.found
    if counts is None or counts.meetings < max(4, evidence.n_traced / OFTEN):
        return None
    meetings = counts.meetings * f.shape.n_q / evidence.n_traced  # whether a head or a call
    lost = meetings * MEETING_SECONDS
    return Cause(
        "barrier_bound",
        1 + lost / f.busy,
        f"threads meet {meetings:,.0f} times a call or more (regions, barriers), some "
        f"{MEETING_SECONDS * 1e6:.0f} us each: make one region of the call",
    )

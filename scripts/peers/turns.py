"""Peers in processes of their own that take turns, round by round: A B C A B C ...

What a question asks and what a run measures is the peers' own affair.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gpt149.system.child import Reply, serve
from gpt149.system.memory import peak_rss
from gpt149.system.talker import Ending, Talker

STARTS = 2  # the first also finds memory that the machine has yet to find
MEMORY = 16 << 30
TIMEOUT = 600.0
TURN_SECONDS = 0.25  # one run of a small model is a matter of when its threads wake
SETTLE_SECONDS = 1.0  # some peers' threads spin on for a while, and would slow the next one

# From a question to the seconds of what was timed, by name, and to what else there is to say.
Run = Callable[[Reply], tuple[dict[str, float], Reply]]


@dataclass
class Measured:
    """What a peer's turns came to.

    start: seconds from its process to its first answer. said: what else a run said.
    seconds: by name, a sample a round. peak_rss: bytes.
    """

    start: float
    said: Reply
    seconds: dict[str, list[float]]
    peak_rss: int


def serve_turns(answers: int, load: Callable[[], Run]) -> None:
    """In the child: load the peer, then answer questions, a turn each, on a descriptor.

    A turn runs once, and again until the question's `seconds` are over. It counts the medians.
    """

    def begin() -> tuple[Reply, Callable[[Reply], Reply]]:
        run = load()

        def answer(question: Reply) -> Reply:
            until = time.monotonic() + question["seconds"]
            first, said = run(question)
            finished = time.time()
            runs = [first]
            while time.monotonic() < until:
                runs.append(run(question)[0])
            seconds = {name: statistics.median(r[name] for r in runs) for name in first}
            return {"seconds": seconds, "said": said, "peak_rss": peak_rss(), "finished": finished}

        return {"ready": True}, answer

    serve(answers, begin)


def take_turns(
    commands: Mapping[str, Sequence[str]], first: Reply, question: Reply, rounds: int
) -> dict[str, Measured | str]:
    """What each peer measured, or why there is nothing.

    commands: by the peer's name, what starts a child that comes to `serve_turns`.
    first: the question of a start, which is the fastest of STARTS.
    question: of the warm-up, and then of every round.
    """
    found: dict[str, Measured | str] = {}
    players: dict[str, Talker] = {}
    once = {"seconds": 0}
    try:
        for name, command in commands.items():
            players[name] = Talker(command, MEMORY)
            starts = []
            for _ in range(STARTS):
                players[name].restart()
                born = time.time()
                started = players[name].ask(first | once, TIMEOUT)
                if isinstance(started, Ending):
                    break
                starts.append(started["finished"] - born)
            if isinstance(started, Ending):
                noise = players[name].noise().strip().splitlines() or [started.detail]
                found[name] = f"failed: {noise[-1][:100]}"
                continue
            warm = players[name].ask(question | once, TIMEOUT)  # some compile now
            assert isinstance(warm, dict)
            found[name] = Measured(min(starts), warm["said"], {s: [] for s in warm["seconds"]}, 0)
        for _ in range(rounds):
            for name, kept in found.items():
                if isinstance(kept, str):
                    continue
                time.sleep(SETTLE_SECONDS)
                reply = players[name].ask(question | {"seconds": TURN_SECONDS}, TIMEOUT)
                assert isinstance(reply, dict)
                for what, sample in reply["seconds"].items():
                    kept.seconds[what].append(sample)
                kept.peak_rss = reply["peak_rss"]
    finally:
        for player in players.values():
            with player:
                pass
    return found

"""Peers in processes of their own that take turns, round by round: A B C A B C ...

What a question asks and what a run measures is the peers' own affair.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from gpt149.system.child import Reply, serve
from gpt149.system.memory import peak_rss
from gpt149.system.talker import Ending, Talker

STARTS = 2  # the first also finds memory that the machine has yet to find
MEMORY = 16 << 30
TIMEOUT = 600.0
TURN_SECONDS = 0.25  # one run of a small model is a matter of when its threads wake
SETTLE_SECONDS = 1.0  # some peers' threads spin on for a while, and would slow the next one

Name = TypeVar("Name", str, int)  # a peer's, or its number of threads
# From a question to the seconds of what was timed, by name, and to what else there is to say.
Run = Callable[[Reply], tuple[dict[str, float], Reply]]


@dataclass
class Measured:
    """What a peer's turns came to.

    start: seconds from its process to its first answer; 0 where that was not timed. said: what
    else a run said. seconds: by name, a sample a round. peak_rss: bytes.
    """

    start: float
    said: Reply
    seconds: dict[str, list[float]]
    peak_rss: int

    @classmethod
    def empty(cls, reply: Reply) -> Measured:
        """Of a warm-up's reply: no samples yet."""
        return cls(0.0, reply["said"], {name: [] for name in reply["seconds"]}, reply["peak_rss"])


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


@contextmanager
def started(commands: Mapping[Name, Sequence[str]]) -> Iterator[dict[Name, Talker]]:
    """A child for each name, which comes to `serve_turns`; it starts when it is first asked."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Talker(command, MEMORY)) for name, command in commands.items()
        }


def time_start(player: Talker, first: Reply, starts: int) -> float | str:
    """Seconds from the process to the answer of this question, the least of so many starts.

    A text where it fails.
    """
    seconds = []
    for _ in range(starts):
        player.restart()
        born = time.time()
        reply = _ask(player, first, 0)
        if isinstance(reply, str):
            return reply
        seconds.append(float(reply["finished"]) - born)
    return min(seconds)


def play(
    players: Mapping[Name, Talker],
    questions: Mapping[Name, Reply],
    rounds: int,
    *,
    turn: float,
    settle: float,
) -> dict[Name, Measured | str]:
    """What each player measured of its question, or why there is nothing.

    The questions' players take part, in their order, after a warm-up each, that does not count.
    turn: seconds that a turn lasts at least. settle: of rest before each.
    """
    found: dict[Name, Measured | str] = {}
    for name, question in questions.items():
        reply = _ask(players[name], question, 0)  # some compile now
        found[name] = reply if isinstance(reply, str) else Measured.empty(reply)
    for _ in range(rounds):
        for name, kept in found.items():
            if isinstance(kept, str):
                continue
            time.sleep(settle)
            reply = _ask(players[name], questions[name], turn)
            if isinstance(reply, str):
                found[name] = reply
                continue
            for what, sample in reply["seconds"].items():
                kept.seconds[what].append(sample)
            kept.peak_rss = reply["peak_rss"]
    return found


def take_turns(
    commands: Mapping[Name, Sequence[str]],
    first: Reply,
    question: Reply,
    rounds: int,
    starts: int = STARTS,
) -> dict[Name, Measured | str]:
    """What each peer measured of one question, and how fast it starts.

    first: the question of a start.
    """
    with started(commands) as players:
        begun = {name: time_start(player, first, starts) for name, player in players.items()}
        questions = {name: question for name, start in begun.items() if not isinstance(start, str)}
        found = play(players, questions, rounds, turn=TURN_SECONDS, settle=SETTLE_SECONDS)
    for name, start in begun.items():
        kept = found.get(name)
        if isinstance(start, str):
            found[name] = start
        elif isinstance(kept, Measured):
            kept.start = start
    return {name: found[name] for name in commands}


def counts(n_threads: int) -> list[int]:
    """The numbers of threads to try: all, half as many, and so on to 1."""
    found = [n_threads]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def _ask(player: Talker, question: Reply, seconds: float) -> Reply | str:
    """The reply to a turn that lasts so long; a text where there is none."""
    reply = player.ask(question | {"seconds": seconds}, TIMEOUT)
    if isinstance(reply, Ending):
        noise = player.noise().strip().splitlines() or [reply.detail]
        return f"failed: {noise[-1][:100]}"
    return reply

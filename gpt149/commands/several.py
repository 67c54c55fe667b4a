"""`gpt149 generate --prompts`: texts in the order of their prompts, each when it is complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from .figures import rate, sample_as_json, stats_as_json

if TYPE_CHECKING:
    from ..engine.generation import Generation
    from ..engine.texts import Prompt
    from .generate import Session


def run(session: Session, prompts: Sequence[Prompt]) -> int:
    """Generate behind all of them; returns the exit status: 0, or 130 after Ctrl-C.

    prompts: texts or token ids. Raises as `Generation`, before anything is generated.
    """
    from ..engine.texts import encoded

    request = session.request
    generation = session.generation(encoded(prompts, session.checkpoint, special=request.special))
    show = _show_json if request.as_json else _show_text
    n, shown, status = generation.options.num_samples, 0, 0
    try:
        for _ in generation:
            while shown < len(prompts) and all(
                sample.finish_reason for sample in generation.samples[shown * n : (shown + 1) * n]
            ):
                show(session, generation, shown, prompts[shown])
                shown += 1
    except KeyboardInterrupt:
        generation.interrupt()
        status = 130
    # Text shows what there is; JSON has an object for each prompt, whatever happens.
    n_shown = len(prompts) if request.as_json else generation.stats.prompts
    for i in range(shown, n_shown):
        show(session, generation, i, prompts[i])
    if n_shown < len(prompts):
        click.echo(f"{len(prompts) - n_shown} of {len(prompts)} prompts were not begun.", err=True)
    if request.as_json:
        click.echo(json.dumps({"stats": stats_as_json(generation.stats)}), err=True)
    else:
        session.say_end(generation)
    return status


def _show_text(session: Session, generation: Generation, i: int, prompt: Prompt) -> None:
    """A prompt's texts on stdout, with their figures above them on stderr."""
    n = generation.options.num_samples
    echo = prompt.prompt if not session.request.no_echo and isinstance(prompt.prompt, str) else ""
    for number, sample in enumerate(generation.samples[i * n : (i + 1) * n], start=1):
        parts = [
            f"--- {prompt.name}" + (f", sample {number} of {n}" if n > 1 else ""),
            f"prompt {len(generation.prompts[i])} tokens",
            f"generated {len(sample.token_ids)} tokens, {rate(sample.tok_s)}",
            str(sample.finish_reason),
        ]
        click.echo(" | ".join(parts), err=True)
        text = echo + session.text_of(sample)
        click.echo(text, nl=not text.endswith("\n"))
        session.say_logprobs(sample)


def _show_json(session: Session, generation: Generation, i: int, prompt: Prompt) -> None:
    """A prompt as one object in one line on stdout."""
    n, sampling = generation.options.num_samples, generation.sampling
    logprobs = generation.options.logprobs is not None
    if prompt.seed is not None:
        sampling = replace(sampling, seed=prompt.seed)
    found = {
        "prompt": prompt.prompt if isinstance(prompt.prompt, str) else None,
        "prompt_token_ids": generation.prompts[i],
        "samples": [
            sample_as_json(sample, logprobs=logprobs)
            for sample in generation.samples[i * n : (i + 1) * n]
        ],
        "sampling": asdict(sampling),
        "model": session.request.model,
    }
    click.echo(json.dumps(found, ensure_ascii=False))

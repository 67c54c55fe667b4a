"""What a generation cost, in one line; and all of it as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..system.memory import peak_rss
from ..system.words import duration

if TYPE_CHECKING:
    from ..engine.generation import Generation
    from ..engine.texts import Sample, Stats


def statistics_line(s: Stats) -> str:
    """One line: what ran, how long everything took, how fast it was."""
    several = s.prompts > 1
    parts = [
        f"{s.engine} engine, {_kernels(s)}",
        *([] if s.dtype == s.kv_dtype == "float32" else [f"{s.dtype}, KV cache {s.kv_dtype}"]),
        f"load {duration(s.load_s)}",
        f"{f'{s.prompts} prompts,' if several else 'prompt'} {s.prompt_tokens} tokens, "
        f"prefill {rate(s.prefill_tok_s)}",
        f"TTFT {'-' if s.ttft_s is None else duration(s.ttft_s)}",
        f"generated {s.generated_tokens} tokens, decode {rate(s.decode_tok_s)}",
        *([f"{rate(s.generated_tok_s)} in all"] if several else []),
        f"attention {'-' if s.attention_share is None else f'{s.attention_share:.0%}'}",
        f"{s.kernel_calls} kernel calls{_of_each(s)}",
        f"{s.n_threads} threads",
        f"peak RSS {peak_rss() / 1e6:.0f} MB",
    ]
    return " | ".join(parts)


def rate(tok_s: float | None) -> str:
    return "-" if tok_s is None else f"{tok_s:.0f} tok/s"


def _kernels(s: Stats) -> str:
    kernel = f"{s.kernel} ({s.isa})"
    return (
        kernel
        if s.decode_kernel is None
        else f"{kernel}, decode {s.decode_kernel} ({s.decode_isa})"
    )


def _of_each(s: Stats) -> str:
    """The calls and seconds of each of two kernels."""
    if s.decode_kernel is None:
        return ""
    calls, seconds = s.decode_kernel_calls, s.decode_attention_s
    return (
        f": prefill {s.kernel_calls - calls} in {duration(s.attention_s - seconds)}, "
        f"decode {calls} in {duration(seconds)}"
    )


def stats_as_json(s: Stats) -> dict[str, Any]:
    return {
        **asdict(s),
        "prefill_tok_s": s.prefill_tok_s,
        "decode_tok_s": s.decode_tok_s,
        "generated_tok_s": s.generated_tok_s,
        "attention_share": s.attention_share,
        "peak_rss_bytes": peak_rss(),
    }


def sample_as_json(sample: Sample, *, logprobs: bool) -> dict[str, Any]:
    entry = {**asdict(sample), "tok_s": sample.tok_s}
    if not logprobs:
        del entry["logprobs"]
    return entry


def as_json(generation: Generation, text: str | None) -> dict[str, Any]:
    """Of a generation behind one prompt, whose text it is given."""
    logprobs = generation.options.logprobs is not None
    return {
        "prompt": text,
        "prompt_token_ids": generation.prompt,
        "samples": [sample_as_json(sample, logprobs=logprobs) for sample in generation.samples],
        "sampling": asdict(generation.sampling),
        "stats": stats_as_json(generation.stats),
    }

"""What is asked of a generation, and what comes of it: prompts and options, samples and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import InputError, TokenizerError

if TYPE_CHECKING:
    from ..model.checkpoint import Checkpoint

MOST_SAMPLES = 4096


@dataclass(frozen=True)
class Options:
    """What to generate besides how to sample.

    n: tokens a sample. stop: texts at which a sample ends, itself not part of the text.
    num_samples: of each prompt. logprobs: report the chosen token's and this many likeliest
    tokens' log-probabilities. batch: of several prompts, how many texts grow at once.
    """

    n: int = 256
    stop: tuple[str, ...] = ()
    num_samples: int = 1
    ignore_eos: bool = False
    logprobs: int | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        """Raise InputError for a value that means nothing."""
        for name, value, least in (
            ("n", self.n, 0),
            ("num_samples", self.num_samples, 1),
            ("logprobs", 0 if self.logprobs is None else self.logprobs, 0),
            ("batch", self.batch, 1),
        ):
            if value < least:
                raise InputError(f"{name} is {value}, and must be >= {least}.")
        for name, value in (("num_samples", self.num_samples), ("batch", self.batch)):
            if value > MOST_SAMPLES:
                raise InputError(
                    f"{name} is {value}, and must be at most {MOST_SAMPLES}: each text has a KV "
                    "cache of its own."
                )
        if "" in self.stop:
            raise InputError("a stop text is empty; it would stop at once.")


@dataclass(frozen=True)
class Prompt:
    """One of several prompts. What is None, it has from `Options` and `Sampling` as the others.

    prompt: a text, or token ids. n, stop, seed: of this one. name: what messages call it.
    """

    prompt: str | Sequence[int]
    n: int | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    name: str = "the prompt"


def encoded(
    prompts: Sequence[Prompt], checkpoint: Checkpoint, *, special: bool = False
) -> list[Prompt]:
    """The prompts with ids in place of their texts.

    Raises:
        InputError: some are texts and some are ids, behind which a model may choose other tokens.
        TokenizerError: a text cannot be encoded.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt.prompt, str)]
    ids = [prompt for prompt in prompts if not isinstance(prompt.prompt, str)]
    if texts and ids:
        raise InputError(
            f"{texts[0].name} is a text, and {ids[0].name} token ids. Give all as texts, or all "
            "as ids."
        )
    if ids:
        return ids
    tokenizer, found = checkpoint.need_tokenizer(), []
    for prompt in texts:
        try:
            of_text = tokenizer.encode_prompt(str(prompt.prompt), special=special)
        except TokenizerError as e:
            raise TokenizerError(f"{prompt.name}: {e}") from e
        found.append(replace(prompt, prompt=of_text))
    return found


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of the model's own probabilities, before temperature and filters."""

    token_id: int
    logprob: float
    top: list[tuple[int, float]]  # (id, log-probability), likeliest first


@dataclass
class Sample:
    """One continuation. finish_reason: length, context, eos, stop or interrupted.

    seconds: of the engine's work, from the start of its prefill to its last token; what other
    texts had of them included.
    """

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tok_s(self) -> float | None:
        return len(self.token_ids) / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Piece:
    """One generated token and the text that became certain with it (empty at times)."""

    sample: int
    token_id: int | None  # None: text that was held back until the end
    text: str


@dataclass
class Stats:
    """What a generation cost. Times in seconds; a step is one forward pass.

    kernel_calls, attention_s: of all steps; decode_kernel_calls, decode_attention_s: of these by
    decode steps.
    """

    engine: str
    dtype: str
    kv_dtype: str
    kernel: str
    isa: str
    n_layer: int
    n_threads: int
    decode_kernel: str | None = None  # None: the same
    decode_isa: str | None = None
    load_s: float = 0.0
    prompts: int = 0  # that were fed
    prompt_tokens: int = 0  # of these
    prefill_s: float = 0.0  # with the first tokens' choice
    ttft_s: float | None = None  # from the start of the first prefill to the first token
    generated_tokens: int = 0
    decoded_tokens: int = 0  # generated by decode steps: all but each sample's first
    decode_s: float = 0.0
    attention_s: float = 0.0
    kernel_calls: int = 0
    decode_attention_s: float = 0.0
    decode_kernel_calls: int = 0
    steps: int = 0

    @property
    def busy_s(self) -> float:
        return self.prefill_s + self.decode_s

    @property
    def prefill_tok_s(self) -> float | None:
        return self.prompt_tokens / self.prefill_s if self.prefill_s else None

    @property
    def decode_tok_s(self) -> float | None:
        return self.decoded_tokens / self.decode_s if self.decoded_tokens else None

    @property
    def generated_tok_s(self) -> float | None:
        """Of all texts together, prefills included."""
        return self.generated_tokens / self.busy_s if self.generated_tokens else None

    @property
    def attention_share(self) -> float | None:
        return self.attention_s / self.busy_s if self.busy_s else None

"""Hugging Face's tokenizer.json, where it says what GPT-2's does: byte-level BPE and no more.

What says more is refused, by name: nothing in the file is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import TokenizerError
from ...system.files import read_json
from ...system.words import brief

Merges = list[tuple[str, ...]]


@dataclass(frozen=True)
class Spec:
    """What a tokenizer.json gives. notes: what it asks for that is not done to a prompt."""

    vocab: dict[str, Any]
    merges: Merges
    added: list[Any]
    notes: tuple[str, ...]


def read(file: Path) -> Spec:
    """What the file says.

    Raises:
        TokenizerError: it is damaged, or of another kind than GPT-2's; the reasons are named.
    """
    spec = read_json(file, TokenizerError)
    model = spec.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise TokenizerError(f"{file} is not a BPE tokenizer.")
    pre = _object(spec, "pre_tokenizer", file)
    decoder = _object(spec, "decoder", file)
    reasons = [
        reason
        for wrong, reason in (
            (pre.get("type") != "ByteLevel", "its pre-tokenizer is not ByteLevel"),
            (pre.get("add_prefix_space"), "it adds a space before the text"),
            (pre.get("use_regex") is False, "it does not split by GPT-2's pattern"),
            (spec.get("normalizer"), "it normalizes the text"),
            (decoder.get("type", "ByteLevel") != "ByteLevel", "its decoder is not ByteLevel"),
            (_adds(spec.get("post_processor")), "it adds tokens around the text"),
            (model.get("dropout"), "it drops merges at random"),
            (model.get("ignore_merges"), "it ignores merges"),
            (model.get("byte_fallback"), "it falls back to bytes"),
            (model.get("continuing_subword_prefix"), "it marks continuing subwords"),
            (model.get("end_of_word_suffix"), "it marks the ends of words"),
        )
        if wrong
    ]
    if reasons:
        raise TokenizerError(f"{file} is not GPT-2's kind of tokenizer: {'; '.join(reasons)}.")
    vocab, merges, added = model.get("vocab"), model.get("merges"), spec.get("added_tokens")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise TokenizerError(f"{file} is damaged: its model has no 'vocab' and 'merges'.")
    if not isinstance(added, list | None):
        raise TokenizerError(f"{file} is damaged: its 'added_tokens' are no list.")
    notes = tuple(
        f"{file} asks for {name}, which is for batches in training: prompts are read whole."
        for name in ("truncation", "padding")
        if spec.get(name)
    )
    return Spec(vocab, [_pair(m, file) for m in merges], added or [], notes)


def _pair(merge: object, file: Path) -> tuple[str, ...]:
    if isinstance(merge, str):
        return tuple(merge.split(" "))
    if isinstance(merge, list) and all(isinstance(half, str) for half in merge):
        return tuple(merge)
    raise TokenizerError(f"{file} is damaged: a merge is {brief(merge)}, not two tokens.")


def _object(spec: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    found = spec.get(name)
    if not isinstance(found, dict | None):
        raise TokenizerError(f"{file} is damaged: its {name} is {brief(found)}.")
    return found or {}


def _adds(processor: Any) -> bool:
    """Whether a post-processor adds tokens to a text, or is not known not to."""
    if processor is None:
        return False
    if not isinstance(processor, dict):
        return True
    if processor.get("type") == "Sequence":
        parts = processor.get("processors")
        return not isinstance(parts, list) or any(_adds(part) for part in parts)
    if processor.get("type") == "TemplateProcessing":
        single = processor.get("single")
        return not (
            isinstance(single, list)
            and len(single) == 1
            and isinstance(single[0], dict)
            and list(single[0]) == ["Sequence"]
        )
    return processor.get("type") != "ByteLevel"

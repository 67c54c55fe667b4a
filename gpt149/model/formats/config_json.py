"""What config.json and generation_config.json say: a model's shape, and where texts end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...system.files import exists, read_json
from ...system.words import brief
from ..config import GPTConfig

# GPT2Config's names for one thing; n_ctx is from before transformers 4.
END_OF_TEXT = 50256  # GPT2Config's, where nothing is said
ALIASES = {
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "n_embd": ("n_embd", "hidden_size"),
    "n_ctx": ("n_positions", "max_position_embeddings", "n_ctx"),
}


def read(path: Path) -> tuple[GPTConfig, int | None, tuple[int, ...]]:
    """The config in a directory, the id that begins a text, and all ids that end one.

    Raises:
        CheckpointError: missing, damaged, of another architecture, or it contradicts itself.
    """
    file = path / "config.json"
    if not exists(file, CheckpointError):
        raise CheckpointError(f"{path} is not a model directory: it has no config.json.")
    raw = read_json(file, CheckpointError)
    if raw.get("model_type") != "gpt2":
        raise CheckpointError(
            f"{path} holds a model of type {brief(raw.get('model_type'))}; gpt149 runs GPT-2's "
            "architecture only."
        )
    config = _config(raw, path)
    sources = {file: raw}
    if exists(generation := path / "generation_config.json", CheckpointError):
        sources[generation] = read_json(generation, CheckpointError)
    if config.vocab_size > END_OF_TEXT:
        raw = {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT, **raw}
    sources[file] = raw
    begins = [i for s in sources.values() for i in _ids(s.get("bos_token_id"))]
    ends = [i for s in sources.values() for i in _ids(s.get("eos_token_id"))]
    return config, begins[0] if begins else None, tuple(ends)


def _ids(value: object) -> list[int]:
    """The ids in a field that holds one, a list of them, or none."""
    return [i for i in (value if isinstance(value, list) else [value]) if type(i) is int and i >= 0]


def _config(raw: dict[str, Any], path: Path) -> GPTConfig:
    if raw.get("add_cross_attention"):
        raise CheckpointError(f"{path} has cross-attention, which gpt149 does not run.")
    sizes = {name: _said_once(raw, names, path) for name, names in ALIASES.items()}
    if "vocab_size" not in raw:
        raise CheckpointError(f"the config.json in {path} does not say 'vocab_size'.")
    config = GPTConfig(
        **sizes,
        vocab_size=raw["vocab_size"],
        n_inner=raw.get("n_inner"),
        activation=raw.get("activation_function", "gelu_new"),
        layer_norm_epsilon=raw.get("layer_norm_epsilon", 1e-5),
        scale_attn=raw.get("scale_attn_weights", True),
        scale_attn_by_layer=raw.get("scale_attn_by_inverse_layer_idx", False),
        tie_word_embeddings=raw.get("tie_word_embeddings", True),
    )
    config.check(path)
    return config


def _said_once(raw: dict[str, Any], names: tuple[str, ...], path: Path) -> Any:
    """What the config says under any of the names; all that are there must agree."""
    said = {name: raw[name] for name in names if name in raw}
    if not said:
        raise CheckpointError(f"the config.json in {path} does not say '{names[0]}'.")
    first, value = next(iter(said.items()))
    for name, other in said.items():
        if other != value:
            raise CheckpointError(
                f"the config.json in {path} contradicts itself: {first} is {brief(value)}, {name} "
                f"is {brief(other)}, and they are names for one number. Take the wrong one out."
            )
    return value

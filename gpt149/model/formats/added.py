"""Added tokens: what four files say of them, taken together; a contradiction is refused.

tokenizer.json and tokenizer_config.json list them with all that there is to say, added_tokens.json
gives ids; special_tokens_map.json and tokenizer_config.json name those that begin and end texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import TokenizerError
from ...system.files import exists, read_json
from ...system.words import brief
from ..tokenizer import AddedToken

# transformers' classes that tokenize as GPT-2 does.
CLASSES = (
    None,
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)
LISTS = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("lstrip", "rstrip", "single_word")


@dataclass
class Vocabulary:
    """Ids by token, from several files, which must agree."""

    ids: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)

    def add(self, token: object, token_id: object, file: Path) -> None:
        """Raise TokenizerError if another file gave the token another id, or it is none."""
        if not isinstance(token, str) or not token or type(token_id) is not int or token_id < 0:
            raise TokenizerError(
                f"{file} must give ids, which are whole numbers, to its tokens; it gives "
                f"{brief(token_id)} to {brief(token)}."
            )
        if self.ids.setdefault(token, token_id) != token_id:
            raise TokenizerError(
                f"{file} gives the token {brief(token)} the id {token_id}, and "
                f"{self.sources[token].name} beside it gives {self.ids[token]}. Take the wrong "
                "file out."
            )
        self.sources.setdefault(token, file)


@dataclass
class Added:
    """What the files say of added tokens.

    listed: whether any file lists them. bos, eos: what begins and ends a text, as it is written.
    """

    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed: bool = False
    bos: list[str] = field(default_factory=list)
    eos: list[str] = field(default_factory=list)

    def say(self, token: str, what: dict[str, Any], file: Path) -> None:
        """Note a token's flags; raises TokenizerError where two files give it different ones."""
        flags = {name: what[name] for name in (*FLAGS, "normalized") if name in what}
        before = self.said.setdefault(token, {})
        for name, value in flags.items():
            if type(value) is not bool:
                raise TokenizerError(
                    f"{file}: {name} of {brief(token)} is {brief(value)}, not a bool."
                )
            if name in FLAGS and before.get(name, value) != value:
                raise TokenizerError(
                    f"{file} says that {name} of the token {brief(token)} is {value}, another file "
                    f"beside it {before[name]}. Take the wrong file out."
                )
        if flags.get("single_word"):
            raise TokenizerError(
                f"{file} wants the token {brief(token)} found between words only (single_word), "
                "which gpt149 does not do."
            )
        self.said[token] = {**flags, **before, "special": self.is_special(token, what)}

    def is_special(self, token: str, what: dict[str, Any]) -> bool:
        """Whether any file says so."""
        return bool(what.get("special") or self.said.get(token, {}).get("special"))

    def tokens(self, ids: dict[str, int]) -> tuple[AddedToken, ...]:
        """All of them, with their ids."""
        return tuple(
            AddedToken(
                token,
                ids[token],
                said["special"],
                said.get("lstrip", False),
                said.get("rstrip", False),
                said.get("normalized", not said["special"]),
            )
            for token, said in self.said.items()
        )


def collect(path: Path, listed: list[Any], vocabulary: Vocabulary) -> Added:
    """What a directory says of added tokens; their ids go into the vocabulary.

    listed: the added_tokens of its tokenizer.json.

    Raises:
        TokenizerError: a file is damaged, two contradict each other, or a token has no id.
    """
    added = Added()
    config_file = path / "tokenizer_config.json"
    config = read_json(config_file, TokenizerError) if exists(config_file, TokenizerError) else {}
    _check_config(config, config_file)
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise TokenizerError(f"{config_file} is damaged: its added_tokens_decoder is no object.")
    entries: list[tuple[Path, object, Any]]
    entries = [(config_file, _number(i, config_file), what) for i, what in decoder.items()]
    file = path / "tokenizer.json"
    entries += [(file, w.get("id") if isinstance(w, dict) else None, w) for w in listed]
    for file, token_id, what in entries:
        if not isinstance(what, dict):
            raise TokenizerError(f"{file} is damaged: an added token is {brief(what)}.")
        vocabulary.add(what.get("content"), token_id, file)
        added.say(what["content"], what, file)
    if exists(file := path / "added_tokens.json", TokenizerError):
        for token, token_id in read_json(file, TokenizerError).items():
            vocabulary.add(token, token_id, file)
            added.say(token, {}, file)
    added.listed = bool(added.said)
    sources = [(config_file, config)]
    if exists(file := path / "special_tokens_map.json", TokenizerError):
        sources.append((file, read_json(file, TokenizerError)))
    for file, found in sources:
        for role, token, what in _named(found, file):
            if token not in vocabulary.ids:
                raise TokenizerError(
                    f"{file} names {brief(token)} as its {role}, and no file beside it gives that "
                    "an id. Is added_tokens.json or tokenizer.json missing?"
                )
            added.say(token, {**what, "special": True}, file)
            if role == "bos_token":
                added.bos.append(token)
            if role == "eos_token":
                added.eos.append(token)
    return added


def _check_config(config: dict[str, Any], file: Path) -> None:
    kind = config.get("tokenizer_class")
    reasons = [
        reason
        for wrong, reason in (
            (kind not in CLASSES, f"its class is {brief(kind)}"),
            (config.get("add_prefix_space"), "it adds a space before the text"),
            (config.get("add_bos_token"), "it adds a token before the text"),
            (config.get("add_eos_token"), "it adds a token behind the text"),
        )
        if wrong
    ]
    if reasons:
        raise TokenizerError(f"{file} is not of GPT-2's kind of tokenizer: {'; '.join(reasons)}.")


def _named(found: dict[str, Any], file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Role, text and flags of the tokens that a file names."""
    for role, value in found.items():
        if value is None or not (role in LISTS or role.endswith("_token")):
            continue
        if role.startswith("add_"):  # add_bos_token says yes or no
            continue
        if isinstance(value, dict) and role in LISTS:
            value = list(value.values())
        for token in value if role in LISTS and isinstance(value, list) else [value]:
            what = token if isinstance(token, dict) else {"content": token}
            if not isinstance(what.get("content"), str):
                raise TokenizerError(f"{file} is damaged: its {role} is {brief(token)}.")
            yield role, what["content"], what


def _number(text: str, file: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise TokenizerError(f"{file} is damaged: {brief(text)} is no id.")
    return int(text)

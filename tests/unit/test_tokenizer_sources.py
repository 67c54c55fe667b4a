"""Several files say what a tokenizer is: taken together, as transformers does, or refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from modelfiles.bpe import BYTES, Merges, loaded, write_bpe
from modelfiles.texts import random_texts

from gpt149.errors import TokenizerError
from gpt149.model.formats.bpe import from_directory
from gpt149.model.tokenizer import Tokenizer

MERGES: Merges = [("a", "b"), ("Ġ", "ab"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
VOCAB: dict[str, int] = {**BYTES, **{a + b: 256 + i for i, (a, b) in enumerate(MERGES)}}
END = "<|endoftext|>"
N = len(VOCAB)  # the first id behind the merges


def write(path: Path, name: str, content: object) -> None:
    (path / name).write_text(json.dumps(content), encoding="utf-8")


def token(text: str, token_id: int, **flags: bool) -> dict[str, Any]:
    """An added token, as tokenizer.json lists it."""
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, **usual, "special": True, **flags}


def tokenizer_json(added: list[dict[str, Any]], **changes: object) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "vocab": VOCAB, "merges": MERGES},
        **changes,
    }


def bare(path: Path) -> Path:
    """vocab.json and merges.txt, as transformers 4 saves them, with the end of text."""
    return write_bpe(path, {**VOCAB, END: N}, MERGES)


def assert_same_ids(path: Path, ours: Tokenizer, seed: int) -> None:
    """As transformers, with special tokens as such and as text; the texts are full of them."""
    theirs = transformers.GPT2Tokenizer.from_pretrained(path)
    rng = random.Random(seed)
    pieces = [*(a.text for a in ours.added), " ", "  ", "\n", "ab", "the", " the", "<", "x"]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(1, 12))) for _ in range(60)]
    for text in texts + random_texts(20, seed):
        assert ours.encode(text, special=True) == theirs(text)["input_ids"], text
        as_text = theirs(text, split_special_tokens=True)["input_ids"]
        assert ours.encode(text) == as_text, text


@pytest.mark.parametrize("named", ["extra_special_tokens", "additional_special_tokens"])
def test_added_tokens_beside_vocab_and_merges_are_known(tmp_path: Path, named: str) -> None:
    bare(tmp_path)
    write(tmp_path, "added_tokens.json", {"<user>": N + 1, "<end>": N + 2, "word": N + 3})
    names = {"eos_token": "<end>", "bos_token": {"content": END, "lstrip": False}}
    write(tmp_path, "special_tokens_map.json", {**names, named: ["<user>"]})
    ours = loaded(tmp_path)
    assert (ours.n_vocab, ours.bos, ours.eos) == (N + 4, N, N + 2)
    assert ours.encode("<user>ab<end>", special=True) == [N + 1, VOCAB["ab"], N + 2]
    assert ours.encode("aword") == [VOCAB["a"], N + 3]  # it is not special, so it always counts
    assert ours.decode([N + 1, VOCAB["ab"], N + 3]) == "<user>abword"
    assert ours.encode("<user>")[0] == VOCAB["<"]
    if named == "extra_special_tokens":  # transformers 5 has forgotten what 4 called them
        assert_same_ids(tmp_path, ours, 1)


def test_tokenizer_json_beside_vocab_and_merges_adds_its_tokens(tmp_path: Path) -> None:
    bare(tmp_path)
    added = [token(END, N), token("<user>", N + 1), token("ab", VOCAB["ab"], special=False)]
    write(tmp_path, "tokenizer.json", tokenizer_json(added))
    ours = loaded(tmp_path)
    assert ours.n_vocab == N + 2
    assert_same_ids(tmp_path, ours, 2)


@pytest.mark.parametrize("seed", range(40))
def test_random_added_tokens_are_found_where_transformers_finds_them(
    tmp_path: Path, seed: int
) -> None:
    """Prefixes of each other, overlaps, with white space at their sides or taking it."""
    rng = random.Random(seed)
    names: list[str] = rng.sample(
        ["<a>", "<a>b", "b<c>", "<c>", "<", "[X]", "the", "th", "e t", " the", "é", "\n\n"],
        k=rng.randrange(1, 7),
    )
    added = [token(END, N)]
    for i, name in enumerate(names):
        flags = {flag: rng.random() < 0.3 for flag in ("lstrip", "rstrip", "normalized")}
        special = rng.random() < 0.5
        at = VOCAB.get(name, N + 1 + i)
        added.append(token(name, at, **flags, special=special))
    ids = {a["id"] for a in added} - set(VOCAB.values())
    for a in added:  # no holes between them
        if a["id"] in ids:
            a["id"] = N + sorted(ids).index(a["id"])
    write(tmp_path, "tokenizer.json", tokenizer_json(added))
    if rng.random() < 0.5:
        bare(tmp_path)
    if rng.random() < 0.5:
        entries = {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in added}
        write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": entries})
    assert_same_ids(tmp_path, loaded(tmp_path), seed)


CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "an id": (
        {"added_tokens.json": {"<x>": N + 1, END: N + 2}},
        f"gives the token '<[|]endoftext[|]>' the id {N + 2}, and vocab.json .* gives {N}",
    ),
    "one id for two": ({"added_tokens.json": {"<x>": 5}}, "each once"),
    "a hole": ({"added_tokens.json": {"<x>": N + 5}}, "each once"),
    "vocabularies": (
        {
            "tokenizer.json": tokenizer_json(
                [],
                model={"type": "BPE", "vocab": VOCAB | {"a": 66, "b": 65}, "merges": MERGES},
            )
        },
        "tokenizer.json gives the token 'a' the id 66, and vocab.json",
    ),
    "merges": (
        {
            "tokenizer.json": tokenizer_json(
                [], model={"type": "BPE", "vocab": VOCAB, "merges": MERGES[:-1]}
            )
        },
        r"merges of merges.txt and those of tokenizer.json are not the same \(5 and 4\)",
    ),
    "an end without an id": (
        {"special_tokens_map.json": {"eos_token": "<end>"}},
        "names '<end>' as its eos_token, and no file beside it gives that an id",
    ),
    "flags": (
        {
            "tokenizer.json": tokenizer_json([token(END, N, lstrip=True)]),
            "tokenizer_config.json": {"added_tokens_decoder": {str(N): token(END, N)}},
        },
        "says that lstrip of the token .* is True, another file beside it False",
    ),
    "space": ({"tokenizer_config.json": {"add_prefix_space": True}}, "adds a space before"),
    "before": ({"tokenizer_config.json": {"add_bos_token": True}}, "adds a token before"),
    "class": ({"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}, "'BertTokenizer'"),
    "damaged ids": (
        {"tokenizer_config.json": {"added_tokens_decoder": {"x": {}}}},
        "'x' is no id",
    ),
    "damaged tokens": ({"tokenizer_config.json": {"added_tokens_decoder": {"1": 2}}}, "is 2"),
    "damaged names": ({"special_tokens_map.json": {"eos_token": [1]}}, r"its eos_token is \[1\]"),
    "damaged flags": (
        {"tokenizer.json": tokenizer_json([{**token(END, N), "lstrip": "yes"}])},
        "lstrip of .* is 'yes', not a bool",
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_files_that_contradict_each_other_are_refused(tmp_path: Path, what: str) -> None:
    contents, message = CONTRADICTIONS[what]
    bare(tmp_path)
    for name, content in contents.items():
        write(tmp_path, name, content)
    with pytest.raises(TokenizerError, match=message):
        from_directory(tmp_path)


SEQUENCE: list[object] = [{"Sequence": {"id": "A", "type_id": 0}}]
TEMPLATE: dict[str, object] = {"type": "TemplateProcessing", "single": SEQUENCE}
SPECIAL = {"SpecialToken": {"id": END, "type_id": 0}}
ROBERTA = {"type": "RobertaProcessing", "sep": [END, N], "cls": [END, N]}
MODEL = tokenizer_json([])["model"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"post_processor": ROBERTA}, "adds tokens around"),
        ({"post_processor": {"type": "BertProcessing"}}, "adds tokens around"),
        ({"post_processor": {"type": "Sequence", "processors": [ROBERTA]}}, "adds tokens around"),
        ({"post_processor": {**TEMPLATE, "single": [SPECIAL]}}, "adds tokens around"),
        ({"post_processor": {**TEMPLATE, "single": []}}, "adds tokens around"),
        ({"post_processor": {**TEMPLATE, "single": SEQUENCE * 2}}, "adds tokens around"),
        ({"decoder": {"type": "Metaspace"}}, "its decoder is not ByteLevel"),
        ({"model": {**MODEL, "dropout": 0.1}}, "it drops merges at random"),
        ({"model": {**MODEL, "byte_fallback": True}}, "it falls back to bytes"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}, "pre-tokenizer is not"),
        ({"added_tokens": [token(END, N, single_word=True)]}, "single_word"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_tokenizer_json_says_beyond_gpt2_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    write(tmp_path, "tokenizer.json", tokenizer_json([token(END, N)], **changes))
    with pytest.raises(TokenizerError, match=reason):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"post_processor": None},
        {"post_processor": TEMPLATE | {"pair": SEQUENCE, "special_tokens": {}}},
        {"decoder": None},
        {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst"}},
        {
            "padding": {
                "strategy": {"Fixed": 9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "!",
            }
        },
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_what_changes_no_prompt_in_transformers_is_read(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    if "truncation" in changes:
        changes["truncation"]["stride"] = 0
    write(tmp_path, "tokenizer.json", tokenizer_json([token(END, N)], **changes))
    ours = loaded(tmp_path)
    assert_same_ids(tmp_path, ours, 3)
    assert len(ours.notes) == ("truncation" in changes or "padding" in changes)


def test_a_text_ends_at_any_of_its_ends(tmp_path: Path) -> None:
    bare(tmp_path)
    write(tmp_path, "added_tokens.json", {"<end>": N + 1})
    write(tmp_path, "special_tokens_map.json", {"eos_token": "<end>"})
    tokenizer = from_directory(tmp_path, None, (N, 97, N))
    assert tokenizer is not None
    assert (tokenizer.eos, tokenizer.other_eos) == (N, frozenset({97, N + 1}))
    assert tokenizer.ends == {N, 97, N + 1}


def test_ids_behind_the_vocabulary_have_no_text(tmp_path: Path) -> None:
    tokenizer = loaded(bare(tmp_path))
    wide = tokenizer.widened(N + 10)
    assert (wide.n_vocab, wide.widened(5).n_vocab) == (N + 10, N + 10)
    assert wide.decode([VOCAB["ab"], N + 9, N]) == "ab" + END
    with pytest.raises(TokenizerError, match=f"there is no token {N + 10}"):
        wide.decode([N + 10])

"""Vocabularies of characters; no pickle that holds one is executed."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import pytest
from modelfiles.nanogpt import Payload

from gpt149.errors import TokenizerError
from gpt149.model.formats.characters import from_characters, from_meta_pickle
from gpt149.model.tokenizer import Tokenizer


def test_characters_have_their_index_as_id() -> None:
    tokenizer = from_characters(["\n", " ", "a", "é", "中", "😀", "\u0301"])
    assert (tokenizer.n_vocab, tokenizer.bos, tokenizer.eos) == (7, None, None)
    text = "a é中😀\na\u0301"
    assert tokenizer.encode(text) == [2, 1, 3, 4, 5, 0, 2, 6]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text, special=True) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("abx", "'x' (U+0078), at character 2"),
        ("é中b", "'b' (U+0062), at character 2"),
        ("aé😀", "'😀' (U+1F600), at character 2"),
        ("a\ta", "'\\t' (U+0009), at character 1"),
        ("ä", "'ä' (U+00E4), at character 0"),  # its first byte is that of é
    ],
)
def test_the_character_that_a_vocabulary_lacks_is_named(text: str, lacks: str) -> None:
    known = "aé中" if "é中" in text else "abé"
    with pytest.raises(TokenizerError) as e:
        from_characters(list(known)).encode(text)
    assert lacks in str(e.value)
    assert "it has 3 tokens" in str(e.value)


@pytest.mark.parametrize("characters", ["ab", "aé"])
def test_a_lone_surrogate_is_refused_by_every_vocabulary(characters: str, gpt2: Tokenizer) -> None:
    for tokenizer in (from_characters(list(characters)), gpt2):
        with pytest.raises(TokenizerError, match=r"lone surrogate U\+D800 at character 1"):
            tokenizer.encode("a\ud800")
    with pytest.raises(TokenizerError, match="must not hold lone surrogates"):
        from_characters(["a", "\ud800"])


@pytest.mark.parametrize("characters", [["a", "bc"], ["a", ""], ["a", 7], ["a", "a"]])
def test_what_is_no_character_vocabulary_is_refused(characters: list[str]) -> None:
    with pytest.raises(TokenizerError, match="character vocabulary"):
        from_characters(characters)


# meta.pkl

ITOS = {0: "\n", 1: "a", 2: "é", 3: "中", 4: "😀"}
META = {"vocab_size": len(ITOS), "itos": ITOS, "stoi": {c: i for i, c in ITOS.items()}}
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def meta_file(path: Path, data: bytes) -> Path:
    (path / "meta.pkl").write_bytes(data)
    return path / "meta.pkl"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("itos", [ITOS, list(ITOS.values())], ids=["dict", "list"])
def test_a_plain_meta_pickle_is_read(tmp_path: Path, itos: object, protocol: int) -> None:
    data = pickle.dumps({**META, "itos": itos}, protocol=protocol)
    tokenizer = from_meta_pickle(meta_file(tmp_path, data))
    assert tokenizer.encode("aé😀中\n") == [1, 2, 4, 3, 0]
    assert tokenizer.decode([1, 2, 4, 3, 0]) == "aé😀中\n"


def payload(folder: Path, how: int | str) -> bytes:
    """A vocabulary with a Payload beside it, or the raw opcodes of one."""
    if isinstance(how, int):
        return pickle.dumps({**META, "extra": Payload(folder)}, protocol=how)
    return b"(V" + str(folder).encode() + b"\nios\nmkdir\n."


@pytest.mark.parametrize("how", [*PROTOCOLS, "INST"])
def test_a_pickle_that_would_execute_code_is_refused_and_not_run(
    tmp_path: Path, how: int | str
) -> None:
    folder = tmp_path / "made"
    data = payload(folder, how)
    with pytest.raises(TokenizerError, match=r"would execute code: opcode .* It was not run\."):
        from_meta_pickle(meta_file(tmp_path, data))
    assert not folder.exists()
    pickle.loads(data)  # the control: pickle itself does run it
    assert folder.exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_meta_pickle_cut_anywhere_is_refused(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps(META, protocol=protocol)
    for n in range(len(data)):
        with pytest.raises(TokenizerError, match="is not a readable pickle"):
            from_meta_pickle(meta_file(tmp_path, data[:n]))


@pytest.mark.parametrize(
    "opcode",
    [b"r" + struct.pack("<I", 2**31 - 1), b"p%d\n" % 2**33],
    ids=["LONG_BINPUT", "PUT"],
)
def test_a_memo_index_that_would_take_gigabytes_is_refused(tmp_path: Path, opcode: bytes) -> None:
    with pytest.raises(TokenizerError, match="memo index"):
        from_meta_pickle(meta_file(tmp_path, b"]" + opcode + b"."))


@pytest.mark.parametrize(
    "meta",
    [
        [1, 2],
        {},
        {"itos": {}},
        {"itos": {0: "a", 2: "b"}},
        {"itos": {1: "a", 2: "b"}},
        {"itos": "ab"},
        {"itos": ["a", "bc"]},
        {"itos": {0: "a", 1: "a"}},
        {"itos": [0, 1]},
    ],
    ids=repr,
)
def test_a_meta_pickle_without_a_character_vocabulary_is_refused(
    tmp_path: Path, meta: object
) -> None:
    with pytest.raises(TokenizerError, match=r"itos|character vocabulary"):
        from_meta_pickle(meta_file(tmp_path, pickle.dumps(meta)))


def test_a_missing_meta_pickle_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read .*meta\.pkl: No such file"):
        from_meta_pickle(tmp_path / "meta.pkl")

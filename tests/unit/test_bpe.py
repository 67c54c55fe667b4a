"""GPT-2's kind of tokenizer is read exactly; what tiktoken would read otherwise is refused."""

from __future__ import annotations

import json
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from modelfiles.bpe import Merges, gpt2_files, loaded, vocabulary, write_bpe
from modelfiles.texts import TEXTS, random_texts

from gpt149.errors import TokenizerError
from gpt149.model.formats.bpe import from_directory
from gpt149.model.tokenizer import Tokenizer

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


def test_a_truncated_tokenizer_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps(tokenizer_json())
    (tmp_path / "tokenizer.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not JSON"):
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


# Vocabulary and merges


def test_a_directory_without_tokenizer_files_has_no_tokenizer(tmp_path: Path) -> None:
    assert from_directory(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}")  # without merges.txt it says too little
    assert from_directory(tmp_path) is None


@pytest.mark.parametrize(
    ("given", "want"),
    [((None, ()), (3, 3)), ((0, (1,)), (0, 1)), ((99, (98,)), (99, 98))],
)
def test_bos_and_eos_are_those_given_even_if_the_vocabulary_lacks_them(
    tmp_path: Path, given: tuple[int | None, tuple[int, ...]], want: tuple[int, int]
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
    ],
    ids=["twice", "hole", "from one"],
)
def test_ids_that_are_not_0_to_n_once_each_are_refused(tmp_path: Path, vocab: object) -> None:
    with pytest.raises(TokenizerError, match=r"must give the ids 0 \.\. n-1, each once"):
        from_directory(write_bpe(tmp_path, vocab))


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ('{"a": "x", "b": 1}', "gives 'x' to 'a'"),
        ('{"a": 0.0, "b": 1.0}', "gives 0.0 to 'a'"),
        ('{"a": -1, "b": 0}', "gives -1 to 'a'"),
        ('{"a": true}', "gives True to 'a'"),
        ('{"a": null}', "gives None to 'a'"),
        ('{"": 0}', "gives 0 to ''"),
        ("{}", "each once"),
        ("[]", "JSON of the wrong type: a list, not a dict"),
    ],
)
def test_a_vocabulary_of_another_shape_is_refused(tmp_path: Path, vocab: str, message: str) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(TokenizerError, match=message):
        from_directory(tmp_path)


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


def test_merges_cut_at_a_line_end_are_refused(tmp_path: Path) -> None:
    vocab, merges = gpt2_files()
    (tmp_path / "vocab.json").write_bytes(Path(vocab).read_bytes())
    lines = Path(merges).read_text(encoding="utf-8").splitlines(keepends=True)[:20_000]
    (tmp_path / "merges.txt").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"the merges are incomplete \(19999 for 50257"):
        from_directory(tmp_path)


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

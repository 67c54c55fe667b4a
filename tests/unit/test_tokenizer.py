"""GPT-2's files give GPT-2's ids, what tiktoken cannot say is refused, text streams."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from modelfiles.bpe import Merges, gpt2_files, loaded, vocabulary, write_bpe
from modelfiles.texts import TEXTS, random_texts

from gpt149.errors import TokenizerError
from gpt149.model.tokenizer import TextStream, Tokenizer


@pytest.fixture(scope="module")
def huggingface() -> Callable[[str], list[int]]:
    """GPT-2's files, read by Hugging Face's tokenizers."""
    vocab, merges = gpt2_files()
    tokenizer = tokenizers.ByteLevelBPETokenizer(str(vocab), str(merges))
    return lambda text: list(tokenizer.encode(text).ids)


# Ids


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


def test_white_space_that_tiktoken_cannot_split_is_refused(gpt2: Tokenizer) -> None:
    assert len(gpt2.encode("a" + " " * 100_000)) > 1
    with pytest.raises(TokenizerError, match=r"at character 1 .*more than 100,000 spaces"):
        gpt2.encode("a" + " " * 1_000_000)


def test_ids_that_do_not_exist_are_refused(gpt2: Tokenizer) -> None:
    for token in (-1, 50257):
        with pytest.raises(TokenizerError, match=f"no token {token}; ids go from 0 to 50256"):
            gpt2.decode([token])


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


def test_the_position_of_a_missing_character_counts_special_tokens(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "<x>": 2}')
    (tmp_path / "merges.txt").write_text("")
    tokenizer = loaded(tmp_path)
    assert tokenizer.encode("<x>ab", special=True) == [2, 0, 1]
    with pytest.raises(TokenizerError, match="at character 4"):
        tokenizer.encode("<x>a?b", special=True)


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

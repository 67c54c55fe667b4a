"""Model files that are not what they should be, as a user of the command line meets them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from modelfiles.bpe import BYTES, write_bpe
from modelfiles.nanogpt import CHARACTERS, nanogpt_tensors, save_meta, save_nanogpt

import gpt149 as package
from gpt149.cli import main
from gpt149.model.checkpoint import load
from gpt149.model.formats.gpt2 import save_gpt2

IDS = ("--prompt-ids", "1 2 3", "-n", "20", "--temperature", "0", "--json")


def gpt149(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def ids_of(done: Result) -> list[int]:
    assert done.exit_code == 0, done.stderr
    ids: list[int] = json.loads(done.stdout)["samples"][0]["token_ids"]
    return ids


def test_a_tokenizer_that_cannot_be_used_stops_texts_and_no_ids(tiny_model_dir: Path) -> None:
    want = ids_of(gpt149("generate", "-m", str(tiny_model_dir), *IDS))
    broken = tiny_model_dir / "added_tokens.json"
    try:
        broken.write_text('{"<x>": 5}')
        done = gpt149("generate", "-m", str(tiny_model_dir), *IDS)
        assert ids_of(done) == want
        assert "Note: token ids are shown instead of text, since the vocabulary in" in done.stderr
        for command in (
            ("generate", "text"),
            ("generate", "-i"),
            ("diff", "naive", "flash", "-p", "text"),
            ("attn", "-p", "text"),
            ("eval", "-t", __file__),
        ):
            refused = gpt149(*command, "-m", str(tiny_model_dir), stdin=b"text\n")
            assert refused.exit_code == 2
            assert refused.stdout == ""
            assert refused.stderr.startswith("Error: the vocabulary in ")
    finally:
        broken.unlink()


def test_characters_of_another_model_are_noted_and_cut_no_ids(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    want = ids_of(gpt149("generate", "-m", str(file), *IDS))
    assert max(want) >= 9
    few = save_meta(tmp_path / "meta.pkl", CHARACTERS[:9])
    done = gpt149("generate", "-m", str(file), *IDS)
    assert ids_of(done) == want
    assert f"Note: {file}: the tokenizer has 9 tokens, the model 65" in done.stderr
    save_meta(few, CHARACTERS)
    done = gpt149("generate", "-m", str(file), *IDS)
    assert ids_of(done) == want
    assert "Note" not in done.stderr


def test_two_vocabularies_beside_a_checkpoint_are_not_chosen_from(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    meta = save_meta(tmp_path / "meta.pkl", CHARACTERS)
    write_bpe(tmp_path, {"a": 0, "b": 1})
    done = gpt149("generate", "ab", "-m", str(file))
    assert done.exit_code == 2
    assert "has a meta.pkl and the files of a BPE tokenizer" in done.stderr
    assert gpt149("generate", "AB", "-m", str(file), "--meta", str(meta), "-n", "2").exit_code == 0
    assert len(ids_of(gpt149("generate", "-m", str(file), *IDS))) == 20


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("tokenizer", [True, False])
def test_every_id_that_ends_a_text_ends_it(
    tiny_model_dir: Path, tmp_path: Path, engine: str, tokenizer: bool
) -> None:
    """The first, which the engine watches for, or another; known from any of the files."""
    path = tmp_path / "model"
    save_gpt2(load(tiny_model_dir).model, path)
    if tokenizer:
        write_bpe(path, {**BYTES, "<|endoftext|>": 256})
    command = ("generate", "-m", str(path), "--engine", engine, *IDS)
    free = ids_of(gpt149(*command, "--ignore-eos"))
    at = next(i for i in range(3, 20) if free[i] not in free[:i])
    for config, generation in (
        ([free[at], 256], None),
        (256, [256, free[at]]),
        (None, free[at]),
        (200 if 200 not in free else 201, free[at]),
    ):
        said = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**said, "eos_token_id": config}))
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
        done = gpt149(*command)
        assert ids_of(done) == free[: at + 1]
        assert json.loads(done.stdout)["samples"][0]["finish_reason"] == "eos"
        assert ids_of(gpt149(*command, "--ignore-eos")) == free
    ours = package.generate(load(path), [1, 2, 3], n=20, temperature=0, engine=engine)
    assert [piece.token_id for piece in ours if piece.token_id is not None] == free[: at + 1]


@pytest.mark.parametrize("command", ["argument", "file", "stdin", "interactive"])
def test_a_byte_order_mark_is_no_part_of_a_prompt(
    tiny_model_dir: Path, tmp_path: Path, command: str
) -> None:
    text = b"\xef\xbb\xbfHello"
    file = tmp_path / "prompt.txt"
    file.write_bytes(text)
    arguments = {
        "argument": (text.decode(),),
        "file": ("-f", str(file)),
        "stdin": ("-",),
        "interactive": ("-i",),
    }[command]
    settings = ("-m", str(tiny_model_dir), "-n", "4", "--temperature", "0")
    done = gpt149("generate", *arguments, *settings, stdin=text)
    assert "prompt 5 tokens" in done.stderr
    # A mark in the middle is a character like any other, and so is a line end at the end.
    file.write_bytes(b"Hel" + text[:3] + b"\n")
    assert "prompt 7 tokens" in gpt149("generate", "-f", str(file), *settings).stderr


def test_no_permission_is_said_with_the_files_name(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the system's refusal is played."""
    stat = Path.stat

    def denied(path: Path, **settings: bool) -> object:
        if path.name == "config.json" and "tiny" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **settings)

    monkeypatch.setattr(Path, "stat", denied)
    done = gpt149("generate", "x", "-m", str(tiny_model_dir))
    assert done.exit_code == 2
    assert f"cannot read {tiny_model_dir / 'config.json'}: Permission denied" in done.stderr


def test_what_the_system_refuses_elsewhere_names_the_file_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("gpt149.commands.kernels.run", denied)
    done = gpt149("kernels")
    assert done.exit_code == 2
    assert done.stderr == "Error: cannot read or write /some/file: Permission denied.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", ""), "the prompt is empty"),
        (("generate", "--prompt-ids", ""), "the prompt is empty"),
        (("generate", "x", "-m", ""), "the model's name is empty"),
        (("generate", "-f", ""), "the name of a file is empty"),
        (("generate", "x", "--meta", ""), "the name of a file is empty"),
        (("eval", "-t", ""), "the name of a file is empty"),
        (("diff", "naive", "flash", "-p", ""), "has 0 tokens, and must have 1 to"),
        (
            ("diff", "naive", "flash", "-p", "x", "-n", "99999999"),
            "-n is 99999999, and must be from",
        ),
        (("attn", "-p", ""), "has 0 tokens, and must have 1 to"),
        (("bench", "-p", ""), "-p is '', and must be whole numbers"),
        (("bench", "-d", ""), "-d is '', and must be whole numbers"),
        (("bench", "-p", "9999999999"), "must be from 1 to 1,048,576"),
        (("generate", "x", "-m", "a\nb"), r"no model 'a\nb'"),
    ],
    ids=str,
)
def test_what_is_empty_or_absurd_is_refused_with_the_range(
    arguments: tuple[str, ...], message: str
) -> None:
    done = gpt149(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_figure_is_no_larger_than_a_screen_shows(tmp_path: Path) -> None:
    png = tmp_path / "matrix.png"
    done = gpt149("attn", "-p", "to be or not " * 40, "--png", str(png), "-a", "reference")
    assert done.exit_code == 0, done.stderr
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    assert 1000 < width <= 2400
    assert 1000 < height <= 2400

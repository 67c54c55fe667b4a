"""`lab` judges each part of Stanford's assignment, and names what students do wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cs149.mistakes import MISTAKES, MODULE, WRONG_MODULES, with_mistake, wrong_module
from cs149.mistakes import Mistake as Edit

from gpt149.cli import main
from gpt149.lab.parts import ACCESS, PARTS, cases
from gpt149.lab.run import Settings, judge_submission

ALL = (ACCESS, *(part.name for part in PARTS))
QUICK = Settings(n=64, threads=2)

# The least that compiles: accessors that are not written yet, and a part that is not either.
STUBS = """
#include <torch/extension.h>

inline float fourDimRead(std::vector<float> &tensor, int &x, int &y, int &z, int &b,
                         const int &sizeX, const int &sizeY, const int &sizeZ) {
    return 0.0;
}

inline void fourDimWrite(std::vector<float> &tensor, int &x, int &y, int &z, int &b,
                         const int &sizeX, const int &sizeY, const int &sizeZ, float &val) {
    return;
}

torch::Tensor myNaiveAttention(torch::Tensor Q, torch::Tensor K, torch::Tensor V,
                               torch::Tensor QK_t, int B, int H, int N, int d) {
    return at::zeros({B, H, N, d}, at::kFloat);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("myNaiveAttention", &myNaiveAttention, "Naive Attention");
}
"""


def lab(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["lab", *map(str, arguments)])


@pytest.fixture(scope="module")
def right() -> dict[str, object]:
    """The right module's results by name, judged once."""
    submission = judge_submission(MODULE, ALL, QUICK)
    assert submission.error == ""
    assert submission.points == 93
    return {result.name: result for result in submission.results}


def test_the_right_module_is_right_in_every_part(right: dict[str, object]) -> None:
    for name, result in right.items():
        assert result.status == "right", name  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_overflow_is_a_note_and_times_stand_beside_the_reference(
    right: dict[str, object], part: object
) -> None:
    result = right[part.name]  # type: ignore[attr-defined]
    assert "will overflow at long contexts" in result.notes[0]  # type: ignore[attr-defined]
    for timing in (result.student, result.reference):  # type: ignore[attr-defined]
        assert timing.wall > 0
        assert timing.memory >= 4 * 4 * 64 * 32  # the output alone


@pytest.mark.parametrize("names", WRONG_MODULES, ids="; ".join)
def test_every_mistake_is_called_by_its_name(names: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(wrong_module(names))
    parts = [f"part{MISTAKES[name].part}" for name in names]
    submission = judge_submission(file, parts, QUICK)
    causes = {result.name: result.cause for result in submission.results}
    assert causes == {f"part{MISTAKES[n].part}": MISTAKES[n].cause for n in names}
    assert submission.points == 0


def test_who_subtracts_the_maximum_gets_no_note(tmp_path: Path) -> None:
    safe = Edit(
        1,
        "none",
        (
            ("float total = 0;\n", "float total = 0, m = -1e30f;\n                "
             "for (int j = 0; j < N; j++) m = std::max(m, twoDimRead(QK_t, i, j, N));\n"),
            ("exp(twoDimRead(QK_t, i, j, N))", "exp(twoDimRead(QK_t, i, j, N) - m)"),
        ),
    )  # fmt: skip
    file = tmp_path / "module.cpp"
    file.write_text(with_mistake(MODULE.read_text(), safe))
    (result,) = judge_submission(file, ["part1"], QUICK).results
    assert (result.status, result.notes) == ("right", ())


def test_part_4_is_asked_with_tiles_of_every_kind() -> None:
    tiled = cases(PARTS[3], 1024, 256, 128, 8)
    sizes = {(case.br, case.bc) for case in tiled}
    assert (256, 128) in sizes
    assert any(case.br > case.n_q and case.bc > case.n_kv for case in tiled)
    assert any(case.br != case.bc and case.n_q % case.br and case.n_kv % case.bc for case in tiled)
    assert {case.n_q for case in tiled} >= {1, 17, 1000, 1024}
    for case in tiled:
        assert (case.causal, case.scale, case.n_q, case.head_dim % 8) == (False, 1.0, case.n_kv, 0)


def test_stubs_are_called_not_implemented(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(STUBS)
    done = lab(file, "4Daccess")
    assert done.exit_code == 1
    assert "NOT IMPLEMENTED fourDimRead: it returns 0 at every index." in done.stdout
    assert "NOT IMPLEMENTED fourDimWrite: it writes nothing at every index." in done.stdout
    done = lab(file, "part1", "-N", "64")
    assert done.exit_code == 1
    assert "NOT IMPLEMENTED: it returns the zeros that it was given." in done.stdout
    done = lab(file, "part2", "-N", "64")
    assert done.exit_code == 1
    assert "the module binds no function of this name" in done.stdout


@pytest.mark.parametrize(
    ("read", "write", "said"),
    [
        (
            "return tensor[x * sizeX + y * sizeY + z * sizeZ + b];",
            "tensor[((x * sizeX + y) * sizeY + z) * sizeZ] = val;",
            (
                "it computes 3*x + 4*y + 5*z + 1*b where sizeX, sizeY, sizeZ = 3, 4, 5 need "
                "60*x + 20*y + 5*z + 1*b",
                "WRONG fourDimWrite: at index (0, 0, 0, 1) it writes element 0, and must touch 1",
            ),
        ),
        (
            "int whole = tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b]; return whole;",
            "tensor[((x * sizeX + y) * sizeY + z) * sizeZ + b] += val;",
            (
                "at index (0, 0, 0, 0) it returns 1, which the tensor does not hold",
                "it makes 1.75 of 1.5, and must write 0.25: it adds to what is there",
            ),
        ),
        (
            "__builtin_trap(); return tensor[x];",
            "for (;;) tensor[0] = val;",
            ("WRONG fourDimRead: SIG", "it did not return within 1 s"),
        ),
    ],
)
def test_wrong_accessors_are_explained(
    read: str, write: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(STUBS.replace("return 0.0;", read).replace("return;", write))
    done = lab(file, "4Daccess", "--timeout", "1")
    assert done.exit_code == 1
    for words in said:
        assert words in done.stdout


def test_missing_accessors_and_other_parameter_types(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    text = STUBS.replace("fourDimWrite", "writeFour").replace("int &x", "const size_t x")
    file.write_text(text.replace("return 0.0;", "return tensor.at(((x * sizeX + y) * sizeY + z) "
                                 "* sizeZ + b);"))  # fmt: skip
    done = lab(file, "4Daccess")
    assert "RIGHT fourDimRead" in done.stdout
    assert "there is no fourDimWrite with the assignment's parameters" in done.stdout


def test_one_case_alone_and_what_cannot_be_asked(tmp_path: Path) -> None:
    done = lab(MODULE, "part1", "--case", "n17", "-N", "64")
    assert done.exit_code == 0
    assert "RIGHT: 1 cases, N = 17 to 17" in done.stdout
    contract, rubric = tmp_path / "mine.cpp", tmp_path / "rubric.toml"
    contract.write_text("int main() {}\n")
    rubric.write_text("rounds = 11\n")
    for arguments, words in (
        ((MODULE, "part1", "--case", "n18"), "there is no case 'n18' in part1"),
        ((MODULE, "part5"), "'part5' is not one of"),
        ((MODULE, "-N", "0"), "-N is 0, and must be from 1 to 1,048,576"),
        ((tmp_path / "none.cpp",), "there is no"),
        ((tmp_path / "empty",), "there is no"),
        ((tmp_path, "--format", "gradescope"), "for one submission"),
        ((tmp_path, "--jobs", "0"), "--jobs is 0"),
        ((MODULE, "-o", tmp_path / "none" / "r.json"), "there is no folder"),
        ((MODULE, "-o", "/proc/r.json"), "cannot write /proc/r.json"),
        (("--collect", "*.json", "--rubric", rubric), "--rubric would change nothing. Give it"),
        (("--autograder", tmp_path / "out"), "out must end in .zip"),
        ((MODULE, "4Daccess", "--inference"), "goes through a part of one module"),
    ):
        done = lab(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert words in done.stderr
    assert "is not a module of cs149gpt" in lab(contract).stdout


def test_inference_writes_text_through_a_part(
    tiny_model_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--inference", "-m", tiny_model_dir, "--threads", "1")
    texts = []
    for part in ("part0", "part3"):
        assert lab(MODULE, part, *options).exit_code == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20


def test_part0_times_torch() -> None:
    done = lab(MODULE, "part0", "-N", "64", "--threads", "1")
    assert done.exit_code == 0
    assert "TORCH" in done.stdout
    assert "8,192 bytes" in lab(MODULE, "part0", "-N", "16", "--threads", "1").stdout


def test_a_crash_comes_with_the_line_that_did_it(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(STUBS.replace("    return at::zeros({B, H,",
                                  "    std::vector<float> row(N);\n    row[N + (1ll << 40)] = 1;\n"
                                  "    return at::ones({B, H,"))  # fmt: skip
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "row[N" in text)
    (result,) = judge_submission(file, ["part1"], QUICK).results
    assert (result.status, result.cause) == ("wrong", "crash")
    assert f"module.cpp:{line}" in result.report
    done = lab(MODULE, "part1", "--case", "n17", "--sanitize", "-N", "17")
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("text", "score", "said"),
    [
        (MODULE.read_text(), 93, "passed"),
        ("#include <torch/extension.h>\nPYBIND11_MODULE(a, m) { no_such_name; }\n", 0,
         "no_such_name"),
        (None, 0, "there is no file"),
        (STUBS.replace("return at::zeros", "__builtin_trap(); return at::zeros"), 0, "crash"),
        (STUBS.replace("return at::zeros", "void nowhere(); nowhere(); return at::zeros"), 0,
         "does not load"),
    ],
)  # fmt: skip
def test_gradescope_results_are_written_whatever_happens(
    text: str | None, score: float, said: str, tmp_path: Path
) -> None:
    file, out = tmp_path / "module.cpp", tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    done = lab(file, "--format", "gradescope", "-o", out, "-N", "64", "--threads", "2")
    assert done.exit_code == (0 if score else 1)
    assert done.stdout == ""
    found = json.loads(out.read_text())
    assert found["score"] == score
    assert said in out.read_text()
    most = [(test["name"], test["max_score"]) for test in found["tests"]]
    assert most == [
        ("fourDimRead", 1.5),
        ("fourDimWrite", 1.5),
        ("part1", 10),
        ("part2", 20),
        ("part3", 25),
        ("part4", 35),
    ]
    assert sum(test["score"] for test in found["tests"]) == score


def test_a_folder_is_one_table(tmp_path: Path) -> None:
    for student, text in (
        ("ada", MODULE.read_text()),
        ("bob", wrong_module(WRONG_MODULES[0])),
        ("eve", "PYBIND11_MODULE(\n"),
    ):
        (tmp_path / student).mkdir()
        (tmp_path / student / "module.cpp").write_text(text)
    (tmp_path / "nobody").mkdir()
    (tmp_path / "line\nbreak").mkdir()
    options = ("part1", "--jobs", "2", "-N", "64", "--threads", "2")
    done = lab(tmp_path, *options, "--format", "csv")
    assert done.exit_code == 1
    rows = {Path(r["submission"]).parent.name: r for r in csv.DictReader(io.StringIO(done.stdout))}
    assert {student: row["part1"] for student, row in rows.items()} == {
        "ada": "right",
        "bob": "k_flat_reshape",
        "eve": "does not compile",
        "line\nbreak": "cannot be judged",
        "nobody": "cannot be judged",
    }
    assert [row["points"] for row in rows.values()] == ["10", "0", "0", "0", "0"]
    assert re.match(r"module\.cpp:\d+:\d+: error: ", rows["eve"]["why"])
    assert rows["nobody"]["why"] == f"there is no file {tmp_path}/nobody/module.cpp."
    done = lab(tmp_path, *options)
    lines = done.stdout.splitlines()
    assert lines[0].split()[-3:] == ["points", "seconds", "why"]
    assert [line.split()[2] for line in lines[1:3]] == ["10", "0"]
    assert "does not compile" in lines[3]
    assert len(lines) == 6


def test_accessors_that_write_much_or_return_nan_are_told(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    stub = "const int &sizeX, const int &sizeY, const int &sizeZ, float &val) {\n    return;"
    assert stub in STUBS
    for most, said in (
        ("400", "it writes element 0, 1, 2, 3, 4, 5, ... (400), and must touch 0"),
        ("int(tensor.size())", "it writes every element that there is, and more, and must touch 0"),
    ):
        many = stub.replace("return;", f"for (int i = 0; i < {most}; i++) tensor[i] = val;")
        nan = STUBS.replace(stub, many).replace("return 0.0;", "return NAN;")
        file.write_text("#include <cmath>\n" + nan)
        done = lab(file, "4Daccess", "--timeout", "20")
        assert said in done.stdout
        assert "at index (0, 0, 0, 0) it returns nan, which the tensor does not hold" in done.stdout


def test_a_case_is_asked_of_each_submission_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "module.cpp").write_text(MODULE.read_text())
    asked = ("part1", "--format", "json", "-N", "64", "--threads", "1")
    done = lab(tmp_path, *asked, "--case", "n17")
    [ada] = json.loads(done.stdout)
    assert ada["results"][0]["report"] == "1 cases, N = 17 to 17"


def test_a_module_beyond_the_standin_is_judged_without_sanitizers(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    beyond = "#ifdef __SANITIZE_ADDRESS__\n#error torch::beyond\n#endif\n"
    file.write_text(beyond + MODULE.read_text())
    done = lab(file, "part1", "--sanitize", "-N", "17", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "Note: not run under the sanitizers" in done.stdout

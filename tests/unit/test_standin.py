"""The stand-in for torch's C++ headers does what torch does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from gpt149.kernels.compiler import find_compiler
from gpt149.system.paths import shipped

A = torch.arange(24.0).reshape(2, 3, 4)
ASSIGNED = torch.zeros(3, 4)
ASSIGNED[1, 2], ASSIGNED[0], ASSIGNED[2, :2] = 5, A[1, 1], 7

EXPECTED = {
    "index": A[1, 1:],
    "index_step": A[:, ::2, -1],
    "index_ellipsis": A[..., -3:-1],
    "index_none": A[0, None, 0:100],
    "transpose": A.transpose(-2, -1).flatten(),
    "permute": A.permute(2, 0, 1),
    "reshape": A.transpose(0, 1).reshape(4, -1),
    "view": A.view(6, 4).t(),
    "select": A.select(1, -1),
    "narrow": A.narrow(2, 1, 2),
    "squeeze": A.unsqueeze(-1),
    "element": A[1][2],
    "one_axes": A[0, 0],
    "assigned": ASSIGNED,
    "alias": torch.full((3, 4), 3.0),
    "clone": torch.full((3, 4), 3.0),
    "broadcast": torch.full((2, 3), 2.0),
    "accessor": A[1, 0, 3:],
    "parallel": torch.tensor([10.0]),
}


@pytest.fixture(scope="module", params=["", "clang"])
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    compiler = [request.getfixturevalue("clang")] if request.param else find_compiler()
    program = tmp_path_factory.mktemp("standin") / "values"
    source = Path(__file__).with_name("standin_values.cpp")
    include = f"-I{shipped('csrc') / 'cs149' / 'standin'}"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fopenmp", include]
    command = [*compiler, *flags, str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", EXPECTED)
def test_values_are_torchs(name: str, printed: list[str]) -> None:
    line = next(line for line in printed if line.startswith(f"{name} "))
    shape, values = line.removeprefix(f"{name} ").split("] [")
    want = EXPECTED[name]
    if name not in ("accessor", "parallel"):
        assert json.loads(shape + "]") == list(want.shape)
    assert json.loads("[" + values) == want.flatten().tolist()


def test_what_torch_refuses_is_refused(printed: list[str]) -> None:
    assert printed[-3:] == ["exception"] * 3

"""Wrong submissions: `module.cpp` with a mistake that students make in each of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).with_name("module.cpp")


@dataclass(frozen=True)
class Mistake:
    """In a part's function, replace each text by the other. cause: what `lab` must call it."""

    part: int
    cause: str
    edits: tuple[tuple[str, str], ...]


K_READ = "fourDimRead(K, b, h, j, k, H, N, d)"
FLAT_K = "K[((b * H + h) * N) * d + k * N + j]"
SCORE_WRITE = "twoDimWrite(QK_t, i, j, N, "
SCORE_READ = "twoDimRead(QK_t, i, j, N)"
ALIASED = (
    (SCORE_WRITE, "fourDimWrite(QK_t, b, h, i, j, H, N, d, "),
    (SCORE_READ, "fourDimRead(QK_t, b, h, i, j, H, N, d)"),
)
TEMPORARIES = "std::vector<float> Sij = formatTensor(SijTensor)"

MISTAKES = {
    "flat": Mistake(1, "k_flat_reshape", ((K_READ, FLAT_K),)),
    "aliased": Mistake(1, "aliased_scores", ALIASED),
    "flat and aliased": Mistake(
        1, "k_flat_reshape + aliased_scores", ((K_READ, FLAT_K), *ALIASED)
    ),
    "tail of keys": Mistake(
        2, "mask_wrong", (("for (int j0 = 0; j0 < N;", "for (int j0 = 0; j0 + L <= N;"),)
    ),
    "tail of queries": Mistake(
        2, "tail_queries_zero", (("for (int i0 = 0; i0 < N;", "for (int i0 = 0; i0 + L <= N;"),)
    ),
    "scores add up": Mistake(
        2, "static_state", (("std::vector<float> O =", "static std::vector<float> O ="),)
    ),
    "sum of all rows": Mistake(
        3,
        "sum_wrong",
        (
            ("#pragma omp parallel for collapse(3)\n", "    float total = 0;\n"),
            ("                float total = 0;\n                for", "                for"),
        ),
    ),
    "static sums": Mistake(
        3,
        "static_state",
        (
            (
                "#pragma omp parallel for collapse(3)\n",
                "    static std::vector<float> totals(1 << 20);\n",
            ),
            ("float total = 0;", "float &total = totals[(b * H + h) * N + i];"),
        ),
    ),
    "shared row": Mistake(
        3,
        "race",
        (
            ("#pragma omp", "    std::vector<float> ORow(N);\n#pragma omp"),
            ("std::vector<float> ORow = formatTensor(ORowTensor);", ""),
        ),
    ),
    "l of the head before": Mistake(
        4, "l_not_reset", (("std::fill(l.begin(), l.end(), 0.0f);", ""),)
    ),
    "block maximum": Mistake(
        4,
        "block_max",
        (
            (
                "lij[i] = 0;",
                """lij[i] = 0;
                        float m = -1e30f;
                        for (int j = 0; j < columns; j++) {
                            float sum = 0;
                            for (int k = 0; k < d; k++)
                                sum += Qi[i * d + k] * Kj[j * d + k];
                            m = std::max(m, sum);
                        }""",
            ),
            ("float p = exp(sum);", "float p = exp(sum - m);"),
        ),
    ),
    "Br for Bc": Mistake(
        4, "br_bc_confused", (("const int rows = std::min(Br, N - i0);",
                               "const int rows = std::min(std::min(Br, Bc), N - i0);"),)
    ),
    "l is the tile's": Mistake(
        4, "l_not_summed", (("lnew[i] = li[i] + lij[i];", "lnew[i] = lij[i];"),)
    ),
    "l is not kept": Mistake(4, "last_tile_only", (("l[row] = lnew[i];", ""),)),
}  # fmt: skip

# Modules to be judged, each with at most one mistake in a part.
WRONG_MODULES = (
    ("flat", "tail of keys", "sum of all rows", "l of the head before"),
    ("aliased", "tail of queries", "static sums", "block maximum"),
    ("flat and aliased", "scores add up", "shared row", "Br for Bc"),
    ("l is the tile's",),
    ("l is not kept",),
)


def wrong_module(names: tuple[str, ...]) -> str:
    """The source of a module with these mistakes."""
    text = MODULE.read_text()
    for name in names:
        text = with_mistake(text, MISTAKES[name])
    return text


def with_mistake(text: str, mistake: Mistake) -> str:
    """The module's source with one mistake more.

    Raises:
        AssertionError: a text to replace is not in the part.
    """
    start = text.index(f"// -- part {mistake.part}")
    end = text.find("// -- part", start + 1)
    end = text.index("PYBIND11_MODULE") if end < 0 else end
    part = text[start:end]
    for old, new in mistake.edits:
        assert old in part, (mistake.cause, old)
        part = part.replace(old, new)
    return text[:start] + part + text[end:]

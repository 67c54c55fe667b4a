"""Attention functions of other signatures: which of their parameters is what.

Courses, puzzles and papers write attention as a function of their own. What its parameters mean is
read from their names, and the memory layout from the order of the sizes; what names cannot say, a
line of the file does: `// gpt149: causal, scale=1` (`#` in Python).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import InputError

# Names as people write them, without case and underscores. `l` is a length where it is a number.
POINTERS = {
    "q": "q query queries qptr qdata",
    "k": "k key keys kptr kdata kcache",
    "v": "v value values vptr vdata vcache",
    "out": "o out output outputs result results res y dst attnout outptr",
    "lse": "l lse logsumexp",
}
NUMBERS = {
    "batch": "b bs batch batchsize nbatch nb numbatches",
    "n_head": "h nh hq head heads nhead nheads numhead numheads qheads nqheads numqheads nqhead",
    "n_kv_head": "hkv hk nkvhead nkvheads kvheads numkvheads numkeyvalueheads",
    "n_q": "m nq lq tq sq qlen lenq seqq seqlenq seqlenquery nquery nqueries numqueries",
    "n_kv": "nk nkv lk tk sk lkv skv klen kvlen lenk seqk seqkv seqlenk seqlenkv nkeys numkeys",
    "n": "n t s l seq len length seqlen seqlength sequencelength context contextlen ntokens tokens",
    "head_dim": "d dk hd dh dim headdim headsize dhead hs",
    "scale": "scale smscale softmaxscale scaling qkscale",
    "causal": "causal iscausal",
    "n_threads": "nthreads nthread numthreads threads",
    "br": "br blockq blockm tileq",
    "bc": "bc blockk blockn tilek",
}
AXES = ("bhnd", "bnhd", "hnd", "nhd", "bnd", "nd")
SAID = re.compile(r"^[ \t]*(?://|#|/?\*+)[ \t]*gpt149:(.*?)(?:\*/)?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Signature:
    """How a function is called, and what it computes.

    roles: of its parameters, in order, of POINTERS and NUMBERS; "" for one that keeps its default.
    causal: whether it masks where no parameter says so. scale: what it multiplies scores by, None:
    1 / sqrt(head_dim). axes: of its tensors, one of AXES; `bnd` has heads as batches. grouped: k
    and v may have fewer heads than q. square: it knows n_q = n_kv alone. prototype: of C.
    kind, names, in_numpy: of Python, see `python_reading`.
    """

    function: str
    roles: tuple[str, ...]
    causal: bool = False
    scale: float | None = None
    axes: str = "bhnd"
    grouped: bool = False
    square: bool = True
    prototype: str = ""
    kind: str = "function"
    names: tuple[str, ...] = ()
    in_numpy: bool = False

    def one_by_one(self, causal: bool) -> bool:
        """Whether a call takes a call of the function for each query: it masks otherwise."""
        return "causal" not in self.roles and self.causal != causal

    def others(self) -> Iterator[tuple[str, Signature]]:
        """What else it might be, by one thing that no parameter tells, and what would say so."""
        if "causal" not in self.roles and not self.causal:
            yield "causal", replace(self, causal=True)
        if "scale" not in self.roles and self.scale is None:
            yield "scale=1", replace(self, scale=1.0)
        for axes in AXES:
            if axes != self.axes and (not self.prototype or sorted(axes) == sorted(self.axes)):
                yield f"axes={axes}", replace(self, axes=axes)

    @property
    def words(self) -> str:
        """What it was read as, for people."""
        masks = "causal" if self.causal else "without a mask"
        masks = "causal if told" if "causal" in self.roles else masks
        scale = "1/sqrt(d)" if self.scale is None else f"{self.scale:g}"
        scale = "as told" if "scale" in self.roles else scale
        return f"axes ({', '.join(self.axes)}), {masks}, scale {scale}, {self.lengths}"

    @property
    def lengths(self) -> str:
        """Which numbers of queries and keys it knows, for people."""
        grouped = ", grouped heads" if self.grouped else ""
        return ("n_q = n_kv" if self.square else "any n_q and n_kv") + grouped


def role(name: str, of: dict[str, str]) -> str:
    """What a parameter of this name is; "" if nobody knows."""
    bare = name.lower().replace("_", "")
    return next((role for role, names in of.items() if bare in names.split()), "")


def with_meaning(signature: Signature, text: str, source: str) -> Signature:
    """The signature with what the file's own line says of it. source: its name, for messages.

    Raises:
        InputError: it says what is unknown, or otherwise than the parameters.
    """
    for said in SAID.findall(text):
        for word in filter(None, re.split(r"[,\s]+", said)):
            told = _told(signature, *word.partition("="))
            if told is None or word.partition("=")[0] in signature.roles:
                which = "means nothing" if told is None else "is told by a parameter"
                raise InputError(
                    f"{source} says 'gpt149: {word}', which {which} here. It may say causal, "
                    f"grouped, any-lengths, scale=1, and axes= one of {', '.join(AXES)}."
                )
            signature = told
    return signature


def _told(signature: Signature, word: str, _equals: str, value: str) -> Signature | None:
    if (word, value) == ("causal", ""):
        return replace(signature, causal=True)
    if (word, value) == ("grouped", ""):
        return replace(signature, grouped=True)
    if (word, value) == ("any-lengths", ""):
        return replace(signature, square=False)
    if word == "axes" and value in AXES:
        return replace(signature, axes=value)
    if word == "scale" and re.fullmatch(r"\d+\.?\d*(e-?\d+)?", value) and float(value) > 0:
        return replace(signature, scale=float(value))
    return None

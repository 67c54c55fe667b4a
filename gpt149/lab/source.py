"""What a submission's text says: which function calls which, and with what parameters."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from ..kernels.loaders.c_functions import COMMENT_OR_STRING

# A definition up to its body. Conditions look alike; their names are nobody's functions.
DEFINITION = re.compile(r"\b(\w+)\s*\(([^(){};]*)\)\s*(?:const\s*|noexcept\s*)*\{")
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)((?:\\\n|[^\n])*)", re.MULTILINE)
NO_FUNCTIONS = ("if", "for", "while", "switch", "catch")


class Text:
    """The functions and macros of a C++ file, as far as reading without a compiler goes."""

    def __init__(self, path: Path) -> None:
        text = COMMENT_OR_STRING.sub(" ", path.read_text(encoding="utf-8", errors="replace"))
        self._words: dict[str, set[str]] = defaultdict(set)
        self._parameters: dict[str, str] = {}
        for name, said in MACRO.findall(text):
            self._words[name] |= set(re.findall(r"\w+", said))
        for found in DEFINITION.finditer(text):
            name, parameters = found.groups()
            if name in NO_FUNCTIONS:
                continue
            body = text[found.end() : _end(text, found.end())]
            self._words[name] |= set(re.findall(r"\w+", body))
            self._parameters.setdefault(name, " ".join(parameters.split()))

    def parameters(self, function: str) -> str | None:
        """As they are written, None if the function is not there."""
        return self._parameters.get(function)

    def uses(self, function: str, other: str) -> bool:
        """Whether the one calls the other, itself or through others of this file."""
        seen, ahead = set[str](), {function}
        while ahead:
            name = ahead.pop()
            seen.add(name)
            words = self._words.get(name, set())
            if other in words:
                return True
            ahead |= {word for word in words if word in self._words} - seen
        return False


def _end(text: str, start: int) -> int:
    """Where the braces that are open at start are closed."""
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
    return len(text)

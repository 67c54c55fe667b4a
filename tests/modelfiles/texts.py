"""Texts that are hard to tokenize."""

from __future__ import annotations

import random

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

"""The same text through several kernels, and how fast each writes it."""

import gpt149


def main() -> None:
    checkpoint = gpt149.load("shakespeare")
    texts = set()
    for kernel in ("naive", "fused", "flash", "simd"):
        generation = gpt149.generate(checkpoint, "JULIET:\n", kernel=kernel, n=200, seed=1)
        text = "".join(piece.text for piece in generation)
        stats = generation.stats
        print(f"{kernel:6} {stats.decode_tok_s:8,.0f} tok/s, {stats.kernel_calls} kernel calls")
        texts.add(text)
    assert len(texts) == 1, "a kernel is wrong: try gpt149 check"
    print(f"\nJULIET:\n{texts.pop()}")


if __name__ == "__main__":
    main()

"""gpt149's kernels inside other people's programs."""

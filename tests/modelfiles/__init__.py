"""Models and tokenizers as tests write them to disk."""

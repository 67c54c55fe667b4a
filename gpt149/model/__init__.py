"""GPT-2 and its files: configuration, the model in torch, the KV cache, checkpoints, tokenizers.

Nothing here knows of a kernel: the attention call comes in as an argument.
"""

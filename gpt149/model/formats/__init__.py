"""The files of models and their tokenizers, a module a format; `tensors.py` is what they share.

No pickle is executed here, and torch is imported only for tensors that torch saved.
"""

"""From ids to text: what feeds a model, chooses tokens, and counts what that costs.

Here a model meets a kernel. The engine in C++ is driven from `native.py`, the one in torch is
`torch.py`; no file format is read here, and no kernel is written here.
"""

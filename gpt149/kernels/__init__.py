"""What a kernel is and how one is reached: the contract's mirror, the build, the call itself.

`registry.py` turns a name or a file into a kernel, through `loaders/`. Nothing here knows of a
model, of text, or of right and wrong.
"""

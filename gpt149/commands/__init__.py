"""What the commands do, one module each, thin: read the question, call, print the answer.

`cli.py` parses their options. Nothing is computed here that a Python program could want: that has
a room of its own.
"""

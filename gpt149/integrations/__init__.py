"""gpt149's kernels inside other people's programs, one module a program.

Each imports its program when it is itself imported, and is imported by nothing else here.
"""

"""What the operating system gives: processes, threads, memory, paths.

Nothing here knows what attention is.
"""

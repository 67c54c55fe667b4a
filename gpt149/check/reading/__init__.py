"""What is wrong is read from the kernel's output, with inputs that make it legible.

Each module is one instrument: it asks the kernel for outputs of its own choosing, and says what
they show. None knows a list of mistakes.
"""

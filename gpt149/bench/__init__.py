"""`gpt149 bench`: kernels timed in turn, against each other and against the machine's ceilings.

Here are measuring, statistics and reports. What is measured runs in children; nothing is optimised
here.
"""

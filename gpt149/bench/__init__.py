"""`gpt149 bench`: kernels timed in turn, against each other and against the machine's ceilings."""

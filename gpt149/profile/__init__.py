"""`gpt149 profile`: why is a kernel slow: experiments, samples and steps, and what they mean.

Instruments (`worker`, `asm`, `lines`, `experiments`) gather evidence; `causes` alone draws
conclusions from it. Kernels run in a child.
"""

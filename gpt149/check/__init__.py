"""Is a kernel right, and if not, why: cases, a judge, children to run them in, a diagnosis.

Here are numpy, processes and the contract. No model, no engine, no torch: a verdict must not wait
for them.
"""

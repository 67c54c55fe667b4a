"""Is a kernel right, and if not, why: cases, a judge, children to run them in, a diagnosis."""

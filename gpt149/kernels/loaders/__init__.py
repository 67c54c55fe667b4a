"""Ways in which a kernel enters: each module turns one kind of source into kernels."""

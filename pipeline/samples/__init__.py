"""Which sample, which mask, which tensors: a batch is a function of its number."""

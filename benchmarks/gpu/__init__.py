"""Both passes, the kernels and a model in memory on a GPU, beside the links they use."""

"""The stacks that `benchmarks.fetch` compares, each a module that runs in a process of its own."""

"""Side-by-side timings; each module is a command and writes its result to benchmarks/results."""

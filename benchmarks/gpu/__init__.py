"""The parts of `benchmarks/gpu_check.py`, each measured in a process of its own."""

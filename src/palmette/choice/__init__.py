"""Multiple-choice benchmarks: each item is a prefix tree, whose branches are the choices."""

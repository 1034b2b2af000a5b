"""From verdicts to a better model: a run trained further on what people said, and compared with the old one."""

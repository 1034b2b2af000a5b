"""Other ways to answer, under the same metrics and report: what the rest is to be compared with."""

"""Human review: events of people's verdicts, the queue of questions, agreement, and what verdicts become."""

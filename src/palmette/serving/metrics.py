"""Counters of the server, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import threading
from collections.abc import Callable

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # seconds
_HELP = {
    "requests_total": "Requests by path and status.",
    "questions_total": "Questions about documents.",
    "batches_total": "Calls of a model with such questions.",
    "switches_total": "Times that the weights of one model took the place of another's.",
    "prompt_tokens_total": "Tokens of prompts.",
    "completion_tokens_total": "Tokens of replies.",
}
_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts what happens. It may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[_Labels, float]] = {name: {} for name in _HELP}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter. Its name is one of those listed above."""
        with self._lock:
            values, key = self._counts[name], tuple(sorted(labels.items()))
            values[key] = values.get(key, 0) + amount

    def took(self, seconds: float) -> None:
        """Count how long a request took."""
        with self._lock:
            self._seconds += seconds
            self._buckets[sum(seconds > limit for limit in BUCKETS)] += 1

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Add a gauge, which is read when somebody looks."""
        self._gauges[name] = (what, value)

    def render(self) -> str:
        r"""All of them.

        >>> metrics = Metrics()
        >>> metrics.count("requests_total", path='/a"b', status="200")
        >>> metrics.took(0.02)
        >>> print(metrics.render())  # doctest: +ELLIPSIS
        # HELP palmette_requests_total Requests by path and status.
        # TYPE palmette_requests_total counter
        palmette_requests_total{path="/a\"b",status="200"} 1
        ...
        palmette_request_seconds_bucket{le="0.01"} 0
        palmette_request_seconds_bucket{le="0.03"} 1
        ...
        """
        lines: list[str] = []
        with self._lock:
            for name, values in self._counts.items():
                lines += _head(name, _HELP[name], "counter")
                lines += [f"palmette_{name}{_labelled(key)} {value:.15g}" for key, value in sorted(values.items())]
            lines += _head("request_seconds", "How long requests took, in seconds.", "histogram")
            total = 0
            for limit, number in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
                total += number
                lines.append(f'palmette_request_seconds_bucket{{le="{limit}"}} {total}')
            lines += [f"palmette_request_seconds_sum {self._seconds:.6f}", f"palmette_request_seconds_count {total}"]
        for name, (what, value) in self._gauges.items():
            lines += [*_head(name, what, "gauge"), f"palmette_{name} {value():.15g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, what: str, kind: str) -> list[str]:
    return [f"# HELP palmette_{name} {what}", f"# TYPE palmette_{name} {kind}"]


def _labelled(labels: _Labels) -> str:
    escaped = [(name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels]
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}" if labels else ""

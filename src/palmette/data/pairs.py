"""Pairs of completions as two verdicts."""

from __future__ import annotations

from palmette.data.preference import Comparison, PreferenceError, Verdict


def unpaired(comparison: Comparison) -> tuple[Verdict, Verdict]:
    """A pair as two verdicts: the first completion is good, the second bad.

    Raises:
        PreferenceError: it ranks more than two completions, so it is not known which of them are good.
    """
    if len(comparison.completions) != 2:
        raise PreferenceError(
            "format",
            f"record {comparison.id!r} ranks {len(comparison.completions)} completions, so good ones are not known",
            "Give pairs, or verdicts: 'prompt', 'completion', 'label'.",
        )
    good, bad = comparison.completions
    return (
        Verdict(f"{comparison.id}/0", comparison.prompt, good, True),
        Verdict(f"{comparison.id}/1", comparison.prompt, bad, False),
    )

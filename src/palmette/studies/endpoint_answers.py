"""Evaluation of a chat model behind an endpoint on a data set, and the folder that it writes."""

from __future__ import annotations

from pathlib import Path

from palmette import run
from palmette.data.records import DataSet
from palmette.endpoint.client import Client
from palmette.endpoint.decoder import EndpointDecoder
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.pages.evaluation.folder import facts_of, write_evaluation
from palmette.tasks.qa_prompt import QaPrompt


def evaluate_endpoint(
    client: Client, prompt: QaPrompt, source: DataSet, out: Path, *, loose: bool, allow_failures: bool
) -> tuple[Evaluation, int]:
    """Ask a chat model all questions of a data set, and write the folder of the evaluation.

    Args:
        client: the client of the endpoint.
        prompt: how questions are asked.
        source: the questions, with known answers.
        out: the folder, which must not exist.
        loose: whether an answer is read out of broken JSON.
        allow_failures: whether a question that the server does not answer counts as a broken completion.

    Returns:
        The evaluation, and how many questions have no reply.

    Raises:
        RunError: the folder exists or cannot be written.
        EndpointError: a question has no reply, and failures are not allowed.
    """
    decoder = EndpointDecoder(client, prompt, loose=loose, on_failure="broken" if allow_failures else "error")
    model = client.endpoint.model
    with run.whole_folder(out) as staging:
        result = evaluate_squad(decoder, source.documents)
        facts = facts_of(model, source.source, "an endpoint")
        write_evaluation(result, staging, f"{model} on {Path(source.source).name}", facts)
        about = {
            **run.environment(),
            **client.about(),
            "decoder": "endpoint",
            "loose": loose,
            "prompt_sha256": prompt.sha256,
            "failures": {question: error.problem for question, error in decoder.failures.items()},
            "data": source.describe(),
        }
        run.write_json(staging / "evaluation.json", about)
    return result, len(decoder.failures)

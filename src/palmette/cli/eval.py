"""The bodies of `eval squad`, `eval predictions`, `calibrate` and `compare-runs`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from palmette import run
from palmette.cli.console import metrics_table, stderr, stdout
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.evaluate.bootstrap import Difference, paired_difference
from palmette.evaluate.calibration import calibrate, check_data
from palmette.evaluate.official import read_official
from palmette.evaluate.record import HELD_OUT_SPLIT, MADE_BY, made_by
from palmette.evaluate.squad import Evaluation, evaluate_squad, score
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.inference.answerer import DecoderName, load_answerer
from palmette.model.attention import AttentionChoice
from palmette.pages.evaluation.folder import REPORT, loss_of, subtitle, write_evaluation
from palmette.run import trained_folder


def run_eval_squad(
    model: str,
    data: str,
    out: Path,
    attention: AttentionChoice | None,
    *,
    decoder: DecoderName,
    calibrated: bool,
    max_words: int | None,
    batch_size: int,
    loose: bool,
    limit: int | None,
    reasoning_limit: int | None,
) -> None:
    """`palmette eval squad`."""
    run.check_absent(out)
    source = read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=limit)
    opened = load_answerer(model, attention=attention, calibrated=calibrated and decoder == "span")
    if opened.calibration:
        opened.calibration.check_unseen(source.documents, data)
    answers = opened.decoder(
        decoder,
        effort=opened.effort(max_words),
        batch_size=batch_size,
        loose=loose,
        reasoning_limit=reasoning_limit,
    )
    with run.whole_folder(out) as staging:
        result = evaluate_squad(answers, source.documents)
        title = f"{Path(model).name} on {Path(data).name}"
        write_evaluation(result, staging, title, subtitle(model, data, decoder), loss_of(Path(model).expanduser()))
        about = made_by(opened, source, model, decoder, opened.effort(max_words), reasoning_limit)
        run.write_json(staging / MADE_BY, about)
    _tell(result, Path(model).name, out)
    if decoder == "span":
        fitted = opened.calibration
        stderr().print(
            f"calibrated on {fitted.source}" if fitted else "not calibrated: decided for what is most probable"
        )


def run_eval_predictions(data: str, predictions: Path, na_prob: Path | None, out: Path) -> None:
    """`palmette eval predictions`."""
    run.check_absent(out)
    source = read_source(data, default_split=HELD_OUT_SPLIT)
    result = score(source.documents, read_official(source.documents, predictions, na_prob))
    with run.whole_folder(out) as staging:
        write_evaluation(
            result,
            staging,
            f"{predictions.name} on {Path(data).name}",
            subtitle(str(predictions), data, "predictions read"),
        )
    _tell(result, predictions.name, out)


def _tell(result: Evaluation, name: str, out: Path) -> None:
    stdout().print(metrics_table({name: result.metrics}, result.intervals))
    took = f" in {result.seconds:.0f} s" if result.seconds else ""
    stderr().print(f"{len(result.scored)} questions{took}; files in {out}; look at {out / REPORT}")


def run_calibrate(
    model: Path,
    data: str,
    attention: AttentionChoice | None,
    max_words: int | None,
    target_error: float | None,
    confidence: float,
) -> None:
    """`palmette calibrate`."""
    folder = trained_folder(model)
    source = read_source(data, default_split=HELD_OUT_SPLIT)
    _check_not_trained_on(model, source)
    check_data(source.documents, data, target_error=target_error, confidence=confidence)
    opened = load_answerer(model, attention=attention, calibrated=False)
    calibration = calibrate(opened, source, opened.effort(max_words), target_error, confidence)
    calibration.write(folder)
    decision, promise = calibration.decision, calibration.guarantee
    news = stdout()
    news.print(f"temperature {decision.temperature:.3f}")
    if decision.max_no_answer is not None:
        news.print(f"answers where the probability of no answer is at most {decision.max_no_answer:.3f}")
    if promise:
        news.print(
            f"answers where a span is likelier than no answer, and has a probability of at least {promise.min_confidence:.3f}"
        )
        news.print(
            f"promise: at most {promise.target_error:.1%} of the answers given are wrong, with {promise.confidence:.0%} confidence "
            f"(tested: {promise.num_wrong} of {promise.num_answered} answers wrong, {promise.num_tested} answers could be given)"
        )
    stderr().print(f"fitted on {calibration.num_questions} questions of {data}; kept in {folder}")


def _check_not_trained_on(model: Path, source: DataSet) -> None:
    trained = json.loads((model / run.MANIFEST).read_text(encoding="utf-8")).get("data", [])
    if source.sha256 in {part["sha256"] for part in trained}:
        raise DataError(
            f"{model} was trained on {source.source}: what it knows by heart calibrates nothing",
            "Calibrate on documents that it has not seen.",
        )


def run_compare(first: Path, second: Path, show: int) -> None:
    """`palmette compare-runs`."""
    a, b = Evaluation.read(first).scored, Evaluation.read(second).scored
    differences = paired_difference(b, a)
    console = stdout()
    console.print(f"A: {first}\nB: {second}\n")
    console.print(_difference_table(Evaluation(a).metrics, Evaluation(b).metrics, differences))
    of_b = {answer.question.id: answer for answer in b}
    pairs = [(answer, of_b[answer.question.id]) for answer in a]
    lost = [(x, y) for x, y in pairs if x.exact > y.exact]
    won = [(x, y) for x, y in pairs if x.exact < y.exact]
    other = sum(x.exact == y.exact and x.prediction.text != y.prediction.text for x, y in pairs)
    console.print(
        f"\nright in B only: {len(won)}; right in A only: {len(lost)}; another answer, as right or wrong: {other}"
    )
    for name, changed in (("right in B only", won), ("right in A only", lost)):
        if changed and show:
            console.print(f"\n{name} ({min(show, len(changed))} of {len(changed)})", style="bold")
        for x, y in changed[:show]:
            console.print(_changed(x, y))


def _difference_table(
    a: Mapping[str, float | int | None], b: Mapping[str, float | int | None], found: Mapping[str, Difference]
) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for name in ("measure", "A", "B", "B - A", "95 % interval", "p"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    for name, difference in found.items():
        digits = 3 if name in ("auroc_answerable", "ece", "brier", "aurc") else 1
        numbers = (a.get(name) or 0.0, b.get(name) or 0.0)
        table.add_row(
            name,
            *(f"{number:.{digits}f}" for number in numbers),
            f"{difference.value:+.{digits}f}",
            f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}",
            f"{difference.p:.3f}",
        )
    return table


def _changed(a: ScoredAnswer, b: ScoredAnswer) -> Text:
    gold: Sequence[str] = [answer.text for answer in a.question.answers[:1]] or ["(not in the document)"]
    shown = Text(f"{a.question.id}  ", "dim").append(a.question.text, "bold").append("\n")
    for name, answer in (("A", a), ("B", b)):
        style = "green" if answer.exact == 1.0 else "red"
        shown.append(f"  {name}: {answer.prediction.text or '(no answer)'}\n", style)
    return shown.append(f"  reference: {gold[0]}", "cyan")

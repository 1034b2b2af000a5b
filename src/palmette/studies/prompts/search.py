"""A search for a better prompt: a teacher varies and joins the best ones, and questions decide which stay.

The documents of the data are split into two halves. The search half chooses. The dev half then compares the chosen
prompt with the first one, by the paired test of a trial. Other data are looked at once, at the end, whatever the dev
half says. All three are kept apart: documents that are alike never stand on two sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palmette import __version__, run
from palmette.data.leakage import alike_documents
from palmette.data.records import DataSet
from palmette.errors import DataError, ModelError, PackingError, RunError, TemplateError
from palmette.evaluate.calibration import halves
from palmette.files import format_yaml
from palmette.inference.answerer import Answerer, DecoderName, load_answerer
from palmette.lock import locked
from palmette.model.loading import dtype_name, weights_hash
from palmette.numbers import count
from palmette.pages.prompt_search import PromptSearch, SearchedPrompt, write_prompt_search
from palmette.progress import Say
from palmette.studies.prompts.asking import PromptedModel, check_apart, final_record, prompt_records, read_asked
from palmette.studies.prompts.guard import ItemGuard
from palmette.studies.prompts.population import BASE, REASONS, Course, Population, Written
from palmette.synth.prompt_variations import PromptTeacher
from palmette.tasks.qa_prompt import OPTIONAL, QaPrompt, load_prompt

SETTINGS, COURSE, RECORD, PAGE, KEPT, PROMPTS = (
    "settings.json",
    "course.jsonl",
    "search.json",
    "search.html",
    "best.yaml",
    "prompts",
)
_SEARCH, _DEV, _FINAL = "search", "dev", "final"
_FEWEST = 2  # documents of a half, without which nothing is known about other documents
_GO_ON = "Give the options that it was begun with, or another name with --out."


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a search is run.

    Attributes:
        calls: the most calls of the teacher, those without a usable answer among them.
        questions: the most answers of the model in the search. No limit if None.
        population: how many of the best prompts are varied in a round.
        failures: how many wrongly answered questions the teacher is shown in a call.
        decoder: plain generation, which shows whether the format is kept, or the span decoder.
        limit_questions: use only the first N questions of each source.
        seed: seed of the draw of the questions that the teacher is shown.
    """

    calls: int = 20
    questions: int | None = None
    population: int = 4
    failures: int = 5
    decoder: DecoderName = "greedy"
    limit_questions: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Sources:
    """The questions of a search: the two halves of its data, and those of the last check."""

    search: DataSet
    dev: DataSet
    final: DataSet | None

    def all(self) -> list[DataSet]:
        return [source for source in (self.search, self.dev, self.final) if source is not None]


def search_prompts(
    model: str,
    base: str,
    data: str,
    teacher: PromptTeacher,
    *,
    out: Path,
    final: str | None = None,
    settings: SearchSettings | None = None,
    say: Say = lambda _: None,
) -> PromptSearch:
    """Search for a better instruction. A search that was stopped goes on in its folder.

    The folder gets search.html, search.json, best.yaml, every prompt below prompts/, what the teacher wrote in
    course.jsonl, and each evaluation below search/, dev/ and final/.

    Args:
        model: a run folder, a model folder, a GGUF file, or a hub id. A calibration is not used.
        base: the prompt to begin with, by name or file.
        data: questions with known answers, which are split by document.
        teacher: writes the variations.
        out: the folder.
        final: questions about other documents, for the last check.
        settings: how the search is run.
        say: told about each prompt.

    Raises:
        DataError: the prompt or the data cannot be read, there are too few documents, the budget does not allow for
            the first prompt and one variation, or a document of the last check is also in the data.
        ModelError: the model cannot be loaded.
        EndpointError: the teacher cannot be used.
        RunError: the folder holds a finished search or another one, or another process is writing it.
        KeyboardInterrupt: Ctrl-C. The folder holds what was done.
    """
    settings = settings or SearchSettings()
    if (out / RECORD).exists():
        raise RunError(f"{out} exists already", "Choose another name, or remove it first.")
    prompt = load_prompt(base)
    sources = _read(data, final, settings, say)
    answerer = load_answerer(model, calibrated=False)
    job = _settings_record(prompt, sources, answerer, teacher, settings)
    with locked(out, wait=False) as mine:
        if not mine:
            raise RunError(f"another process is writing {out}", "Wait for it, or give another name with --out.")
        _begin(out, job)
        asked = PromptedModel(answerer, settings.decoder, out)
        population = _searched(asked, prompt, sources, teacher, settings, say)
        found = _compared(asked, population, sources, Path(model).name, teacher.name, say)
        (out / PROMPTS).mkdir(exist_ok=True)
        for name, one in population.prompts.items():
            run.write_text(out / PROMPTS / f"{name}.yaml", _yaml(one, f"{name} of a search that began with {base}"))
        about = f"{found.kept} of a search that began with {base}"
        run.write_text(out / KEPT, _yaml(population.prompts[found.kept], about))
        write_prompt_search(out / PAGE, found)
        run.write_json(out / RECORD, {**run.environment(), **job, **_record(found, population)})
    return found


def _read(data: str, final: str | None, settings: SearchSettings, say: Say) -> _Sources:
    """Read all questions, split those of the search, and check what must hold of them."""
    whole = read_asked(data, settings.limit_questions, settings.decoder, say)
    checked_on = read_asked(final, settings.limit_questions, settings.decoder, say) if final else None
    if checked_on is not None:
        check_apart(whole, checked_on)
    search, dev = split(whole)
    if len(search.documents) < _FEWEST or len(dev.documents) < _FEWEST:
        raise DataError(
            f"{data} has {count(len(whole.documents), 'document')}, which cannot be split into two halves of "
            f"{_FEWEST} or more that have nothing in common",
            "Give questions about more documents.",
        )
    if settings.questions is not None and settings.questions < 2 * search.num_questions:
        raise DataError(
            f"the search half of {data} has {search.num_questions} questions, and the search may ask "
            f"{settings.questions}",
            f"Give --answers {2 * search.num_questions} or more, or fewer questions with --limit-questions.",
        )
    return _Sources(search, dev, checked_on)


def split(source: DataSet) -> tuple[DataSet, DataSet]:
    """The search half and the dev half of a data set, by document. Documents that are alike are on the search side.

    Args:
        source: the data. Documents without questions are left out.
    """
    asked = [document for document in source.documents if document.questions]
    search, dev = halves(asked)
    while alike := {other.id for _, other in alike_documents(search, dev)}:
        search += [document for document in dev if document.id in alike]
        dev = [document for document in dev if document.id not in alike]
    return replace(source, documents=tuple(search)), replace(source, documents=tuple(dev))


def _begin(out: Path, job: Mapping[str, Any]) -> None:
    """Begin the folder of a search, or check that of one that was stopped."""
    if not (out / SETTINGS).exists():
        run.check_absent(out)
        out.mkdir(parents=True)
        run.write_json(out / SETTINGS, job)
        return
    run.check_same(json.loads((out / SETTINGS).read_text(encoding="utf-8")), job, where=out, way_out=_GO_ON)


def _searched(
    asked: PromptedModel, base: QaPrompt, sources: _Sources, teacher: PromptTeacher, settings: SearchSettings, say: Say
) -> Population:
    """Vary the best prompts round by round, until no calls or no questions are left."""
    population = Population({BASE: base})
    source = sources.search

    def measure(name: str, origin: str = "") -> None:
        population.evaluations[name] = asked.evaluate(name, population.prompts[name], source, _SEARCH)
        say(f"{name}{origin}: {population.exact(name):.1f} % exact match")

    measure(BASE)
    course = Course(
        population,
        teacher,
        ItemGuard(sources.all(), base),
        asked.folder / COURSE,
        size=settings.population,
        num_failures=settings.failures,
        seed=settings.seed,
    )
    while (most := _calls_left(population, settings, source.num_questions)) > 0:
        for one in course.next_round(most):
            origin = f", from {one.parent}" + (f" and {one.partner}" if one.partner else "")
            if one.reason:
                say(f"{one.name}{origin}: refused, {REASONS[one.reason]}")
                continue
            try:
                measure(one.name, origin)
            except (TemplateError, PackingError, ModelError) as error:  # the base has been asked about these questions
                course.refuse(one.name)
                say(f"{one.name}{origin}: refused, {error.problem}")
    return population


def _calls_left(population: Population, settings: SearchSettings, num_questions: int) -> int:
    """How many variations can still be asked for and measured."""
    left = settings.calls - len(population.written)
    if settings.questions is None:
        return left
    return min(left, settings.questions // num_questions - len(population.evaluations))


def _compared(
    asked: PromptedModel, population: Population, sources: _Sources, model: str, teacher: str, say: Say
) -> PromptSearch:
    """Compare the prompt that the search half chose with the first one, on the dev half and on the last questions."""
    chosen = population.ranked()[0]
    dev = {}
    for name in dict.fromkeys((chosen, BASE)):
        say(f"dev half: {name}")
        dev[name] = asked.evaluate(name, population.prompts[name], sources.dev, _DEV)
    check = None
    if sources.final is not None:
        say("last check")
        check = asked.check(chosen, BASE, population.prompts, sources.final, _FINAL)
    by_name = {one.name: one for one in population.written}
    return PromptSearch(
        model=model,
        teacher=teacher,
        data=sources.search.source,
        num_questions=(sources.search.num_questions, sources.dev.num_questions),
        prompts=tuple(_on_page(name, population, by_name.get(name)) for name in population.prompts),
        num_calls=len(population.written),
        refused={reason: (number, REASONS[reason]) for reason, number in population.refused.items()},
        chosen=chosen,
        base=BASE,
        dev=asked.tried(dev, population.prompts, sources.dev),
        final=check,
    )


def _on_page(name: str, population: Population, written: Written | None) -> SearchedPrompt:
    evaluation = population.evaluations[name]
    return SearchedPrompt(
        name,
        "" if written is None else written.parent,
        "" if written is None else written.partner,
        0 if written is None else written.call,
        population.prompts[name].system,
        population.exact(name),
        evaluation.intervals.get("exact"),
    )


def _settings_record(
    prompt: QaPrompt, sources: _Sources, answerer: Answerer, teacher: PromptTeacher, settings: SearchSettings
) -> dict[str, Any]:
    """What the search depends on."""
    loaded, source = answerer.loaded, answerer.source
    return {
        "palmette": __version__,
        "model": loaded.name if source is None else source.name,
        "weights_sha256": answerer.weights or weights_hash(loaded.folder),
        "dtype": dtype_name(loaded.model.dtype),
        "base_sha256": prompt.sha256,
        "teacher": teacher.identity,
        "data": [one.describe() for one in sources.all()],
        "settings": asdict(settings),
    }


def _record(found: PromptSearch, population: Population) -> dict[str, Any]:
    return {
        "conclusion": found.conclusion(),
        "chosen": found.chosen,
        "kept": found.kept,
        "num_calls": found.num_calls,
        "refused": population.refused,
        "prompts": [asdict(one) for one in found.prompts],
        "dev": prompt_records(found.dev, population.prompts),
        "final": final_record(found.final),
    }


def _yaml(prompt: QaPrompt, about: str) -> str:
    """A prompt as a file that every command reads."""
    values = {key: value for key, value in asdict(prompt).items() if value or key not in (*OPTIONAL, "reasons")}
    return format_yaml({"about": about, **values})

"""A benchmark run as a job: items are scored chunk by chunk, each chunk is kept, and a stopped job goes on."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from palmette import __version__, run
from palmette.choice.encoding import ItemEncoder
from palmette.choice.items import ChoiceItem
from palmette.choice.measures import Outcome
from palmette.choice.prompting import Chat, choose_shots, examples_text, prompted
from palmette.choice.reading import Rows, read_rows
from palmette.choice.results import ITEMS, REPORT, SETTINGS, Result, outcome_record, read_outcome
from palmette.choice.scoring import score_items
from palmette.choice.settings import ChoiceSettings
from palmette.choice.task import RowReader, Task, load_task
from palmette.errors import DataError, RunError
from palmette.inference.base import load_merged, source_tokenizer
from palmette.inference.names import ModelSource, resolve_answerer
from palmette.lock import locked
from palmette.model.attention import AttentionChoice
from palmette.model.checks import check_model
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.progress import Say, progress

CHUNK = 64  # items
_GO_ON = "Give the options that it was begun with, or another name with --out."


@dataclass(frozen=True)
class TaskItems:
    """The items of a task as they are read, the same for every model.

    Attributes:
        task: the task.
        settings: how it is run.
        rows: where they come from.
        items: the items, without anything before them.
        examples: where the examples come from. None without examples.
        pool: the examples.
    """

    task: Task
    settings: ChoiceSettings
    rows: Rows
    items: tuple[ChoiceItem, ...]
    examples: Rows | None = None
    pool: tuple[ChoiceItem, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The items of a task as a model is to read them.

    Attributes:
        given: the items as they were read.
        items: the items, with everything before them.
    """

    given: TaskItems
    items: tuple[ChoiceItem, ...]


def read_items(task: Task, settings: ChoiceSettings, option: str = "--data") -> TaskItems:
    """Read the items of a task, and its examples if the settings ask for them.

    Args:
        task: the task.
        settings: how it is run.
        option: the option that names the file of the items, for messages.

    Raises:
        DataError: items or examples cannot be read or measured.
    """
    if settings.shots_data is not None and not settings.shots:
        raise DataError(
            f"--shots-data is {settings.shots_data!r}, and --shots is 0", "Give --shots, or leave --shots-data out."
        )
    reader = task.reader(settings.rule)
    rows = read_rows(task, settings.data, limit=settings.limit, option=option)
    items = tuple(rows.items(reader, keep_equal=settings.keep_equal))
    if rows.rendered and (settings.shots or settings.chat_template):
        raise DataError(
            f"{rows.source} holds rendered requests, which have their examples in them",
            "Leave --shots and --chat-template out.",
        )
    if not settings.shots:
        return TaskItems(task, settings, rows, items)
    examples = read_rows(task, settings.shots_data, split=task.shots_split, option="--shots-data")
    _check_apart(rows, examples)
    return TaskItems(task, settings, rows, items, examples, tuple(examples.items(reader, keep_equal=True)))


def prepare(given: TaskItems, tokenizer: Any) -> Prepared:
    """Put everything before the items of a task that the settings ask for.

    Args:
        given: the items.
        tokenizer: the model's tokenizer, whose chat template is used if the settings ask for it.

    Raises:
        DataError: the tokenizer would read an item as a control token, or there are too few examples.
        TemplateError: there is no chat template.
    """
    settings, rows, pool = given.settings, given.rows, given.pool
    reader = given.task.reader(settings.rule)
    about = [("" if rows.rendered else reader.description(row, rows.where(i))) for i, row in enumerate(rows.rows)]
    _check_plain(zip([*given.items, *pool], [*about, *("" for _ in pool)], strict=True), tokenizer)
    chat = Chat(tokenizer) if settings.chat_template else None
    before: dict[tuple[str, str], str] = {}
    done = []
    for item, description in zip(given.items, about, strict=True):
        key = (item.subject, description)
        if settings.shots and key not in before:
            before[key] = examples_text(choose_shots(pool, settings.shots, settings.seed, item.subject))
        done.append(_prompted(item, reader, description, before.get(key, ""), chat))
    return Prepared(given, tuple(done))


def _prompted(item: ChoiceItem, reader: RowReader, description: str, examples: str, chat: Chat | None) -> ChoiceItem:
    return prompted(
        item,
        reader.rule,
        description=description,
        examples=examples,
        chat=chat,
        delimiter=reader.wording.delimiter,
    )


def _check_plain(described: Iterable[tuple[ChoiceItem, str]], tokenizer: Any) -> None:
    """Refuse items in which the tokenizer would read text as a control token, with the description before each.

    The texts are checked as they stand in a row, since a control token may be put together from two of them.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values())
    control = re.compile("|".join(re.escape(token) for token in added if token.strip()) or "(?!)")
    for item, description in described:
        pairs = zip(item.contexts, item.continuations, strict=True)
        for text in (description + context + continuation for context, continuation in pairs):
            if found := control.search(text):
                raise DataError(
                    f"item {item.id!r} holds {found[0]!r}, which the tokenizer reads as a control token",
                    "Leave the item out, or write the text in another way.",
                )


def _check_apart(rows: Rows, examples: Rows) -> None:
    if rows.sha256 == examples.sha256:
        raise DataError(f"the examples and the items are both from {rows.source}", "Give other data with --shots-data.")


def evaluate_choice(
    task_name: str,
    model: str,
    out: Path,
    settings: ChoiceSettings | None = None,
    *,
    attention: AttentionChoice | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] | None = None,
    say: Say | None = None,
) -> Result:
    """Run a benchmark on a model, and write the folder of its results. A job that was stopped goes on.

    So does one that was stopped before its page was written. Its results are read, and nothing is scored.

    Args:
        task_name: a task, or a YAML file that describes one.
        model: a run folder, a model folder, a GGUF file, or a hub id.
        out: the folder. If it holds a job that was stopped, the job goes on.
        settings: how it is run.
        attention: the attention backend. The run's own, or "auto", if None.
        dtype: the data type of the model. The run's own, or "auto", if None.
        say: called with a line of news.

    Raises:
        DataError: there is no such task, or its items cannot be read or measured.
        ModelError: the model cannot be loaded, or is no decoder-only model.
        RunError: the folder holds other results, or another process is writing it.
        KeyboardInterrupt: Ctrl-C. The folder holds what was scored.
    """
    settings = settings or ChoiceSettings()
    task = load_task(task_name)
    task.reader(settings.rule)
    if (out / Result.FILE).exists() and (out / REPORT).exists():
        raise RunError(f"{out} exists already", "Choose another name, or remove it first.")
    source = _with_dtype(resolve_answerer(model), dtype)
    given = read_items(task, settings)  # mistakes in the data show before the model is loaded
    prepared = prepare(given, source_tokenizer(source))
    loaded = load_merged(source, attention=attention)
    check_model(loaded.model, training=False, weights=loaded.content)
    about = {**run.environment(), "model": model, "items": len(prepared.items)}
    job = _settings_record(given, loaded, source)
    with locked(out, wait=False) as mine:
        if not mine:
            raise RunError(f"another process is writing {out}", "Wait for it, or give another name with --out.")
        done = _begin(out, job, prepared.items)
        if (out / Result.FILE).exists():
            return Result.read(out)
        if done and say:
            say(f"{len(done)} of {len(prepared.items)} items were scored before. The rest follows.")
        started = time.monotonic()
        fresh, odd = _score(loaded, prepared.items, settings, out / ITEMS, len(done))
        seconds = time.monotonic() - started
        outcomes = (*done, *fresh)
        result = Result(job, outcomes, seconds if not done else None, odd, about)
        result.write(out, prepared.items)
    return result


def measure_choice(loaded: LoadedModel, source: ModelSource, prepared: Prepared) -> Result:
    """Run a benchmark on a model that is loaded, without a folder.

    Args:
        loaded: the model, which honours the attention mask.
        source: what its name stands for.
        prepared: the items, of `prepare`.
    """
    given, started = prepared.given, time.monotonic()
    outcomes, odd = _score(loaded, prepared.items, given.settings)
    return Result(_settings_record(given, loaded, source), tuple(outcomes), time.monotonic() - started, odd)


def _with_dtype(source: ModelSource, dtype: str | None) -> ModelSource:
    if dtype is None:
        return source
    return replace(source, section=source.section.model_copy(update={"dtype": dtype}))


def _settings_record(given: TaskItems, loaded: LoadedModel, source: ModelSource) -> dict[str, Any]:
    """What the numbers depend on."""
    task, settings, rows, examples = given.task, given.settings, given.rows, given.examples
    return {
        "palmette": __version__,
        "task": task.name,
        "task_sha256": task.sha256,
        "title": task.title,
        "headline": task.rules[settings.rule].headline,
        "rule": settings.rule,
        "rendered": rows.rendered,
        "shots": settings.shots,
        "seed": settings.seed if settings.shots else None,
        "chat_template": settings.chat_template,
        "template_sha256": _template_hash(loaded.tokenizer) if settings.chat_template else None,
        "limit": settings.limit,
        "mutual_info": settings.mutual_info,
        "data": {"source": rows.source, "sha256": rows.sha256},
        "shots_data": {"source": examples.source, "sha256": examples.sha256} if examples else None,
        "model": source.name,
        "weights_sha256": weights_hash(str(source.trained or loaded.folder)),
        "base_sha256": weights_hash(loaded.folder),
        "dtype": dtype_name(loaded.model.dtype),
        "attention": loaded.model.config._attn_implementation,
        "tokens_per_batch": settings.tokens_per_batch,
    }


def _template_hash(tokenizer: Any) -> str:
    """Hash of the chat template of a tokenizer."""
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


def _begin(out: Path, job: Mapping[str, Any], items: Sequence[ChoiceItem]) -> list[Outcome]:
    """Begin the folder of a job, or check that of a job that was stopped. The result is what it has scored."""
    if not (out / SETTINGS).exists():
        if not _is_empty(out):
            run.check_absent(out)
        out.mkdir(parents=True, exist_ok=True)
        run.write_json(out / SETTINGS, job)
        return []
    run.check_same(json.loads((out / SETTINGS).read_text(encoding="utf-8")), job, where=out, way_out=_GO_ON)
    path = out / ITEMS
    records = run.read_log(path) if path.exists() else []
    whole = len(records) if len(records) == len(items) else len(records) // CHUNK * CHUNK
    done = [read_outcome(record) for record in records[:whole]]
    if [outcome.id for outcome in done] != [item.id for item in items[: len(done)]]:
        raise RunError(f"{path} holds other items", _GO_ON)
    run.write_text(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records[:whole]))
    return done


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _score(
    loaded: LoadedModel,
    items: Sequence[ChoiceItem],
    settings: ChoiceSettings,
    path: Path | None = None,
    done: int = 0,
) -> tuple[list[Outcome], dict[str, list[str]]]:
    """Score the items that are left, note which ones are odd among all, and add a line for each to a file, if any."""
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    encoder = ItemEncoder(loaded.tokenizer, settings.rule, max_tokens=limit, mutual=settings.mutual_info)
    found: list[Outcome] = []
    odd: dict[str, list[str]] = {"merged": [], "cut": []}
    with closing(progress(len(items), "choices", "items", done=done)) as bar:
        for start, part in _chunks(items):
            encoded = encoder.encode(part)
            odd["merged"].extend(one.id for one in encoded if one.merged)
            odd["cut"].extend(one.id for one in encoded if one.cut)
            if start + len(part) <= done:
                continue
            scores = score_items(loaded.model, encoded, tokens_per_batch=settings.tokens_per_batch)
            outcomes = [
                Outcome(item.id, item.subject, item.gold, item.choices, score.logprobs, score.alone)
                for item, score in zip(part, scores, strict=True)
            ]
            lines = [json.dumps(outcome_record(outcome), ensure_ascii=False) for outcome in outcomes]
            if path is not None:
                run.append_line(path, "\n".join(lines))
            found.extend(outcomes)
            bar.update(len(part))
    return found, odd


def _chunks(items: Sequence[ChoiceItem]) -> Iterator[tuple[int, Sequence[ChoiceItem]]]:
    for start in range(0, len(items), CHUNK):
        yield start, items[start : start + CHUNK]

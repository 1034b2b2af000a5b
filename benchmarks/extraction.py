"""Ten fields of real contracts, by a schema: how many are found, how many are left empty rightly, and the time.

The contracts are CUAD's (cuad.py says how they are parted, and what counts as right), and the schema is extraction.yaml
beside this script. Contracts are read the shortest first into a file, a line each, and the same command goes on where
it stopped:

    python benchmarks/extraction.py CUAD read reader-test.jsonl --part test
    python benchmarks/extraction.py CUAD read reader-calibrate.jsonl --part calibrate
    python benchmarks/extraction.py CUAD read greedy-test.jsonl --part test --way generation
    python benchmarks/extraction.py CUAD read encoder-test.jsonl --part test --way encoder --model RUN
    python benchmarks/extraction.py CUAD table reader-test.jsonl --calibrate reader-calibrate.jsonl

To learn from contracts, `cuad.py` writes labels. `palmette extract --learn` and `palmette train sft` do the rest. An
encoder learns from the same windows, each question once:

    python benchmarks/extraction.py CUAD windows learn.jsonl windows.json

The span decoder searches every window to the end, and its scores are written. So one reading serves all rules of
deciding, which `table` compares. `generation` is greedy decoding with the same model in the same windows. The first
answer that is not "?" counts. The encoder reads windows of its own. It answers by a threshold of 0, and `always` is
what it says if no answer is no choice.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cuad
from extraction_rules import print_tables

import palmette
from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.decode.posterior import WindowScores
from palmette.decode.span_decoder import SpanDecoder
from palmette.extraction.reading import WHOLE_SEARCH
from palmette.extraction.schema import Schema, read_schema
from palmette.inference.answerer import Answerer
from palmette.inference.names import resolve_answerer
from palmette.inference.task import recipe_task
from palmette.model.tokenizer import load_tokenizer
from palmette.train.long_documents import cut_document

Read = Callable[[cuad.Contract], dict[str, Any]]


def span_way(reader: Answerer, schema: Schema) -> Read:
    """The scores of every window, for every field."""
    decoder = reader.span_decoder(None, WHOLE_SEARCH)
    least = {field.name: field.least_probability for field in schema.fields if field.many}

    def read(contract: cuad.Contract) -> dict[str, Any]:
        document = _document(contract.name, contract.text, schema)
        windows = decoder.windows(document.text)
        opened = decoder.opened(document.questions)
        asked = ((decoder.reading(document, windows, index), opened) for index in range(len(windows)))
        fields: dict[str, list[Any]] = {field.name: [] for field in schema.fields}
        cache = decoder.new_cache()
        for jobs in decoder.batches(asked, least):
            decoder.asking.run(cache, jobs)
            for job in jobs:
                fields[job.question].append(line_of(job.answer.search.scores()))
        # A span belongs to the window of whose own words its first one is.
        own = [window.words[0][0] for window in windows]
        return {"windows": own, "scores": fields}

    return read


def generation_way(reader: Answerer, schema: Schema) -> Read:
    """The first answer of greedy decoding, window after window."""
    greedy = reader.decoder("greedy")
    cutter: SpanDecoder = reader.span_decoder(None, WHOLE_SEARCH)

    def read(contract: cuad.Contract) -> dict[str, Any]:
        answers: dict[str, str] = {}
        for index, window in enumerate(cutter.windows(contract.text)):
            part = _document(f"{contract.name} {index}", contract.text[window.start : window.end], schema)
            for question, said in greedy.predict([part]):
                if said.text and question not in answers:
                    answers[question] = said.text
        return {"answers": answers}

    return read


def encoder_way(run: str, schema: Schema) -> Read:
    """The answers of an encoder with a span head."""
    from palmette.baselines.encoder import DEFAULT_WINDOWING, EncoderDecoder, load_encoder
    from palmette.baselines.span_scores import decide

    decoder = EncoderDecoder(load_encoder(str(Path(run, "model")), DEFAULT_WINDOWING))

    def read(contract: cuad.Contract) -> dict[str, Any]:
        answers: dict[str, str] = {}
        always: dict[str, str] = {}
        for document, question, scores in decoder.scores([_document(contract.name, contract.text, schema)]):
            for found, threshold in ((answers, 0.0), (always, math.inf)):
                if text := decide(document.text, scores, threshold).text:
                    found[question] = text
        return {"answers": answers, "always": always}

    return read


def _document(name: str, text: str, schema: Schema) -> Document:
    return Document(name, text, tuple(Question(field.name, field.question) for field in schema.fields))


def line_of(scores: WindowScores) -> list[Any]:
    """The scores of a window as JSON has them."""
    spans = [[text, start, round(odds, 4)] for text, (start, odds) in scores.spans.items()]
    return [spans, scores.unscored, scores.bound, scores.num_passes, scores.slack, scores.has_twins]


def read_contracts(options: argparse.Namespace) -> None:
    """Read the contracts that the file does not hold yet."""
    schema = read_schema(cuad.SCHEMA)
    chosen = cuad.part(cuad.contracts(options.folder), options.part, options.most_characters)
    done = {line["contract"] for line in read_lines(options.out)} if options.out.exists() else set()
    if options.way == "encoder":
        read = encoder_way(options.model, schema)
    else:
        way = span_way if options.way == "span" else generation_way
        read = way(palmette.load(options.model), schema)
    for contract in chosen:
        if contract.name in done:
            continue
        started, used = time.perf_counter(), time.process_time()
        found = read(contract)
        seconds, processor = (round(one, 2) for one in (time.perf_counter() - started, time.process_time() - used))
        sizes = {"characters": len(contract.text), "seconds": seconds, "processor": processor}
        line = {"contract": contract.name, **sizes, **found}
        with options.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        print(
            f"{contract.name[:60]}: {len(contract.text):,} characters, {seconds} s, {processor} of them computing",
            flush=True,
        )


def write_windows(learned: Path, out: Path, model: str) -> None:
    """Write the windows in which `palmette train` would let a run learn questions."""
    source = resolve_answerer(model)
    recipe = source.recipe
    assert recipe is not None
    task = recipe_task(recipe, load_tokenizer(source.section.name))
    documents = read_source(str(learned), default_split="train").documents
    windows = [one for document in documents for one in cut_document(task, document, recipe.train.row_tokens)]
    out.write_text(dump_squad(tuple(windows)), encoding="utf-8")
    questions = [question for window in windows for question in window.questions]
    print(
        f"{len(questions)} questions, {sum(one.answerable for one in questions)} with an answer, {len(windows)} windows"
    )


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file, each a contract."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def main() -> None:
    """Read contracts, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of CUAD")
    commands = parser.add_subparsers(dest="command", required=True)
    read = commands.add_parser("read")
    read.add_argument("out", type=Path)
    read.add_argument("--part", choices=("learn", "calibrate", "test"), default="test")
    read.add_argument("--way", choices=("span", "generation", "encoder"), default="span")
    read.add_argument("--model", default="reader")
    read.add_argument("--most-characters", type=int, help="leave out longer contracts")
    table = commands.add_parser("table")
    table.add_argument("out", type=Path)
    table.add_argument("--calibrate", type=Path, nargs="+", default=[], help="readings of contracts to calibrate on")
    table.add_argument("--model", default="reader", help="whose calibration is meant by `as it comes`")
    windows = commands.add_parser("windows")
    windows.add_argument("learned", type=Path, help="what `palmette extract --learn` wrote")
    windows.add_argument("out", type=Path)
    windows.add_argument("--model", default="reader", help="the run that starts the training")
    options = parser.parse_args()
    if options.command == "read":
        read_contracts(options)
        return
    if options.command == "windows":
        write_windows(options.learned, options.out, options.model)
        return
    known = {one.name: one for one in cuad.contracts(options.folder)}
    lines = list(read_lines(options.out))
    others = [line for path in options.calibrate for line in read_lines(path)]
    print_tables(lines, others, known, read_schema(cuad.SCHEMA), options.model)


if __name__ == "__main__":
    main()

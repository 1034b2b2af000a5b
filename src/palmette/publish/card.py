"""The model card: what was trained on what and how, how well it does, how to use it, and what it is not for.

Its metadata follow the hub's specification of model cards (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from palmette.evaluate.names import HEADLINES, with_interval
from palmette.publish.public import Figures, Source

Kind = Literal["adapter", "merged", "full"]
_WHAT = {
    "adapter": "A LoRA adapter for [{base}](https://huggingface.co/{base})",
    "merged": "[{base}](https://huggingface.co/{base}) with a LoRA adapter merged into its weights",
    "full": "[{base}](https://huggingface.co/{base}) with all its weights fine-tuned",
}


@dataclass(frozen=True)
class Publication:
    """What a card tells.

    Attributes:
        to: the repository, USER/NAME.
        kind: an adapter, a model with its adapter merged, or a model trained as a whole.
        base: the base model's id on the hub.
        quantization: how the base was kept in training, None for as it is.
        licence: of what is published.
        sources: what it learned from.
        recipe: how, as YAML.
        figures: what evaluations found.
        prompt: a whole prompt as the model got them in training.
        calibrated: whether a calibration goes with it.
        version: of palmette.
        only_here: why no other program can ask it as it was trained; "" if one can.
    """

    to: str
    kind: Kind
    base: str
    quantization: str | None
    licence: str
    sources: Sequence[Source]
    recipe: str
    figures: Sequence[Figures]
    prompt: str
    calibrated: bool
    version: str
    only_here: str = ""


def model_card(publication: Publication) -> str:
    """The card as Markdown with its metadata in front.

    Raises:
        ValueError: the metadata do not read back as they were meant.
    """
    metadata = card_data(publication)
    parts = [_summary, _figures, _data, _use, _limits, _recipe, _licence]
    body = "\n\n".join(part(publication) for part in parts)
    text = f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"
    if ModelCard(text).data.to_yaml() != metadata.to_yaml():
        raise ValueError("the card's metadata do not read back")
    return text


def card_data(publication: Publication) -> ModelCardData:
    """The card's metadata."""
    name = publication.to.partition("/")[2]
    hub_ids = sorted({source.hub_id for source in publication.sources if source.hub_id})
    results = [result for figures in publication.figures for result in _results(figures)]
    adapter = publication.kind == "adapter"
    return ModelCardData(
        license=publication.licence,
        base_model=publication.base,
        base_model_relation="adapter" if adapter else "finetune",
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["palmette", "extractive-question-answering", *(["lora"] if adapter else [])],
        datasets=hub_ids or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _results(figures: Figures) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="question-answering",
            dataset_type=re.sub(r"[^\w./-]", "-", figures.data),
            dataset_name=figures.data,
            metric_type=metric,
            metric_name=f"{HEADLINES[key]}, {_decoder(figures)}",
            metric_value=figures.metrics[key],
        )
        for key, metric in (("exact", "exact_match"), ("f1", "f1"))
        if figures.metrics.get(key) is not None
    ]


def _decoder(figures: Figures) -> str:
    named = {"span": "span decoder", "beam": "beam search"}.get(figures.decoder, figures.decoder)
    return f"{named}, calibrated" if figures.calibrated else named


def _summary(publication: Publication) -> str:
    what = _WHAT[publication.kind].format(base=publication.base)
    few_bits = f" (kept in {publication.quantization} while training)" if publication.quantization else ""
    return (
        f"# {publication.to.partition('/')[2]}\n\n{what}{few_bits}, for one task: answer a question about a document with the words "
        "of that document, or say that it does not answer. The completion is a JSON object with the answer under one key."
    )


def _figures(publication: Publication) -> str:
    if not publication.figures:
        return "## Figures\n\nNone were given. Measure it on documents of your own before relying on it."
    headings = [f"{figures.data}, {_decoder(figures)}" for figures in publication.figures]
    rows = [["percent", *headings], ["---", *("---:" for _ in headings)]]
    for key, label in HEADLINES.items():
        cells = [_figure(figures, key) for figures in publication.figures]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    rows.append(["questions", *(str(figures.questions) for figures in publication.figures)])
    hashes = "\n".join(f"- {escape(f.data)}: SHA-256 or fingerprint `{f.sha256}`" for f in publication.figures)
    return (
        "## Figures\n\nMetrics of SQuAD v2; in brackets 95 % intervals by bootstrap over documents.\n\n"
        f"{_table(rows)}\n\n{hashes}"
    )


def _figure(figures: Figures, key: str) -> str:
    value, interval = figures.metrics.get(key), figures.intervals.get(key)
    if value is None:
        return "-"
    return with_interval(value, interval)


def _data(publication: Publication) -> str:
    rows = [
        ["source", "documents", "questions", "licence", "SHA-256 or fingerprint"],
        ["---", "---:", "---:", "---", "---"],
    ]
    for source in publication.sources:
        rows.append([source.name, str(source.documents), str(source.questions), source.licence, f"`{source.sha256}`"])
    return f"## Training data\n\n{_table(rows)}"


def _use(publication: Publication) -> str:
    folder = "adapter" if publication.kind == "adapter" else "model"
    run = f"runs/{publication.to.partition('/')[2]}"
    commands = "\n".join(
        [
            f"hf download {publication.to} --local-dir {run}/{folder}",
            f"mv {run}/{folder}/recipe.yaml {run}/{folder}/manifest.json {run}/",
            f'palmette ask --model {run} --document FILE "QUESTION"',
        ]
    )
    calibrated = " It decides as calibrated." if publication.calibrated else ""
    library = "transformers and peft" if publication.kind == "adapter" else "transformers"
    own = (
        f"## Use\n\nWith palmette, whose span decoder gives a span of the document with its place and a probability.{calibrated}\n\n"
        f"{_fenced(commands, 'sh')}\n\n"
    )
    if publication.only_here:
        return f"{own}Not with other programs: {publication.only_here}."
    return (
        f"{own}With {library}. The prompt has to be the one of the training, to the letter:\n\n"
        f"{_fenced(_python(publication), 'python')}\n\n"
        "Text of a document that looks like a control token of the chat template would act as one here; palmette keeps it text."
    )


def _python(publication: Publication) -> str:
    adapter = publication.kind == "adapter"
    if adapter:
        imports = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
    else:
        imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    kind = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    lines = [
        *imports,
        "",
        f"model = {kind}.from_pretrained({publication.to!r})",
        f"tokenizer = AutoTokenizer.from_pretrained({(publication.base if adapter else publication.to)!r})",
        "prompt = (",
        *(f"    {line!r}" for line in publication.prompt.splitlines(keepends=True)),
        ")",
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")',
        "output = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join(lines)


def _limits(publication: Publication) -> str:
    return (
        "## Intended use and limits\n\n"
        "Meant for short answers that stand in a given text: a name, a date, a number, a clause.\n\n"
        "- It is wrong at times, and sure of itself at times when it is wrong: a wrong span, or a refusal where the text does answer. "
        "Where an error costs something, let a person look at the place in the document.\n"
        "- Plain generation may give words that do not stand in the document; the span decoder cannot.\n"
        "- Figures hold for texts and questions like those they were measured on, other languages and domains not included.\n"
        "- It says what a document says, not whether that is true, and a document may have been written to mislead it.\n"
        f"- Everything else that is known of the limits and biases of {publication.base} holds here too. Fine-tuning on one task may have "
        "cost it others."
    )


def _recipe(publication: Publication) -> str:
    return (
        f"## Recipe\n\nTrained with palmette {publication.version} (`palmette train sft`); `manifest.json` has versions and hashes.\n\n"
        f"{_fenced(publication.recipe.rstrip(), 'yaml')}"
    )


def _licence(publication: Publication) -> str:
    licences = sorted({f"{source.name}: {source.licence}" for source in publication.sources})
    return f"## Licence\n\n{publication.licence}. Training data: {escape('; '.join(licences))}."


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows)


def escape(text: str) -> str:
    """Text in which nothing is Markdown that would break a table or hide a name."""
    return re.sub(r"([|<>*_\[\]\\])", r"\\\1", text)


def _fenced(text: str, kind: str) -> str:
    """A block of code, fenced by more backticks than stand together within."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"

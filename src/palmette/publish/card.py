"""The model card: the model, its training data, recipe, figures, use and limits.

The card's metadata follow the hub's specification of model cards (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from palmette.evaluate.names import HEADLINES
from palmette.numbers import with_interval
from palmette.publish.joined_tokens import JoinedPrompts
from palmette.publish.public import Figures, Source

Kind = Literal["adapter", "merged", "full"]
_WHAT = {
    "adapter": "A LoRA adapter for [{base}](https://huggingface.co/{base})",
    "merged": "[{base}](https://huggingface.co/{base}) with a LoRA adapter merged into its weights",
    "full": "[{base}](https://huggingface.co/{base}) with all its weights fine-tuned",
}


@dataclass(frozen=True)
class Publication:
    """The contents of a card.

    Attributes:
        to: the repository, USER/NAME.
        kind: an adapter, a model with its adapter merged, or a model trained as a whole.
        base: the base model's id on the hub.
        quantization: how the base was quantized in training. None if it was not.
        licence: the licence of what is published.
        sources: the training data.
        recipe: the recipe, as YAML.
        figures: results of evaluations.
        prompt: the example's prompt, as text.
        prompt_tokens: the example's prompt, as the token ids of training.
        joined: how many prompts another program would encode differently.
        example_joined: whether the example's prompt is one of these.
        calibrated: whether a calibration is published too.
        version: the version of palmette that trained it.
        only_here: why no other program can ask it as it was trained. Empty if another program can.
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
    prompt_tokens: Sequence[int]
    joined: JoinedPrompts
    example_joined: bool
    calibrated: bool
    version: str
    only_here: str = ""


def model_card(publication: Publication) -> str:
    """The card as Markdown, its metadata first.

    Raises:
        ValueError: the metadata read back differently.
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
    few_bits = f" (quantized to {publication.quantization} in training)" if publication.quantization else ""
    return (
        f"# {publication.to.partition('/')[2]}\n\n{what}{few_bits}. It does one task: it answers a question about a "
        "document with words copied from that document, or says that the document does not answer it. The completion "
        "is a JSON object with the answer under one key."
    )


def _figures(publication: Publication) -> str:
    if not publication.figures:
        return "## Figures\n\nNone were given. Measure the model on your own documents before you rely on it."
    headings = [f"{figures.data}, {_decoder(figures)}" for figures in publication.figures]
    rows = [["percent", *headings], ["---", *("---:" for _ in headings)]]
    for key, label in HEADLINES.items():
        cells = [_figure(figures, key) for figures in publication.figures]
        if any(cell != "-" for cell in cells):
            rows.append([label, *cells])
    rows.append(["questions", *(str(figures.questions) for figures in publication.figures)])
    hashes = "\n".join(f"- {escape(f.data)}: SHA-256 or fingerprint `{f.sha256}`" for f in publication.figures)
    return (
        "## Figures\n\nMetrics of SQuAD v2, with 95 % intervals by bootstrap over documents in brackets.\n\n"
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
            f'palmette ask FILE "QUESTION" --model {run}',
        ]
    )
    calibrated = " It decides as it was calibrated." if publication.calibrated else ""
    library = "transformers and peft" if publication.kind == "adapter" else "transformers"
    own = (
        "## Use\n\nWith palmette, every answer is copied verbatim from the document, with its position and a "
        f"probability.{calibrated}\n\n{_fenced(commands, 'sh')}\n\n"
    )
    if publication.only_here:
        return f"{own}Other programs cannot use it: {publication.only_here}."
    return (
        f"{own}With {library}, the prompt has to be exactly the prompt of the training. "
        f"{_tokens_note(publication)}\n\n{_fenced(_python(publication), 'python')}\n\nIn this example, text of a "
        "document that looks like a control token of the chat template acts as one. Palmette keeps it text."
    )


def _tokens_note(publication: Publication) -> str:
    """Whether a plain tokenizer gives the tokens of training, and what to do where it does not."""
    joined = publication.joined
    compared = f"{joined.total:,} prompts of {joined.data}"
    if not joined.joined and not publication.example_joined:
        return f"Its tokenizer then gives the tokens of the training: it did for all of {compared}."
    return (
        f"Of {compared}, {joined.joined:,} ({joined.percent:.1f} %) get other tokens than in training when their text "
        "is encoded as a whole. The tokenizer joins characters where two parts of the prompt meet, such as a full "
        "stop and the line breaks after it, and training encoded each part by itself. Answers to such prompts may be "
        "worse. The example therefore passes token ids. For your own prompts, encode the text of the template, the "
        "document and the question one by one, and join the ids."
    )


def _python(publication: Publication) -> str:
    adapter = publication.kind == "adapter"
    if adapter:
        imports = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
    else:
        imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    kind = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    if publication.joined.joined or publication.example_joined:
        imports.insert(0, "import torch")
    lines = [
        *imports,
        "",
        f"model = {kind}.from_pretrained({publication.to!r})",
        f"tokenizer = AutoTokenizer.from_pretrained({(publication.base if adapter else publication.to)!r})",
        "prompt = (",
        *(f"    {line!r}" for line in publication.prompt.splitlines(keepends=True)),
        ")",
        *_inputs(publication),
        "output = model.generate(**inputs, max_new_tokens=64, do_sample=False)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join(lines)


def _inputs(publication: Publication) -> list[str]:
    """Lines of Python that encode the example's prompt."""
    if not publication.joined.joined and not publication.example_joined:
        return ['inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")']
    rows = textwrap.wrap(", ".join(map(str, publication.prompt_tokens)), 100)
    return [
        "token_ids = [  # of the prompt above, as in training",
        *(f"    {row}" for row in rows),
        "]",
        "input_ids = torch.tensor([token_ids])",
        'inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}',
    ]


def _limits(publication: Publication) -> str:
    return (
        "## Intended use and limits\n\nThe model is meant for short answers that a given text states: a name, a "
        "date, a number, a clause.\n\n- It makes mistakes, and it may be sure of them: a wrong span, or a refusal "
        "where the text does answer. Where a mistake is costly, have a person check the answer's position in the "
        "document.\n- Plain generation may give words that are not in the document. The span decoder cannot.\n- "
        "Figures hold for texts and questions like those that they were measured on. Other languages and domains may "
        "do worse.\n- It says what a document says, and not whether that is true. A document may have been written "
        f"to mislead it.\n- All known limits and biases of {publication.base} apply here too. Fine-tuning on one task "
        "may have made it worse at others."
    )


def _recipe(publication: Publication) -> str:
    return (
        f"## Recipe\n\nTrained with palmette {publication.version} (`palmette train sft`). `manifest.json` has "
        f"versions and hashes.\n\n{_fenced(publication.recipe.rstrip(), 'yaml')}"
    )


def _licence(publication: Publication) -> str:
    licences = sorted({f"{source.name}: {source.licence}" for source in publication.sources})
    return f"## Licence\n\n{publication.licence}. Training data: {escape('; '.join(licences))}."


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows)


def escape(text: str) -> str:
    """A text with Markdown's special characters escaped, so that it breaks no table and hides no name."""
    return re.sub(r"([|<>*_\[\]\\])", r"\\\1", text)


def _fenced(text: str, kind: str) -> str:
    """A block of code. Its fence is longer than any run of backticks in the code."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"

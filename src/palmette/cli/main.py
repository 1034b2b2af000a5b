"""The `palmette` command: the table of commands, and what happens when one of them fails."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from palmette import __version__
from palmette.cli.failures import run_command
from palmette.cli.lazy import Command, Group, lazy_app

_EVAL = {
    "squad": Command(
        "measure.evaluation:eval_squad",
        "Answer a data set with a model, and write metrics and a report.",
    ),
    "predictions": Command(
        "measure.evaluation:eval_predictions", "Score prediction files of the official SQuAD v2 format."
    ),
    "choice": Command("measure.benchmarks:eval_choice", "Run a multiple-choice benchmark such as HellaSwag."),
    "endpoint": Command(
        "endpoint:eval_endpoint",
        "Answer a data set with a chat model behind an endpoint.",
    ),
    "texts": Command("make.texts:eval_texts", "Measure how well a model predicts texts, as perplexity by source."),
    "retention": Command(
        "measure.evaluation:eval_retention",
        "Measure what fine-tuning cost on general text and chats.",
    ),
    "reward": Command(
        "measure.evaluation:eval_reward",
        "Measure a reward model on comparisons.",
    ),
    "divergence": Command(
        "measure.evaluation:eval_divergence",
        "Measure how far a policy is from its reference model.",
    ),
    "mt-bench": Command(
        "measure.mt_bench:eval_mt_bench",
        "Answer the questions of MT-Bench, and let a judge grade the answers.",
    ),
    "alpaca": Command("measure.win_rates:eval_alpaca", "Win rates of models against a reference, by a judge."),
}
_BASELINE = {
    "encoder": Command(
        "measure.baseline:baseline_encoder",
        "Train and evaluate an encoder with a span head.",
    ),
}
_SYNTH = {
    "rationales": Command(
        "make.synth:synth_rationales",
        "Ask a teacher that knows the answers for the reasoning.",
    ),
    "quotes": Command(
        "make.synth:synth_quotes",
        "Write the reasoning by rule, without a teacher.",
    ),
    "negatives": Command(
        "make.negatives:synth_negatives",
        "Add unanswerable questions, without a teacher.",
    ),
    "cloze": Command(
        "make.documents:synth_cloze",
        "Make questions about documents by hiding spans that recur, without a writer.",
    ),
    "questions": Command(
        "make.documents:synth_questions",
        "Make questions about documents with a writer, each checked by a reader.",
    ),
    "instruct": Command(
        "make.conversations:synth_instruct",
        "Make tasks and their answers with a writer, as conversations.",
    ),
    "from-text": Command(
        "make.conversations:synth_from_text",
        "Find questions and their answers in texts with a writer, as conversations.",
    ),
    "preferences": Command(
        "make.synth:synth_preferences",
        "Make preferences from a model's own answers, or from verdicts.",
    ),
    "tokenizer": Command(
        "make.texts:synth_tokenizer",
        "Train a tokenizer on texts, and write the configuration of a small model with it.",
    ),
}
_REVIEW = {
    "export": Command("judge.verdicts:review_export", "Write verdicts to a file, to learn from or for another tool."),
    "import": Command("judge.verdicts:review_import", "Add verdicts from a file, of palmette or of another tool."),
    "agreement": Command(
        "judge.verdicts:review_agreement", "Say how far people agree, and whether suggestions sway them."
    ),
    "retrain": Command(
        "judge.verdicts:review_retrain",
        "Train a run further on verdicts, and compare it with the old one on the audit set.",
    ),
}
_PROMPTS = {
    "list": Command("train.prompts:prompts_list", "List the prompts that a recipe can name."),
    "try": Command(
        "train.prompts:prompts_try",
        "Put the same questions under several prompts, and say which differences are noise.",
    ),
    "search": Command(
        "train.prompts:prompts_search", "Search for a better prompt with a teacher that writes variations."
    ),
}
_ARENA = {
    "sample": Command("judge.arena:arena_sample", "Let several models answer the same prompts, for votes."),
    "serve": Command(
        "judge.arena:arena_serve",
        "Vote in the browser on which of two answers is better, without seeing the models' names.",
    ),
    "export": Command("judge.arena:arena_export", "Write the votes of an arena in FastChat's columns."),
    "rank": Command("judge.ranking:arena_rank", "Rank models by votes of people on pairs of answers."),
}
_JUDGE = {
    "pairs": Command("judge.judges:judge_pairs", "Ask a judge which of two answers is better."),
    "grades": Command("measure.mt_bench:judge_grades", "Read grades out of what a judge wrote, and give their means."),
    "validate": Command("judge.judges:judge_validate", "Compare a judge's verdicts with votes of people."),
}
_DATA = {
    "check": Command("make.data:check", "Say what a data file holds, and what is wrong with it."),
    "show": Command(
        "make.data_forms:show", "Print what a data file is understood as: its form, and its first records."
    ),
    "export": Command(
        "make.data_forms:export", "Write data as the rows of other trainers, with what is learned of them."
    ),
    "corpus": Command(
        "make.texts:corpus", "Say what texts hold, and what cleaning would drop of them, before a token is learned."
    ),
}
_MODELS = {
    "compare": Command(
        "measure.models:compare",
        "Show what models are made of, how they read, what they say and what they cost.",
    ),
    "rank": Command("measure.models:rank", "Rank models on your own data by quality, speed, memory and size."),
}
# What `palmette --help` shows, section by section.
SECTIONS: dict[str, dict[str, Command | Group]] = {
    "Answer": {
        "ask": Command("answer.ask:ask", "Answer questions about a document."),
        "predict": Command("answer.predict:predict", "Answer files of questions, or put questions to many documents."),
        "extract": Command("answer.extract:extract", "Read the fields of a schema out of documents, into a table."),
        "chat": Command("answer.chat:chat", "Talk with a model in the terminal."),
        "serve": Command("answer.serve:serve", "Serve models over HTTP, for OpenAI clients and others."),
        "mcp": Command("answer.mcp:mcp", "Read documents for assistants, over the Model Context Protocol."),
        "mcmc": Command("answer.mcmc:mcmc", "Fill the blanks of a text with an encoder."),
    },
    "Train": {
        "quickstart": Command(
            "train.quickstart:quickstart",
            "Fine-tune the reader, and compare it before and after.",
        ),
        "train": Group("Train a model, one stage at a time.", "train.stages:stage_commands"),
        "recipe": Command("train.recipe:recipe", "Print a recipe with every key, its default and its meaning."),
        "sweep": Command("train.studies:sweep", "Train and measure a recipe under varied settings."),
        "chain": Command(
            "train.studies:chain",
            "Run training stages that build on one another.",
        ),
        "inspect": Command(
            "train.inspect:inspect",
            "Show a packed training example as the loss sees it.",
        ),
        "prompts": Group(
            "List prompts, and compare them on the same questions.", _PROMPTS, target="train.prompts:prompts"
        ),
        "report": Command(
            "train.stages:report",
            "Write the page of a training run again.",
        ),
    },
    "Measure": {
        "eval": Group("Measure a model.", _EVAL),
        "models": Group("Compare models, and choose one.", _MODELS),
        "plan": Command("measure.plan:plan", "Say how much memory a model needs, and what fits which card."),
        "compare-runs": Command("measure.comparison:compare_runs", "Compare two evaluations of the same data."),
        "calibrate": Command(
            "measure.evaluation:calibrate",
            "Decide when a model answers or refuses, at a stated cost.",
        ),
        "baseline": Group("Train and measure other ways to answer.", _BASELINE),
    },
    "Judge": {
        "review": Group("Judge a model's answers in the browser.", _REVIEW, target="judge.review:review"),
        "arena": Group("Collect votes of people, and rank models by them.", _ARENA),
        "judge": Group("Check models that judge answers.", _JUDGE),
    },
    "Make data": {
        "data": Group("Check data before it is used, and export it.", _DATA),
        "synth": Group("Make training data.", _SYNTH),
        "examples": Command("make.data:examples", "Write small example files for every command."),
    },
    "Publish": {
        "merge": Command("publish:merge", "Merge a run's adapter into its model's weights."),
        "push": Command(
            "publish:push",
            "Upload a run to the Hugging Face hub, with a model card.",
        ),
    },
}
COMMANDS: dict[str, Command | Group] = {name: entry for table in SECTIONS.values() for name, entry in table.items()}
_ABOUT = "Exact answers from small language models: each copied verbatim from a document, or an honest refusal."

_COMPLETE = "_PALMETTE_COMPLETE"  # the variable by which a shell asks, as typer names it

app = lazy_app(SECTIONS, help=_ABOUT, add_completion=True)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"palmette {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    trust_changed_base: Annotated[
        bool,
        typer.Option(
            "--trust-changed-base",
            help="Open runs whose base model has changed since they were trained. It stands before the command.",
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    if trust_changed_base:
        from palmette.inference.fingerprint import TRUST

        os.environ[TRUST] = "1"


def main() -> None:
    """Run the command line.

    A user's mistake is one line on standard error and exit code 2, as `cli/failures.py` has it.
    """
    # By default libgomp spins about a hundred times as long before a waiting thread sleeps. If another program wants
    # the processor, spinning threads delay the threads that they wait for. A step then takes four times as long, not
    # two.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if _COMPLETE in os.environ:
        # A shell asks what may come next, and takes each line for a proposal. Helps would be wrapped at 80 characters.
        os.environ["COLUMNS"] = "10000"
    sys.exit(run_command(app))

"""The Python API: its names, that they are imported late, and what they do with a tiny model."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import palmette
from palmette.errors import DataError, ModelError, RunError
from palmette.evaluate.calibration import calibrate
from palmette.evaluate.squad import evaluate_squad
from tests.support import api_client
from tests.support.processes import call, printed
from tests.support.programs import ROOT, page_module, programs, quickstart

NAMES = [
    "Answer",
    "Answerer",
    "Candidate",
    "Decision",
    "Document",
    "Effort",
    "Evaluation",
    "FieldResult",
    "FieldValue",
    "PalmetteError",
    "Prediction",
    "Question",
    "__version__",
    "evaluate",
    "extract",
    "load",
    "load_reward",
    "read_data",
    "read_recipe",
    "read_schema",
    "resume",
    "train",
]
TRAINING = {"read_recipe", "resume", "train"}  # tests/test_api_training.py
FERRY = "The ferry leaves at 7:40 from pier 3."


@pytest.fixture(scope="module")
def place(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run at runs/quickstart."""
    return quickstart(tiny_folder, tmp_path_factory.mktemp("api"))


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(place)
    return "runs/quickstart"


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_pinned() -> None:
    assert palmette.__all__ == NAMES == sorted(NAMES)
    assert dir(palmette) == NAMES
    assert set(palmette._DEFINED_IN) == set(NAMES) - {"__version__"}


def test_importing_it_imports_no_torch() -> None:
    code = "import palmette, sys; assert 'torch' not in sys.modules; print(len(palmette.__all__))"
    assert python(code) == "22"


def test_records_and_errors_import_no_torch() -> None:
    code = (
        "import palmette, sys; palmette.Document('d', 'x', ()); palmette.PalmetteError('a', 'b'); palmette.read_data\n"
        "print('torch' in sys.modules)"
    )
    assert python(code) == "False"


# `evaluate` and `train` are packages too. Each way of importing binds the name at another time.
ORDERS = {
    "name first": (
        "import palmette; a = palmette.evaluate, palmette.train; "
        "import palmette.evaluate.squad, palmette.train.policies.kl_limit"
    ),
    "package first": "import palmette.evaluate.squad, palmette.train.policies.kl_limit; import palmette",
    "from import": "from palmette import evaluate, train; import palmette",
    "another name first": "import palmette; palmette.Evaluation",
    "as": "import palmette.evaluate.squad as s, palmette.train.policies.kl_limit as k; import palmette",
    "after use": "import palmette; inspect.signature(palmette.evaluate); from palmette.evaluate import squad",
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_package_and_a_function_may_share_a_name(order: str) -> None:
    check = (
        "assert callable(palmette.evaluate) and callable(palmette.train)\n"
        "assert list(inspect.signature(palmette.evaluate).parameters)[:2] == ['answerer', 'data']\n"
        "import palmette.evaluate.squad as squad, palmette.train.policies.kl_limit as limit\n"
        "assert palmette.evaluate.squad is squad and palmette.train.policies.kl_limit is limit\n"
        "assert palmette.evaluate is sys.modules['palmette.evaluate']\n"
        "try: palmette.evaluate()\n"
        "except TypeError as error: print(error)\n"
    )
    fresh = "import inspect, sys; assert not [name for name in sys.modules if name.startswith('palmette')]"
    code, said = call(printed, f"{fresh}\n{ORDERS[order]}\n{check}")
    assert code == 0
    assert said == "evaluate() missing 2 required positional arguments: 'answerer' and 'data'"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'palmette' has no attribute 'evaluat'"):
        palmette.evaluat  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from palmette import nothing  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TRAINING and name != "__version__"])
def test_every_name_says_what_it_takes_and_raises(name: str) -> None:
    value = page_module().defined(name)
    text = inspect.getdoc(value) or ""
    assert ("Attributes:" if inspect.isclass(value) and name != "PalmetteError" else "Args:") in text
    if not inspect.isclass(value):
        assert "Raises:" in text
        for parameter in inspect.signature(value).parameters:
            assert f"\n    {parameter}: " in text, parameter


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "src" / "palmette" / "py.typed").is_file()


def test_it_is_a_program_too() -> None:
    done = subprocess.run([sys.executable, "-m", "palmette", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"palmette {palmette.__version__}"


def test_answers_are_those_of_the_command(run: str) -> None:
    """They stand in the document, in the order of the questions."""
    reader = palmette.load(Path(run))
    questions = ["When does the ferry leave?", "From where?", "When does the ferry leave?"]
    found = reader.answer(FERRY, questions)
    assert [type(one) for one in found] == [palmette.Prediction] * 3
    assert (found[0].text, found[0].start) == (found[2].text, found[2].start)
    # Not to the last bit: the same question is another branch of the tree.
    assert found[0].probability == pytest.approx(found[2].probability, rel=1e-5)
    document = palmette.Document("d", FERRY, tuple(palmette.Question(f"q{i}", q) for i, q in enumerate(questions)))
    assert dict(reader.span_decoder().predict([document])) == {f"q{i}": one for i, one in enumerate(found)}
    always = dict(reader.span_decoder(decision=palmette.Decision(always_answer=True)).predict([document]))
    for one in (*found, *always.values()):
        assert one.text == ("" if one.start is None else FERRY[one.start : one.end])
        assert all(FERRY[c.start : c.end] == c.text for c in one.candidates)
    assert all(one.text for one in always.values())
    assert max(len(c.text.split()) for one in reader.answer(FERRY, questions, max_words=1) for c in one.candidates) == 1


def test_what_is_wrong_is_named_before_anything_is_computed(run: str) -> None:
    reader = palmette.load(run)
    assert reader.answer(FERRY, []) == ()
    for text, questions, message in (
        (" \n", ["Q?"], "document 'text' is empty"),
        ("a\ud800", ["Q?"], "half a surrogate pair"),
        (FERRY, ["Q?", " "], "question '2' of document 'text' has no text"),
        (FERRY, "When?", "the questions are one text, 'When"),
    ):
        with pytest.raises(DataError, match=message):
            reader.answer(text, questions)
    with pytest.raises(ValueError, match="max_words is 0, below 1"):
        reader.answer(FERRY, ["Q?"], max_words=0)
    with pytest.raises(ModelError, match=r"there is no model folder './none'"):
        palmette.load("./none")
    with pytest.raises(RunError, match="is not a reward model's run"):
        palmette.load_reward(run)
    with pytest.raises(RunError, match="is not a run folder"):
        palmette.load_reward("runs/none")


def test_evaluation_is_that_of_the_decoder(run: str) -> None:
    reader, data = palmette.load(run), palmette.read_data("builtin:test", limit=2)
    assert len(data.documents) == 2
    found = palmette.evaluate(reader, data)
    expected = evaluate_squad(reader.span_decoder(), data.documents)
    assert [one.prediction for one in found.scored] == [one.prediction for one in expected.scored]
    assert found.metrics["total"] == data.num_questions
    low, high = found.intervals["exact"]
    assert low <= float(found.metrics["exact"] or 0.0) <= high
    own = [palmette.Document("d", FERRY, (palmette.Question("q", "When?", (palmette.Answer("7:40", 20),)),))]
    assert palmette.evaluate(reader, own, decoder="greedy").metrics["HasAns_total"] == 1


def test_evaluation_refuses_what_calibration_was_fitted_on_and_broken_records(run: str) -> None:
    reader, data = palmette.load(run), palmette.read_data("builtin:dev", limit=2)
    calibrate(reader, data, reader.effort()).write(Path(run) / "adapter")
    try:
        calibrated = palmette.load(run)
        assert palmette.load(run, calibrated=False).calibration is None
        with pytest.raises(DataError, match=r"builtin:dev: 2 of 2 documents, .* were used to calibrate this model"):
            palmette.evaluate(calibrated, data)
        with pytest.raises(RunError, match="was fitted for max_words = 30, and this is 5"):
            calibrated.answer(FERRY, ["When?"], max_words=5)
        assert palmette.evaluate(reader, data).scored
    finally:
        (Path(run) / "adapter" / "calibration.json").unlink()
    wrong = palmette.Question("q", "When?", (palmette.Answer("7:40", 0),))
    twice = [palmette.Document(name, FERRY, (palmette.Question("q", "When?"),)) for name in "ab"]
    for documents, message in (
        ([palmette.Document("d", FERRY, (wrong,))], "it stands at 20"),
        (twice, "question id 'q' of document 'b' also stands in 'a'"),
        ([], "no question in 0 documents"),
    ):
        with pytest.raises(DataError, match=message):
            palmette.evaluate(reader, documents)


def test_a_program_of_somebody_else(run: str) -> None:
    assert len(api_client.answers(run)) == 3
    assert api_client.figures(run, "builtin:test")["total"]


def test_the_examples_of_the_page_run(run: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All but those of training, which a test of its own runs."""
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    before, training = page.split("\n## Training\n")
    shown = programs(before)
    assert len(shown) > 8
    names: dict[str, object] = {}
    for program in shown:
        exec(program, names)
    assert capsys.readouterr().out.count("\n") > 8
    assert programs(training)

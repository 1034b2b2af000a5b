"""The words around documents, questions and answers, one file in `prompts/` each, and the reading of completions."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path

from palmette.data.text import without_thoughts
from palmette.errors import DataError, reason_of
from palmette.files import expand, parse_yaml

ABSTAIN = "?"
YES, NO = "yes", "no"
DEFAULT_PROMPT = "plain"
_LOOSE = re.compile(r'"answer"\s*:\s*"(?P<inner>(?:[^"\\]|\\.)*\\?)(?P<closed>"?)', re.DOTALL)
TWO_TURNS = ("before_verdict", "after_verdict", "second_turn")
# Keys that a prompt may leave out, and that its hash leaves out too where they say nothing.
OPTIONAL = ("bare", "again", *TWO_TURNS)
_FLAGS = ("reasons", "bare")
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class QaPrompt:
    """The words around a document, its questions and their answers.

    Attributes:
        system: the instruction, as the system message.
        before_document: text before the document in the user's message.
        before_question: text between the document and a question.
        after_question: text after a question.
        before_answer: how the completion opens, up to the quote that opens the answer's JSON string.
        after_answer: how the completion closes, from the closing quote on.
        reasons: whether the completion may hold anything before the JSON.
        bare: whether the completion is the answer alone, as it stands in the document, instead of JSON.
        again: text between the document and a second copy of it. "" reads the document once. A causal model reads a
            text without knowing what follows, and reads a second copy with the whole text known.
        before_verdict: in a prompt of two turns, how the first completion opens. It says "yes" or "no": whether the
            document holds the answer. After "no" the conversation ends. "" makes a prompt of one turn.
        after_verdict: in a prompt of two turns, how the first completion closes.
        second_turn: in a prompt of two turns, what the user says after "yes" to get the answer.
    """

    system: str
    before_document: str
    before_question: str
    after_question: str
    before_answer: str
    after_answer: str
    reasons: bool = False
    bare: bool = False
    again: str = ""
    before_verdict: str = ""
    after_verdict: str = ""
    second_turn: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the prompt's words."""
        values = {key: value for key, value in asdict(self).items() if value or key not in OPTIONAL}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def two_turns(self) -> bool:
        """Whether a first turn asks if the document holds an answer."""
        return bool(self.second_turn)

    def verdict(self, raw: str) -> bool | None:
        """Whether the first completion of two says that the document holds the answer, or None if it cannot be read.

        >>> [load_prompt("two_turn").verdict(raw) for raw in ('{"enough": "yes"}', '{"enough":"no"}', 'Yes.')]
        [True, False, None]
        """
        verdict, rest = self._first_turn(raw)
        return verdict if not rest else None

    def _first_turn(self, raw: str) -> tuple[bool | None, str]:
        """The verdict that a completion begins with, or None, and the text after it."""
        text = raw.strip()
        for word in (YES, NO) if self.two_turns else ():
            wanted = f"{self.before_verdict}{word}{self.after_verdict}".strip()
            if text.startswith(wanted):
                return word == YES, text[len(wanted) :].lstrip()
            try:  # JSON may be written with other blanks
                value, end = json.JSONDecoder().raw_decode(text)
                if value == json.loads(wanted):
                    return word == YES, text[end:].lstrip()
            except (ValueError, RecursionError):
                continue
        return None, text

    def read(self, raw: str) -> ParsedAnswer:
        """Read a completion strictly, see `read_completion`.

        The JSON stands in a fenced block where the prompt asks for one, and is bare elsewhere. Of two completions in a
        row the second is read. A first one that says "no" abstains.

        >>> load_prompt("json_think").read('It opened in 1882.\\n```json\\n{"answer": "1882"}\\n```')
        ParsedAnswer(text='1882', valid=True)
        >>> load_prompt("json").read('It opened in 1882.\\n```json\\n{"answer": "1882"}\\n```').valid
        False
        >>> load_prompt("echo").read(" 1882"), load_prompt("echo").read("?"), load_prompt("echo").read("").valid
        (ParsedAnswer(text='1882', valid=True), ParsedAnswer(text='', valid=True), False)
        """
        if self.bare:
            return _read_bare(raw)
        if self.two_turns:
            verdict, rest = self._first_turn(raw)
            if verdict is False and not rest:
                return ParsedAnswer("", True)
            raw = rest if verdict else raw
        blocks = list(_FENCED.finditer(raw)) if self.before_answer.lstrip().startswith("```") else []
        if not blocks:
            return read_completion(raw)
        alone = not (raw[: blocks[-1].start()] + raw[blocks[-1].end() :]).strip()
        last = self.reasons and not raw[blocks[-1].end() :].strip()
        answer = read_completion(blocks[-1][1])
        return answer if answer.valid and (alone or last) else ParsedAnswer(raw.strip(), False)

    def documents(self, text: str) -> tuple[tuple[str, bool], ...]:
        r"""The texts from the first copy of a document to its last, and for each whether it is the document.

        >>> load_prompt("plain").documents("It rains."), [what for what, _ in load_prompt("echo_twice").documents("a")]
        ((('It rains.', True),), ['a', '\n\nThe same document again:\n', 'a'])
        """
        return ((text, True), (self.again, False), (text, True)) if self.again else ((text, True),)

    def escape(self, text: str) -> str:
        r"""An answer, or a part of one, as a completion holds it.

        >>> load_prompt("plain").escape('the "Anna"'), load_prompt("echo").escape('the "Anna"')
        ('the \\"Anna\\"', 'the "Anna"')
        """
        return text if self.bare else json_escape(text)

    def blank(self, text: str, start: int) -> str:
        """The blank that stands before an answer in its document, if a completion holds it: with a bare prompt.

        >>> load_prompt("echo").blank("by ferry", 3), load_prompt("plain").blank("by ferry", 3)
        (' ', '')
        """
        return " " if self.bare and text[start - 1 : start] == " " else ""

    def completion(self, answer: str) -> str:
        """A whole completion with an answer, or with ABSTAIN."""
        return self.before_answer + self.escape(answer) + self.after_answer

    def read_loosely(self, raw: str) -> ParsedAnswer:
        """Read a completion as `read` does, or a broken one as `read_completion_loosely` does."""
        strict = self.read(raw)
        return strict if strict.valid or self.bare else ParsedAnswer(read_completion_loosely(raw).text, False)


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """A model's completion, read as JSON.

    Attributes:
        text: the answer, "" if the model abstains, or the raw completion if it is not valid.
        valid: whether the completion is a JSON object with one string under "answer".
    """

    text: str
    valid: bool


def prompt_names() -> list[str]:
    """The names of the prompts that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def load_prompt(name: str = DEFAULT_PROMPT) -> QaPrompt:
    """A prompt by its name, or from a YAML file of the same form.

    Raises:
        DataError: there is no such prompt, or its file does not hold a prompt whose completions can be read.
    """
    values = {key: value for key, value in _values(name).items() if key != "about"}
    known = [field.name for field in fields(QaPrompt)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DataError(f"prompt {name!r} has the unknown key {key!r}", f"{hint}Known are: {', '.join(known)}.")
    missing = [key for key in known if key not in values and key not in ("reasons", *OPTIONAL)]
    wrong = [key for key, value in values.items() if not isinstance(value, bool if key in _FLAGS else str)]
    if missing or wrong:
        what = f"lacks {missing[0]!r}" if missing else f"has {values[wrong[0]]!r} as {wrong[0]!r}"
        raise DataError(f"prompt {name!r} {what}", "Give every text in quotes.")
    return checked(QaPrompt(**values), name)  # type: ignore[arg-type]  # the types were checked just now


def checked(prompt: QaPrompt, name: str) -> QaPrompt:
    """The prompt, after a check that answers in its wrapper can be read back.

    Raises:
        DataError: they cannot, or one of the texts for a first turn is missing.
    """
    given = [key for key in TWO_TURNS if getattr(prompt, key)]
    if given and len(given) < len(TWO_TURNS):
        absent = next(key for key in TWO_TURNS if key not in given)
        raise DataError(
            f"prompt {name!r} has {given[0]!r} but no {absent!r}",
            f"A prompt of two turns needs {', '.join(TWO_TURNS)}.",
        )
    if prompt.bare and (prompt.two_turns or prompt.reasons or prompt.before_answer or prompt.after_answer):
        raise DataError(
            f"prompt {name!r} is bare, and has a text or a turn around the answer",
            "A bare prompt has an empty before_answer and after_answer, does not reason, and has one turn.",
        )
    for answer in ("x", 'a "b"\n\\ c'):
        if prompt.read(prompt.completion(answer)) != ParsedAnswer(answer, True):
            wrapper = f"{prompt.before_answer}...{prompt.after_answer}"
            raise DataError(
                f"prompt {name!r}: an answer written as {wrapper!r} could not be read back",
                'before_answer and after_answer must make a JSON object {"answer": "..."}, bare or in a fenced block.',
            )
    return prompt


def describe_prompts() -> list[tuple[str, str]]:
    """The name and the purpose of each prompt that comes with the package."""
    return [(name, str(_values(name).get("about", ""))) for name in prompt_names()]


def prompt_file(name: str) -> str:
    """The text of a prompt's YAML file, to copy and change.

    Raises:
        DataError: as `load_prompt`.
    """
    load_prompt(name)
    return _file(name).read_text(encoding="utf-8")


def _file(name: str) -> resources.abc.Traversable | Path:
    return _folder().joinpath(f"{name}.yaml") if name in prompt_names() else expand(name)


def _values(name: str) -> dict[str, object]:
    try:
        values = parse_yaml(_file(name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = difflib.get_close_matches(name, prompt_names(), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        names = ", ".join(prompt_names())
        raise DataError(f"there is no prompt {name!r}", f"{hint}Known are: {names}. Or give a YAML file.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the prompt {name!r}: {reason_of(error)}", "Give a YAML file of texts.") from error
    if not isinstance(values, dict):
        raise DataError(
            f"prompt {name!r} holds no texts", "`palmette prompts` shows the prompts that come with the package."
        )
    return values


def _folder() -> resources.abc.Traversable:
    return resources.files("palmette.tasks").joinpath("prompts")


def json_escape(text: str) -> str:
    r"""Text as it is written inside a JSON string.

    >>> json_escape('the "Anna"')
    'the \\"Anna\\"'
    """
    return json.dumps(text, ensure_ascii=False)[1:-1]


def read_completion(raw: str) -> ParsedAnswer:
    """Read a completion strictly: one JSON object with the single key "answer" and a string.

    >>> read_completion('{"answer": "?"}'), read_completion('It is 1882.')
    (ParsedAnswer(text='', valid=True), ParsedAnswer(text='It is 1882.', valid=False))
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return ParsedAnswer(raw.strip(), False)
    answer = value.get("answer") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(answer, str) and not any("\ud800" <= character <= "\udfff" for character in answer):
        return ParsedAnswer("" if answer == ABSTAIN else answer, True)
    return ParsedAnswer(raw.strip(), False)


def _read_bare(raw: str) -> ParsedAnswer:
    """Read a completion that is the answer alone."""
    answer = raw.strip()
    return ParsedAnswer("" if answer == ABSTAIN else answer, bool(answer))


def read_completion_loosely(raw: str) -> ParsedAnswer:
    r"""Read a completion, also out of broken JSON: the text after "answer", up to the next quote or to the end.

    What stands in a think block is a draft and is not read. If "answer" occurs several times, the last complete one is
    read, since examples and drafts come first. A completion in another format than asked for stays invalid.

    >>> read_completion_loosely('Sure! {"answer": "in 1882", "source": 3}')
    ParsedAnswer(text='in 1882', valid=False)
    >>> read_completion_loosely('{"answer": "the \\"An')
    ParsedAnswer(text='the "An', valid=False)
    >>> read_completion_loosely('<think>{"answer": "1881"}?</think> You want {"answer": "..."}: {"answer": "1882"}')
    ParsedAnswer(text='1882', valid=False)
    """
    strict = read_completion(raw)
    if strict.valid:
        return strict
    matches = list(_LOOSE.finditer(without_thoughts(raw)))
    if not matches:
        return strict
    complete = [match for match in matches if match["closed"]]
    inner = (complete or matches)[-1]["inner"]
    for text in (inner, inner[: inner.rfind("\\")]):
        try:
            answer = str(json.loads(f'"{text}"', strict=False))
        except ValueError:
            continue
        return ParsedAnswer("" if answer == ABSTAIN else answer.strip(), False)
    return ParsedAnswer(inner.strip(), False)

"""What a judge's name means: a chat model, or a YAML file that says what judges and with which words.

The file has one of three keys, and may have a prompt:

    model: HuggingFaceTB/SmolLM2-1.7B-Instruct    # a chat model, of which nothing is generated
    reward: runs/reward                           # or the run of a reward model, for pairs
    endpoint: {url: http://localhost:8080/v1, model: qwen, price_in: 0.1, price_out: 0.4}     # or a server
    prompt: plain                                 # a judge's prompt by name, or a YAML file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from palmette.data.text import short
from palmette.data.values import is_number
from palmette.endpoint.settings import Endpoint
from palmette.errors import DataError, reason_of
from palmette.files import expand, parse_yaml
from palmette.judge.judging import Judge
from palmette.judge.wording import DEFAULT, Case, JudgePrompt, as_messages, load_judge_prompt

Kind = Literal["model", "reward", "endpoint"]
_KINDS: tuple[Kind, ...] = ("model", "reward", "endpoint")
_YAML = (".yaml", ".yml")
_CHARACTERS_PER_TOKEN = 4.0  # of English, where the tokenizer is the server's


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A judge that is not open yet.

    Attributes:
        kind: what judges.
        model: the name of the model or of the reward model's run. "" for an endpoint.
        prompt: what it is asked. A reward model is asked nothing.
        endpoint: the server. None for a local judge.
    """

    kind: Kind
    model: str
    prompt: JudgePrompt
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job of a judge amounts to, before anything is asked.

    Attributes:
        requests: how many verdicts.
        tokens: how many tokens are read. For an endpoint about a quarter of the characters.
        cost: of these tokens and one written token each, in the currency of the prices. None without prices.
    """

    requests: int
    tokens: int
    cost: float | None


def read_judge(name: str) -> JudgeSpec:
    """Read what a judge's name means.

    Args:
        name: the name of a chat model, or a YAML file.

    Raises:
        DataError: the file cannot be read, or does not describe a judge. It names the key and the value.
    """
    if not _is_yaml(name):
        return JudgeSpec("model", name, load_judge_prompt())
    values = _read(name, "judge")
    given = [kind for kind in _KINDS if isinstance(values, dict) and kind in values]
    if len(given) != 1:
        raise DataError(f"{name} describes no judge", f"It needs one of the keys {', '.join(_KINDS)}.")
    if unknown := [key for key in values if key not in (*given, "prompt")]:
        raise DataError(f"{name} has the unknown key {unknown[0]!r}", f"Known are {', '.join(_KINDS)} and prompt.")
    prompt, kind = load_judge_prompt(str(values.get("prompt", DEFAULT))), given[0]
    if kind == "endpoint":
        return JudgeSpec(kind, "", prompt, _endpoint(values[kind], name))
    if not isinstance(values[kind], str):
        raise DataError(f"{name}: {kind!r} is {values[kind]!r}, not the name of a model", "Give a name in quotes.")
    return JudgeSpec(kind, values[kind], prompt)


def read_endpoint(name: str) -> Endpoint | None:
    """The endpoint that a YAML file describes. None for the name of a model or of any other file.

    Raises:
        DataError: the file describes none.
    """
    if not _is_yaml(name):
        return None
    values = _read(name, "endpoint")
    if not isinstance(values, dict) or "endpoint" not in values:
        raise DataError(f"{name} describes no endpoint", "It needs the key 'endpoint', with 'url' and 'model'.")
    if unknown := [key for key in values if key not in ("endpoint", "prompt")]:  # a judge's file has a prompt
        raise DataError(f"{name} has the unknown key {unknown[0]!r}", "Known are endpoint and prompt.")
    return _endpoint(values["endpoint"], name)


def _is_yaml(name: str) -> bool:
    return expand(name).suffix.lower() in _YAML


def _read(name: str, what: str) -> Any:
    """The values of a YAML file that should describe something."""
    try:
        return parse_yaml(expand(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the {what} {name}: {reason_of(error)}", "Give a YAML file.") from error


def _endpoint(values: Any, name: str) -> Endpoint:
    known = [field.name for field in fields(Endpoint)]
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in ("url", "model")):
        raise DataError(f"{name}: the endpoint has no 'url' or no 'model'", "Give both in quotes.")
    if unknown := [key for key in values if key not in known]:
        raise DataError(f"{name}: the endpoint has the unknown key {unknown[0]!r}", f"Known are {', '.join(known)}.")
    for key, value in values.items():
        fits, wanted = _VALUES[key]
        if not fits(value):
            raise DataError(f"{name}: the endpoint's {key!r} is {short(value)}, not {wanted}", "Correct it.")
    return Endpoint(**values)


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _not_negative(value: Any) -> bool:
    return is_number(value) and value >= 0


def _price(value: Any) -> bool:
    return value is None or _not_negative(value)


def _is_json(value: Any) -> bool:
    """Whether a value of a YAML file can be sent as JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | bool) or is_number(value)


# What the values of an endpoint must be, and how messages say it.
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "url": (lambda value: isinstance(value, str), "text"),
    "model": (lambda value: isinstance(value, str), "text"),
    "key_variable": (lambda value: value is None or isinstance(value, str), "the name of a variable"),
    "parameters": (lambda value: isinstance(value, dict) and _is_json(value), "a map of names to values of JSON"),
    "concurrency": (_whole(1), "a whole number from 1"),
    "requests_per_minute": (lambda value: value is None or _positive(value), "a number above 0"),
    "timeout": (_positive, "a number of seconds above 0"),
    "max_retries": (_whole(0), "a whole number from 0"),
    "first_backoff": (_not_negative, "a number of seconds from 0"),
    "price_in": (_price, "a number from 0"),
    "price_out": (_price, "a number from 0"),
}


def open_judge(spec: JudgeSpec) -> Judge:
    """Load a judge, or set up its client.

    Raises:
        PalmetteError: the model or the endpoint cannot be used.
    """
    if spec.endpoint is not None:
        from palmette.judge.remote import EndpointJudge

        return EndpointJudge(spec.endpoint, spec.prompt)
    if spec.kind == "reward":
        from palmette.judge.reward import load_reward_judge

        return load_reward_judge(spec.model)
    from palmette.judge.local import load_local_judge

    return load_local_judge(spec.model, spec.prompt)


def estimate(spec: JudgeSpec, cases: Sequence[Case]) -> Estimate:
    """What the verdicts on cases would take. No weights are loaded.

    Raises:
        PalmetteError: the model has no tokenizer, or no chat template.
    """
    if spec.endpoint is not None:
        messages = (message for case in cases for message in as_messages(spec.prompt.messages(case)))
        tokens = round(sum(len(message["content"]) for message in messages) / _CHARACTERS_PER_TOKEN)
        prices = (spec.endpoint.price_in, spec.endpoint.price_out)
        known = any(price is not None for price in prices)
        cost = (tokens * (prices[0] or 0.0) + len(cases) * (prices[1] or 0.0)) / 1e6 if known else None
        return Estimate(len(cases), tokens, cost)
    from palmette.inference.base import source_tokenizer
    from palmette.inference.names import resolve_model
    from palmette.judge.local import VerdictTrees

    trees = VerdictTrees(source_tokenizer(resolve_model(spec.model)), spec.prompt)
    return Estimate(len(cases), sum(trees.tree(case, "").num_tokens for case in cases), None)

"""The experiment of docs/results/preferences.md: fine-tuning, then DPO, PPO against a reward model, and GRPO, on a
part of SQuAD v2.

    python experiments/alignment/run.py --train train.json --data dev.json --output runs/alignment --jobs 2

Half of the paragraphs is fine-tuned on; a quarter, which fine-tuning has not seen, is what preferences and rollouts are
about. The chain is written from the template beside this file and run by `palmette train rlhf`, in several processes
that share its seeds. Stopped with Ctrl-C or killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from palmette import run
from palmette.config.recipes import read_settings
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.errors import PalmetteError, RunError

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from steps import about, filled, run_side_by_side, thinned  # noqa: E402

CHAIN, PLAN = "chain.yaml", "plan.json"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", required=True, help="SQuAD v2 JSON to learn from")
    parser.add_argument("--data", required=True, help="SQuAD v2 JSON to measure on")
    parser.add_argument("--output", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--every", type=int, default=1, help="use every so manyth paragraph of what is learned from")
    parser.add_argument("--every-data", type=int, default=2, help="measure on every so manyth paragraph")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="these seeds, instead of the template's")
    parser.add_argument("--stages", nargs="+", metavar="NAME", help="these stages only, for now")
    parser.add_argument("--model", help="another model to start from")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--plan", action="store_true", help="write the data and the chain, and stop")
    return parser.parse_args(words)


def main() -> None:
    """Prepare and run."""
    given = parse()
    try:
        file = prepare(given)
        code = 0 if given.plan else run_side_by_side(["train", "rlhf", str(file)], file.with_suffix(""), given.jobs)
    except PalmetteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)


def prepare(given: argparse.Namespace) -> Path:
    """Write the parts of the data, and the chain; its file.

    Raises:
        RunError: the folder holds the experiment on other data; or there is no such stage.
        DataError: data that cannot be read.
    """
    folder: Path = given.output
    train, data = read_source(given.train), read_source(given.data)
    parts = {
        "fine_tuning": (train, 2 * given.every, 0),
        "preferences": (train, 4 * given.every, given.every),
        "dev": (data, given.every_data, 0),
    }
    taken = {name: (thinned(*part), part[1], part[2]) for name, part in parts.items()}
    plan = {"model": given.model, **{name: about(*part) for name, part in taken.items()}}
    if (folder / PLAN).is_file():
        begun = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        run.check_same(begun, plan, where=folder, way_out="Choose another --output.")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (source, _, _) in taken.items():
            run.write_text(folder / f"{name}.json", dump_squad(source.documents))
        run.write_json(folder / PLAN, plan)
    names = {name: str(folder / f"{name}.json") for name in parts} | {"output": str(folder)}
    settings = filled(read_settings((HERE / CHAIN).read_text(encoding="utf-8"), CHAIN), names)
    stages = settings["stages"]
    for name in given.stages or []:
        if name not in stages:
            raise RunError(f"there is no stage {name!r}", f"Stages are: {', '.join(stages)}.")
    settings["stages"] = {name: stages[name] for name in stages if not given.stages or name in given.stages}
    if "held-out" not in settings["stages"]:
        del settings["evaluate"]["comparisons"]
    settings["seeds"] = given.seeds or settings["seeds"]
    if given.model and "fine-tuned" in settings["stages"]:
        settings["stages"]["fine-tuned"]["model"] = {"name": given.model}
    file = folder / CHAIN
    run.write_text(file, yaml.safe_dump(settings, sort_keys=False))
    return file


if __name__ == "__main__":
    main()

"""Make the reader: the run that comes with the package, from public data, step by step.

    python recipes/reader/make.py [--work FOLDER] [--squad-dev FILE] [--squad-train FILE] ...

Without a file, a data set is fetched from its public address. Every step is skipped if its result is there, and a
training that was stopped goes on. docs/how-to/make-the-reader.md explains the steps and says what they take.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from palmette import run
from palmette.cli.failures import run_command
from palmette.data.negatives import with_siblings_questions
from palmette.data.records import Document, check_document, check_question
from palmette.data.squad import dump_squad, parse_squad
from palmette.errors import DataError, reason_of
from palmette.inference.calibration import CALIBRATION
from palmette.publish.public import public_manifest, public_recipe, public_source

HERE = Path(__file__).parent
PACKAGED = HERE.parents[1] / "src" / "palmette" / "reader"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
ADDRESSES = {
    "squad-dev": SQUAD + "dev-v2.0.json",
    "squad-train": SQUAD + "train-v2.0.json",
    "squadshifts": "https://raw.githubusercontent.com/modestyachts/squadshifts-website/master/datasets/new_wiki_v1.0.json",
    "tydiqa": "https://storage.googleapis.com/tydiqa/v1.1/tydiqa-goldp-v1.1-train.json",
}
# Articles of the development set of SQuAD v2: learned, and kept for the calibration. No other of its articles is used.
LEARNED = (
    "Computational_complexity_theory",
    "Steam_engine",
    "European_Union_law",
    "Yuan_dynasty",
    "Immune_system",
    "Scottish_Parliament",
    "French_and_Indian_War",
)
CALIBRATED = ("Huguenot", "Islamism")
NUM_TRAIN_ARTICLES = 10  # the first ones of the training set of SQuAD v2
NUM_TYDI = 800
# Articles that figures are reported on. Other data sets have texts of the same titles.
MEASURED = {"1973 oil crisis", "Harvard University"}


def fetch(name: str, given: Path | None, work: Path) -> Path:
    """The file of a data set.

    Raises:
        DataError: there is no such file, or its address cannot be reached.
    """
    if given is not None:
        if not given.is_file():
            raise DataError(f"--{name} {given}: there is no such file", "Check the path.")
        return given
    file = work / "downloads" / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {ADDRESSES[name]}", flush=True)
        part = file.with_suffix(".part")
        try:
            with urllib.request.urlopen(ADDRESSES[name]) as source, part.open("wb") as out:
                shutil.copyfileobj(source, out)
        except urllib.error.URLError as error:
            why = reason_of(error.reason) if isinstance(error.reason, Exception) else error.reason
            raise DataError(
                f"{ADDRESSES[name]} cannot be fetched: {why}", f"Give the file that you have, with --{name} FILE."
            ) from error
        part.rename(file)
    return file


def read(file: Path, prefix: str, keep: Callable[[str], bool]) -> list[Document]:
    """The documents of the titles to keep, with the questions that can be learned from. What is left out is counted."""
    documents, lost = [], 0
    for number, record in enumerate(parse_squad(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(record, DataError):
            lost += 1
            continue
        if not keep(record.title) or record.title.replace("_", " ") in MEASURED:
            continue
        good = []
        check_document(record, str(file))
        for question in record.questions:
            try:
                check_question(question, record, str(file))
            except DataError:
                lost += 1
                continue
            good.append(question)
        if good:
            documents.append(replace(record, id=f"{prefix}/{record.id}#{number}", questions=tuple(good)))
    print(f"{prefix}: {sum(len(d.questions) for d in documents):,} questions, {lost} bad records left out", flush=True)
    return documents


def prepare(args: argparse.Namespace) -> None:
    """The data of both trainings and of the calibration, as SQuAD v2 files."""
    data = args.work / "data"
    if (data / "calibration.json").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    files = {name: fetch(name, getattr(args, name.replace("-", "_")), args.work) for name in ADDRESSES}
    titles = list(dict.fromkeys(a["title"] for a in json.loads(files["squad-train"].read_text("utf-8"))["data"]))
    learned = read(files["squad-dev"], "squad-dev", lambda title: title in LEARNED)
    first = read(files["squad-train"], "squad-train", lambda title: title in titles[:NUM_TRAIN_ARTICLES])
    shifts = read(files["squadshifts"], "squadshifts", lambda _: True)
    tydi = read(files["tydiqa"], "tydiqa", lambda _: True)
    asked = list(with_siblings_questions(tydi, 1))
    random.Random(1).shuffle(asked)
    write(data / "squad-dev.json", learned)
    write(data / "squad-train-siblings.json", with_siblings_questions(first, 3))
    write(data / "squadshifts-siblings.json", with_siblings_questions(shifts, 2))
    write(data / "tydiqa-siblings.json", asked[:NUM_TYDI])
    write(data / "calibration.json", read(files["squad-dev"], "calibration", lambda title: title in CALIBRATED))


def write(file: Path, documents: Iterable[Document]) -> None:
    """Write documents whole or not at all."""
    run.write_text(file, dump_squad(tuple(documents)))
    print(f"wrote {file}", flush=True)


def palmette(*words: str | Path) -> None:
    """Run a command, and stop with its exit status if it fails."""
    print("palmette", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "palmette", *map(str, words)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def train(recipe: Path, work: Path) -> Path:
    """The finished run of a recipe, whose paths are below the folder of work."""
    text = recipe.read_text(encoding="utf-8").replace("WORK", str(work))
    folder = work / "runs" / recipe.stem
    if run.is_run(folder):
        if not run.is_finished(folder):
            palmette("train", "sft", "--resume", folder)
        return folder
    own = work / recipe.name
    run.write_text(own, text)
    palmette("train", "sft", own)
    return folder


def pack(folder: Path) -> None:
    """Put the run into the package: adapter, calibration, recipe and manifest, without a path of this machine."""
    trained = folder / run.ADAPTER
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    base = manifest["model"]["name"]
    public = public_manifest(manifest, base)
    public |= {"stage": manifest["stage"], "base": manifest["base"], "data": [*reading_data(folder), *public["data"]]}
    with run.whole_folder(PACKAGED.with_name("reader.new")) as staging:
        (staging / run.ADAPTER).mkdir()
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy(trained / name, staging / run.ADAPTER / name)
        fitted = json.loads((trained / CALIBRATION).read_text(encoding="utf-8"))
        source = public_source(fitted["source"], fitted["sha256"])
        run.write_json(staging / run.ADAPTER / CALIBRATION, {**fitted, "source": source})
        recipe = public_recipe((folder / run.RECIPE).read_text(encoding="utf-8"), base, manifest)
        run.write_text(staging / run.RECIPE, recipe)
        run.write_json(staging / run.MANIFEST, public)
        shutil.copy(HERE / "DATA.md", staging / "DATA.md")
    shutil.rmtree(PACKAGED, ignore_errors=True)
    PACKAGED.with_name("reader.new").rename(PACKAGED)
    print(f"packed into {PACKAGED}", flush=True)


def reading_data(folder: Path) -> list[dict[str, object]]:
    """The data of the first training, which the manifest of the second does not name."""
    first = json.loads((folder.with_name("reading") / run.MANIFEST).read_text(encoding="utf-8"))
    return list(public_manifest(first, first["model"]["name"])["data"])


def main() -> None:
    """Take the steps that are not done."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--work", type=Path, default=Path("runs/reader"), help="the folder for everything made")
    for name in ADDRESSES:
        options.add_argument(f"--{name}", type=Path, help=f"a local file instead of {ADDRESSES[name]}")
    args = options.parse_args()
    args.work = args.work.absolute()
    prepare(args)
    train(HERE / "reading.yaml", args.work)
    reader = train(HERE / "refusing.yaml", args.work)
    if not (reader / run.ADAPTER / CALIBRATION).exists():
        data = args.work / "data" / "calibration.json"
        palmette("calibrate", "--model", reader, "--data", data, "--joined", "60", "--cost-wrong", "1")
    pack(reader)


if __name__ == "__main__":
    sys.exit(run_command(main))

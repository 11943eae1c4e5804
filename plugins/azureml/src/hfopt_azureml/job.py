"""``python -m hfopt_azureml.job``: what a job does. Runs steps in a worker, and hands over what each has made.

A job needs no SDK of Azure's, no credentials and no network for it, unless it is to log in at the hub.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from hfopt import HfoptError
from hfopt.api.protocol import Fault, Progress, StepRequest, StepResult
from hfopt.api.systems import SystemConfig, SystemContext
from hfopt.api.workers import ProcessWorker, Worker, WorkerSystem, environment
from hfopt_azureml.client_config import AzureMLClientConfig
from hfopt_azureml.errand import ARTIFACTS, FETCHED, MANIFEST, RESULTS, TOLD, Errand, artifact_folder
from hfopt_azureml.vault import KEYVAULT, log_in

PLUGIN_FILES = "plugin-files"
"""Where in a bundle ``-p`` files are."""
LOG = Path("/dev/stderr")


class Workers(WorkerSystem):
    """Runs steps in a child process of this interpreter."""

    Config = SystemConfig

    def start(self, step: StepRequest) -> Worker:
        return ProcessWorker([sys.executable], environment(offline=self.context.offline), self.context)


def main() -> None:
    """Do an errand; a step's failure is a result, and no failure of the job."""
    parser = argparse.ArgumentParser(prog="python -m hfopt_azureml.job")
    parser.add_argument("errand", type=Path, help="the file that says what to do")
    parser.add_argument("made", type=Path, help="the folder for results")
    parser.add_argument("inputs", nargs="*", metavar="NAME=FOLDER", help="the job's inputs")
    given = parser.parse_args()
    inputs = {name: Path(folder) for name, _, folder in (each.partition("=") for each in given.inputs)}
    errand = Errand.model_validate_json(given.errand.read_text("utf-8"))
    try:
        log_in(AzureMLClientConfig())
    except HfoptError as failure:
        fault = Fault(type=type(failure).__name__, message=failure.message, hint=failure.hint)
        for number, step in enumerate(errand.steps):
            hand_over(StepResult(key=step.key, fault=fault), number, Path(), given.made)
        return
    with TemporaryDirectory(prefix="hfopt-") as temporary:
        do(errand, inputs, Path(temporary), given.made)


def do(errand: Errand, inputs: Mapping[str, Path], store: Path, made: Path) -> None:
    """Run the steps of an errand one after another; whatever a step has made is handed over before the next begins.

    :param inputs: folders by name
    :param store: an empty folder for an artifact store
    :param made: the folder for results, which perhaps takes whole files only
    """
    for key, name in errand.artifacts.items():
        copy(inputs[name], artifact_folder(store, key))
    for key, name in errand.fetched.items():
        copy(inputs[name], artifact_folder(store, key) / FETCHED)
    paths = {token: str(inputs[name] / path) for token, (name, path) in errand.places.items()}
    bundle = Path(__file__).parents[1]
    context = SystemContext(
        store=store,
        log=LOG,
        bundle=lambda: bundle,
        plugin_files=tuple(bundle / PLUGIN_FILES / name for name in errand.plugin_files),
        log_levels=errand.log_levels,
        take_in=lambda _: None,
    )
    own = {"hf_token": True} if KEYVAULT in os.environ else {}  # whatever the host sends
    workers = Workers(SystemConfig(), context)
    try:
        for number, step in enumerate(errand.steps):
            located = step.model_copy(update={"paths": {token: paths[token] for token in step.paths}, **own})
            hand_over(workers.execute(located, tell), number, store, made)
    finally:
        workers.close()


def hand_over(result: StepResult, number: int, store: Path, made: Path) -> None:
    """Write a result, after the artifact that it is of."""
    folder, target = artifact_folder(store, result.key), made / ARTIFACTS / result.key
    if result.manifest is not None:
        files = [file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST]
        for file in (*files, folder / MANIFEST):
            place = target / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    (made / RESULTS).mkdir(parents=True, exist_ok=True)
    (made / RESULTS / f"{number}.json").write_text(result.model_dump_json(), "utf-8")


def copy(source: Path, target: Path) -> None:
    """A folder's files in another place, as hard links where that is possible."""
    for file in source.rglob("*"):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, place)
            except OSError:  # another file system
                shutil.copyfile(file, place)


def tell(progress: Progress) -> None:
    """Say in the log how far a step is."""
    print(f"{TOLD}{progress.model_dump_json()}", flush=True)


if __name__ == "__main__":
    main()

"""AzureML: consecutive steps are one command job of a workspace, whose results come into the store of this machine.

A job's name says what it does. So a run that is started again finds the job that does it, and waits for that one.
"""

from __future__ import annotations

import fcntl
import io
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from hfopt import HfoptError, PreconditionFailed
from hfopt.api.config import ReportProgress
from hfopt.api.protocol import Fault, Progress, StepRequest, StepResult
from hfopt.api.systems import System, SystemContext
from hfopt.api.workers import keep
from hfopt_azureml import blobs, environments, in_place, jobs
from hfopt_azureml.blobs import File
from hfopt_azureml.bringing import bring_artifact, bring_hfopt, bring_input, note_of
from hfopt_azureml.clients import workspace_client
from hfopt_azureml.depot import TOP, Depot
from hfopt_azureml.errand import ARTIFACTS, ERRAND, MANIFEST, PACKED, RESULTS, TOLD, Errand, artifact_folder, needed
from hfopt_azureml.jobs import CommandJob, Log, State
from hfopt_azureml.sentences import speaking
from hfopt_azureml.system_config import AzureMLConfig

Tell = Callable[[Progress], None]
COMMAND = (
    'hfopt=$(mktemp -d) && python -m tarfile -e "${{{{inputs.hfopt}}}}/{packed}" "$hfopt" && '
    'PYTHONPATH="$hfopt" python -m hfopt_azureml.job '
    '"${{{{inputs.errand}}}}/{errand}" "${{{{outputs.made}}}}" {inputs}'
)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between two questions how a job is: short ones for a short job."""
CANCELLING = 1.5
"""Seconds that asking for the end of jobs may take."""
LAST_LINES = 3
"""Of a failed job's log, in its error."""


class AzureML(System):
    """Runs steps as jobs of a workspace of Azure Machine Learning."""

    Config = AzureMLConfig
    config: AzureMLConfig

    def __init__(self, config: AzureMLConfig, context: SystemContext) -> None:
        super().__init__(config, context)
        self._over = threading.Event()
        self._under_way: set[str] = set()
        self._machine: Future[StepResult] | None = None
        self._tell: ReportProgress = lambda *_: None

    def prepare(self, progress: ReportProgress) -> None:
        client, compute = self.config.client, self.config.aml_compute
        if self.context.offline:
            raise PreconditionFailed("AzureML can't be asked for anything offline", hint="run without --offline")
        self._tell = progress
        progress(f"workspace {client.workspace_name}", 0, None)
        with speaking(f"compute {compute}", client):
            size = str(getattr(workspace_client(client).compute.get(compute), "size", None))
        self._environment = environments.ready(self.config, self.context.distributions)
        self._where = repr((compute, size, self._environment, self.config.resources, self.config.vault))
        with speaking("the default datastore", client):
            self._depot = Depot(client, progress)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def submit(self, steps: Sequence[StepRequest], on_progress: Tell) -> list[Future[StepResult]]:
        if [each.kind for each in steps] == ["versions"]:
            return self._with_the_machine(steps[0])[:1]
        if [each.kind for each in steps] == ["machine"] and self._machine is not None:
            return [self._machine]
        if [each.kind for each in steps] == ["load"]:  # a node is nobody else's, and not at hand to be asked
            return [_done(StepResult(key=steps[0].key, answer={"cpus_left": None}))]
        return self._start(steps, on_progress)

    def _with_the_machine(self, question: StepRequest) -> list[Future[StepResult]]:
        """What is always asked next goes with a question: a job takes minutes."""
        other = {"key": "machine", "name": "machine", "kind": "machine", "config": {}, "distributions": {}}
        answers = self._start([question, question.model_copy(update=other)], lambda _: None)
        self._machine = answers[1]
        return answers

    def _start(self, steps: Sequence[StepRequest], on_progress: Tell) -> list[Future[StepResult]]:
        keys = {each.key for each in steps}
        futures = [Future[StepResult]() for _ in steps]
        for each in futures:
            each.set_running_or_notify_cancel()

        def carry() -> None:
            try:
                results = self._carry(steps, lambda event: on_progress(event) if event.key in keys else None)
            except BaseException as error:  # noqa: BLE001 - whoever waits for a result gets it
                for each in futures:
                    each.set_exception(error)
            else:
                for each, result in zip(futures, results, strict=True):
                    each.set_result(result)

        threading.Thread(target=carry, name="azureml", daemon=True).start()
        return futures

    def _carry(self, steps: Sequence[StepRequest], on_progress: Tell) -> list[StepResult]:
        """The results of steps.

        What a job has done that has ended before is not done again; what failed in it is, under a name of its own, so
        that the next run, which asks for just that, finds it.
        """
        done: dict[str, StepResult] = {}
        left, attempt = list(steps), 1
        while left:
            name = f"{self._name(left)}-{attempt}"
            with self._cancelled_with_the_run(name):
                state = jobs.state(self.config.client, name)
                old = state is not None and state.ended
                if state is not None and not old:
                    self._print(f"job {name} runs already: its results are waited for")
                lines = deque[str](maxlen=LAST_LINES)
                state = state or self._submit(name, left)
                state = state if old else self._follow(name, state, on_progress, lines)
                results = self._take(name, left)
            if not old:
                lost = self._lost(name, state, lines)
                done |= {each.key: results.get(each.key) or StepResult(key=each.key, fault=lost) for each in left}
                break
            if fine := {key: result for key, result in results.items() if result.fault is None}:
                self._follow(name, state, on_progress, lines)
            done |= fine
            left = [each for each in left if each.key not in fine]
            attempt = 1 if fine else attempt + 1
        return [done[each.key] for each in steps]

    def _name(self, steps: Sequence[StepRequest]) -> str:
        """What a job is called, but for the attempt: it says what is done, and where."""
        errand = self._errand(steps, {}, {}, {})
        told = f"{self.context.bundle().name} {self._where} {errand.portable()}"
        return f"hfopt-{sha256(told.encode()).hexdigest()[:20]}"

    def _errand(
        self,
        steps: Sequence[StepRequest],
        places: Mapping[str, tuple[str, str]],
        artifacts: Mapping[str, str],
        fetched: Mapping[str, str],
    ) -> Errand:
        return Errand(
            steps=tuple(each.model_copy(update={"paths": dict.fromkeys(sorted(each.paths), "")}) for each in steps),
            places=dict(places),
            artifacts=dict(artifacts),
            fetched=dict(fetched),
            plugin_files=tuple(file.name for file in self.context.plugin_files),
            log_levels=dict(self.context.log_levels),
        )

    # -- a job ---------------------------------------------------------------------------------------------------------

    def _submit(self, name: str, steps: Sequence[StepRequest]) -> State:
        """Bring what the steps read, and submit the job."""
        client, store = self.config.client, self.context.store
        with speaking(f"datastore {self._depot.store}", client):
            inputs = {"hfopt": bring_hfopt(self._depot, self.context.bundle())}
            places: dict[str, tuple[str, str]] = {}
            paths = {token: path for each in steps for token, path in each.paths.items()}
            for number, (token, path) in enumerate(sorted(paths.items())):
                inputs[f"input_{number}"], inside = bring_input(self._depot, token, Path(path))
                places[token] = (f"input_{number}", inside)
            artifacts: dict[str, str] = {}
            fetched: dict[str, str] = {}
            keys = (key for each in steps for key in each.inputs.values())
            for number, key in enumerate(needed(store, keys)):
                artifacts[key] = f"artifact_{number}"
                if (place := in_place.lies(artifact_folder(store, key), client)) is not None:
                    fetched[key] = f"fetched_{number}"
                    inputs[fetched[key]] = place
                inputs[artifacts[key]] = bring_artifact(self._depot, artifact_folder(store, key), whole=place is None)
            errand = self._errand(steps, places, artifacts, fetched)
            with TemporaryDirectory() as folder:
                (file := Path(folder, ERRAND)).write_text(errand.model_dump_json(), "utf-8")
                inputs["errand"] = self._depot.bring(f"{TOP}/errands/{errand.digest[:32]}", {ERRAND: file})
        given = " ".join(f'{each}="${{{{inputs.{each}}}}}"' for each in inputs if each not in ("hfopt", "errand"))
        more = {**self.config.resources.model_dump(exclude_none=True), "tags": {**self.config.tags}}
        job = CommandJob(
            name=name,
            title=", ".join(each.name for each in steps)[:200],
            command=COMMAND.format(packed=PACKED, errand=ERRAND, inputs=given),
            environment=self._environment,
            compute=self.config.aml_compute,
            inputs=inputs,
            output=self._depot.url(f"{TOP}/jobs/{name}/made"),
            vault=self.config.vault,
            more=more,
        )
        if self._over.is_set():
            raise PreconditionFailed("the run is over")
        return jobs.submit(client, job)

    def _follow(self, name: str, state: State, on_progress: Tell, lines: deque[str]) -> State:
        """Wait for a job's end, and show what it prints.

        :param lines: gets what it has printed last
        """

        def show(line: str) -> None:
            if line.startswith(TOLD):
                with suppress(ValueError):
                    on_progress(Progress.model_validate_json(line.removeprefix(TOLD)))
                    return
            lines.append(line)
            self._print(line)

        client = self.config.client
        with speaking(f"the log of job {name}", client):
            log = Log(client, name, show)
        pause = FIRST_PAUSE
        while True:
            if state.status in jobs.WAITING:
                self._tell(f"job {name} on {self.config.aml_compute}: {state.status.lower()}", 0, None)
            else:
                with speaking(f"the log of job {name}", client):
                    log.follow(to_its_end=state.ended)
            if state.ended:
                return state
            if self._over.wait(pause):
                raise PreconditionFailed("the run is over")
            pause = min(pause * 1.1, LONGEST_PAUSE)
            found = jobs.state(client, name)
            if found is None:
                raise PreconditionFailed(f"job {name} is not there any more")
            state = found

    def _print(self, line: str) -> None:
        keep(io.StringIO(f"{line}\n"), self.context.log)

    def _lost(self, name: str, state: State, lines: Sequence[str]) -> Fault:
        """Why a job has no result of a step."""
        ended = {"Completed": "has made no result of this step", "Canceled": "was cancelled"}
        said = f": {' | '.join(line.strip() for line in lines if line.strip())}" if any(lines) else ""
        hint = f"what it printed is in {self.context.log}" + (f"; its page: {state.studio}" if state.studio else "")
        fact = ended.get(state.status, "failed")
        return Fault(type="JobFailed", message=f"job {name} {fact}{said}", hint=hint)

    # -- what it has made ----------------------------------------------------------------------------------------------

    def _take(self, name: str, steps: Sequence[StepRequest]) -> dict[str, StepResult]:
        """The results that a job has written, by key; what it has made is in the store then."""
        made, store = f"{TOP}/jobs/{name}/made", self.context.store
        with speaking(f"the output of job {name}", self.config.client), _alone(store / "locks" / name):
            files = self._depot.look(made).files
            results = dict(self._results(steps, files))
            for key, result in list(results.items()):
                if result.manifest is None or (artifact_folder(store, key) / MANIFEST).is_file():
                    continue
                inside = f"{ARTIFACTS}/{key}/"
                of_it = [
                    replace(file, path=file.path.removeprefix(inside)) for file in files if file.path.startswith(inside)
                ]
                try:
                    self._take_in(name, key, of_it)
                except HfoptError as error:  # not as it was written: the next run makes it again
                    fault = Fault(type="ArtifactMissing", message=error.message, hint=error.hint)
                    results[key] = StepResult(key=key, fault=fault)
                else:
                    note = note_of(artifact_folder(store, key))
                    if self._depot.read(note) is None:
                        self._depot.put(note, f"{made}/{ARTIFACTS}/{key}".encode())
        return results

    def _results(self, steps: Sequence[StepRequest], files: Sequence[File]) -> Iterator[tuple[str, StepResult]]:
        named = {file.path: file.blob for file in files}
        for number, step in enumerate(steps):
            if (blob := named.get(f"{RESULTS}/{number}.json")) is None:
                continue
            with suppress(ValueError):
                result = StepResult.model_validate_json(self._depot.read(blob) or b"")
                if result.key == step.key:
                    yield step.key, self._with_hint(result)

    def _with_hint(self, result: StepResult) -> StepResult:
        """A lost worker's log is in the job's log, and so in this run's."""
        if result.fault is None or result.fault.type != "WorkerDied":
            return result
        hint = f"what it printed is in {self.context.log}"
        return result.model_copy(update={"fault": result.fault.model_copy(update={"hint": hint})})

    def _take_in(self, name: str, key: str, files: Sequence[File]) -> None:
        """Download an artifact and move it into the store.

        :raises HfoptError: it is not as it was written
        """
        unfinished = self.context.store / "unfinished" / name
        whole = unfinished / "whole"
        (whole / key).mkdir(parents=True, exist_ok=True)
        parts = unfinished / f"parts of {key}"
        blobs.download(self._depot.connect, files, whole / key, parts, self.config.client, self._tell)
        for file in (whole / key).rglob("*"):
            if file.is_file() and file != whole / key / MANIFEST:
                file.chmod(0o444)
        try:
            self.context.take_in(whole)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    # -- the end -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _cancelled_with_the_run(self, name: str) -> Iterator[None]:
        """While a job is this run's: `cancel` cancels it."""
        self._under_way.add(name)
        try:
            yield
        finally:
            if not self._over.is_set():
                self._under_way.discard(name)

    def cancel(self) -> None:
        self._over.set()
        asking = [
            threading.Thread(target=self._cancel, args=(name,), name=f"cancel {name}", daemon=True)
            for name in [*self._under_way]
        ]
        for each in asking:
            each.start()
        end = time.monotonic() + CANCELLING
        for each in asking:
            each.join(max(0.0, end - time.monotonic()))

    def _cancel(self, name: str) -> None:
        """Ask for a job's end until the service has heard it; it may be submitted at this very moment."""
        from azure.core.exceptions import AzureError

        end = time.monotonic() + CANCELLING
        while time.monotonic() < end:
            with suppress(AzureError):
                if jobs.cancel(self.config.client, name):
                    return
            time.sleep(0.1)


def _done(result: StepResult) -> Future[StepResult]:
    future = Future[StepResult]()
    future.set_result(result)
    return future


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While no other run that shares the cache does the same."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield

"""Takes every step of a plan to a manifest or a fault: what the cache does not have goes to the systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from hfopt.api.protocol import INPUT, Fault, Progress, StepRequest, StepResult
from hfopt.api.resources import Resolved
from hfopt.api.systems import System
from hfopt.cache.digests import Digests
from hfopt.cache.journal import RunLog
from hfopt.cache.manifest import MANIFEST, Manifest
from hfopt.cache.store import ArtifactStore
from hfopt.discovery.plugins import Plugins, versions
from hfopt.engine.questions import component_versions, is_quiet, machine_of, resolve_references
from hfopt.engine.reporting import Reporter
from hfopt.engine.state import SPOILT, RunState
from hfopt.measuring.machine import is_busy
from hfopt.planning.graph import EARLY, Step, closure
from hfopt.planning.identity import identify, needed_distributions, portable_config
from hfopt.worker.serve import fault_of

_SENT_AS_IT_IS = ("name", "kind", "component", "accelerator", "measures", "parity", "seed", "hf_token")


@dataclass
class Known:
    """What keys are made of. It is found out once: nobody is asked twice.

    :param leaves: digest of each input path
    :param resolved: what each reference means, or why it could not be resolved, by token
    :param versions: what components depend on, by system and then by component
    :param machines: what timings depend on, by system
    :param quiet: whether models can be timed undisturbed, by system
    """

    leaves: dict[Path, str] = field(default_factory=dict)
    resolved: dict[str, Resolved | Fault] = field(default_factory=dict)
    versions: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    quiet: dict[str, bool] = field(default_factory=dict)


@dataclass(eq=False)
class Driver:
    """Drives steps, which may be added while it does. A step runs while some result that needs it can still come.

    :param systems: by name
    :param fetching: the name of the system that resolves references
    :param results: those that can still come, each as all steps that it needs
    :param waiting: wanted steps that no system has yet, in the order in which they are handed out
    :param by_key: every step that it was ever given
    :param repeated: steps whose result in the cache is kept only until they run, and why they do
    """

    plugins: Plugins
    store: ArtifactStore
    digests: Digests
    systems: Mapping[str, System]
    fetching: str
    reporter: Reporter
    log: RunLog
    state: RunState = field(default_factory=RunState)
    known: Known = field(default_factory=Known)
    results: list[list[Step]] = field(default_factory=list)
    waiting: list[Step] = field(default_factory=list)
    running: dict[Future[StepResult], Step] = field(default_factory=dict)
    by_key: dict[str, Step] = field(default_factory=dict)
    repeated: dict[Step, str] = field(default_factory=dict)

    # -- what there is to do ----------------------------------------------------------------------------------------

    def add(self, results: Iterable[Sequence[Step]]) -> list[Step]:
        """Take in results that are wanted: find out the keys of all steps that they need, and what the cache has.

        :param results: each as the steps that it consists of; it can come while none of them, or of what they need, has
            failed
        :return: the steps that are new, which `announce` tells of
        """
        wanted = [closure(result) for result in results]
        steps = list(dict.fromkeys(chain.from_iterable(wanted)))
        new = [step for step in steps if step not in self.state.identities]
        self._find_out(new)
        resolved = {token: each for token, each in self.known.resolved.items() if isinstance(each, Resolved)}
        for step in new:
            needed, machine = self.known.versions[step.system], self.known.machines[step.system]
            known = self.state.identities
            known[step] = identify(step, known, self.known.leaves, resolved, needed, machine)
            self.by_key[known[step].key] = step
            manifest = self._in_cache(step)
            if manifest is not None and (why := self._why_again(step, manifest)):
                self.repeated[step] = why
            elif manifest is not None:
                self.state.manifests[step] = _brief(manifest)
                self.state.cached.add(step)
        self.results += wanted
        self.state.dropped -= set(steps)  # wanted again
        taken = {*self.waiting, *self.running.values()}
        waiting = [*self.waiting, *(step for step in steps if step not in taken and not self.state.settled(step))]
        self.waiting = sorted(waiting, key=lambda step: step.kind not in EARLY)
        return new

    def _in_cache(self, step: Step) -> Manifest | None:
        """What the cache has of a step. What is damaged is removed, so that the step runs again."""
        key = self.state.key(step)
        if (manifest := self.store.find(key)) is None and (wrong := self.store.damage(key)):
            self.reporter.notice(f"{step.name} is done again: its result in the cache is not intact: {wrong}")
            self.store.discard(key)
        return manifest

    def _find_out(self, steps: Sequence[Step]) -> None:
        for path in (paths := {path for step in steps for path in step.paths} - self.known.leaves.keys()):
            self.known.leaves[path] = self.digests.of(path)
            self.store.inputs[INPUT + self.known.leaves[path]] = str(path)
        if paths:
            self.digests.save()
        references = [step for step in steps if step.token is not None and step.token not in self.known.resolved]
        self.known.resolved |= resolve_references(references, self.systems[self.fetching])
        for name in dict.fromkeys(step.system for step in steps):
            system, known = self.systems[name], self.known.versions.setdefault(name, {})
            needs = [each for step in steps if step.system == name and step.token is None for each in step.needs]
            unknown = [each for each in needs if each.full_name not in known]
            known |= component_versions(unknown, system, versions(self.plugins.infos))
            if name not in self.known.machines:
                self.known.machines[name] = machine_of(system)

    def _why_again(self, step: Step, manifest: Manifest) -> str:
        """Why a step runs although the cache has its result; empty if it need not.

        What timing has found is not the same when it is found again, and what was made of it is then of no use.
        """
        timed = [self.state.manifests.get(each) for each in closure(step.inputs.values()) if each.measures]
        if any(each is None or each.created > manifest.created for each in timed):
            return "what it needs is found by timing, and that was done again"
        left, threads = manifest.report.get("cpus_left"), self.known.machines[step.system]["threads"]
        if not step.measures or left is None or not is_busy(left, threads):
            return ""
        if step.system not in self.known.quiet:
            self.known.quiet[step.system] = is_quiet(self.systems[step.system], threads)
        return "the machine was busy then, and is not now" if self.known.quiet[step.system] else ""

    def announce(self, steps: Sequence[Step]) -> None:
        """Tell of steps that `add` has taken in: those in the cache, and those that can't run."""
        resolved = [self.known.resolved[step.token] for step in steps if step.token is not None]
        for notice in dict.fromkeys(each.notice for each in resolved if isinstance(each, Resolved) and each.notice):
            self.reporter.notice(notice)
        cached = [step for step in steps if step in self.state.cached]
        for step in cached:
            self.reporter.finished(step, self.state.manifests[step], cached=True)
        self.log.note([self.state.noted(step) for step in cached])
        for step in steps:
            if step.token is not None and isinstance(fault := self.known.resolved[step.token], Fault):
                self._fail(step, fault)

    # -- doing it ---------------------------------------------------------------------------------------------------

    def drive(self, more: Callable[[], bool] = lambda: False) -> None:
        """Run until every step is settled and nothing more is wanted.

        :param more: may `add` further results, and tells whether it has; called at the start and whenever a step has
            settled, each time until it has not
        """
        while True:
            self._refuse_unlabelled()
            self._drop_useless()
            if more():
                continue
            self._submit_ready()
            if not self.running:
                return
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in [each for each in self.running if each in done]:
                self._settle(self.running.pop(future), _result(future))

    def interrupt(self) -> None:
        """Stop what runs."""
        self.state.interrupted = True
        for system in self.systems.values():
            system.cancel()

    def _refuse_unlabelled(self) -> None:
        """Fail what can't be scored before anything else is run for it."""
        for step in [each for each in self.waiting if each.kind == "predict"]:
            data = self.state.manifests.get(step.inputs["data"])
            if data is not None and not data.report["labelled"]:
                hint = "name the label column in label_cols"
                self._fail(step, Fault(type="PreconditionFailed", message="the data has no labels", hint=hint))

    def _drop_useless(self) -> None:
        """Give up steps that no result needs any more, since another step that it needs has failed."""
        alive = [each for each in self.results if self.state.faults.keys().isdisjoint(each)]
        self.results = [each for each in alive if not self.state.done(each)]
        useful = set(chain.from_iterable(self.results))
        self.state.dropped |= {step for step in self.waiting if step not in useful}
        self.waiting = [step for step in self.waiting if step in useful]
        for future, step in list(self.running.items()):
            if step not in useful and future.cancel():
                del self.running[future]
                self.state.dropped.add(step)

    def _submit_ready(self) -> None:
        """Hand every system, as one list, the steps whose inputs are there or earlier in the same list."""
        early = [step for step in (*self.waiting, *self.running.values()) if step.kind in EARLY]
        for name, system in self.systems.items():
            batch: dict[Step, None] = {}
            for step in self.waiting:
                ready = all(each in self.state.manifests or each in batch for each in step.inputs.values())
                if ready and step.system == name and (step.kind in EARLY or not early):
                    batch[step] = None
            if not batch:
                continue
            for step in batch:
                if step in self.repeated:
                    self.reporter.notice(f"{step.name} is done again: {self.repeated[step]}")
                    self.store.discard(self.state.key(step))
                self._call("hfopt_before_step", step)
            self.waiting = [step for step in self.waiting if step not in batch]
            requests = [self._request(step) for step in batch]
            self.running |= zip(system.submit(requests, self._progress), batch, strict=True)

    def _request(self, step: Step) -> StepRequest:
        """The step as a worker gets it.

        Its paths are those of all inputs that it or any step before it read: an artifact's model may refer to them.
        """
        identity, meaning = self.state.identities[step], self.known.resolved.get(step.token or "")
        leaves = self.known.leaves
        return StepRequest(
            **{name: getattr(step, name) for name in _SENT_AS_IT_IS},
            key=identity.key,
            config=portable_config(step, leaves),
            inputs={role: self.state.key(parent) for role, parent in step.inputs.items()},
            recipe=dict(identity.recipe),
            paths={INPUT + leaves[path]: str(path) for each in closure([step]) for path in each.paths},
            distributions=needed_distributions(step.needs, versions(self.plugins.infos)),
            pin=meaning.pin if isinstance(meaning, Resolved) else None,
            threads=self.known.machines[step.system]["threads"],
        )

    def _progress(self, event: Progress) -> None:
        self.reporter.progress(self.by_key[event.key], event)

    def _settle(self, step: Step, result: StepResult) -> None:
        if result.manifest is None:
            self._fail(step, result.fault or Fault(type="ArtifactMissing", message="the system returned no artifact"))
            self._miss_what_it_spoilt(step, result.fault)
            return
        manifest = self.state.manifests[step] = _brief(Manifest.model_validate(result.manifest))
        folder = self.store.folder(manifest.key)
        for file in manifest.files:  # read when the artifact was made, a moment ago
            self.digests.trust(folder / file.path, file.sha256, before=folder / MANIFEST)
        self.log.note([self.state.noted(step)])
        self.reporter.finished(step, manifest, cached=False)
        metrics = {key: metric.model_dump() for key, metric in manifest.metrics.items()}
        self._call("hfopt_after_step", step, metrics=metrics)

    def _miss_what_it_spoilt(self, step: Step, fault: Fault | None) -> None:
        """Earlier results that a failed step has changed are results no more.

        A worker that was lost has not looked whether they are as they were.
        """
        for each in closure(step.inputs.values()):
            key = self.state.key(each)
            if fault is not None and fault.type == "WorkerDied" and self.store.damage(key):
                self.store.discard(key)
            if each in self.state.manifests and self.store.find(key) is None:
                del self.state.manifests[each]
                self.state.faults[each] = Fault(type=SPOILT, message=f"its result was changed by {step.name}")

    def _fail(self, step: Step, fault: Fault) -> None:
        self.state.faults[step] = fault
        if step in self.waiting:
            self.waiting.remove(step)
        if not (self.state.faults.keys() | self.state.dropped).isdisjoint(step.inputs.values()):
            return  # it failed because these did
        self.log.note([self.state.noted(step)])
        self.reporter.failed(step, fault)
        self._call("hfopt_on_step_error", step, message=fault.message)

    def _call(self, hook: str, step: Step, **more: Any) -> None:
        self.plugins.call_lifecycle(hook, self.reporter.notice, step=step, key=self.state.key(step), **more)


def _brief(manifest: Manifest) -> Manifest:
    """A manifest without what its step has as well: a search keeps those of thousands of steps."""
    return manifest.model_copy(update={"config": {}, "recipe": {}, "inputs": {}})


def _result(future: Future[StepResult]) -> StepResult:
    """What a system returned for a step, or its failure to return anything."""
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - a system is a plugin: whatever it raises fails the step
        return StepResult(key="", fault=fault_of(error))

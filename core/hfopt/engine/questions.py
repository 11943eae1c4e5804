"""What must be known of the world before a run can be planned: asked of workers, as the host imports no client.

What references mean now, which accelerators are there, which versions, and what machine it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfopt.api.model import Accelerator
from hfopt.api.protocol import Fault, Question, StepRequest
from hfopt.api.resources import Resolved
from hfopt.api.systems import System
from hfopt.base.component import PROJECT
from hfopt.base.errors import PluginError
from hfopt.config.resolve import RunConfig
from hfopt.discovery.plugins import RegisteredComponent
from hfopt.measuring import machine
from hfopt.planning.builder import PLAIN_CPU, accelerators
from hfopt.planning.graph import Step
from hfopt.planning.identity import needed_distributions


def missing_accelerators(config: RunConfig, target: System) -> dict[Accelerator, str]:
    """Which of the wanted accelerators the target has not, with the reason.

    The plain CPU is taken for granted: a run that asks for nothing else starts no worker for this.
    """
    made = [entry.component.cls.produces for entry in config.passes.values()]
    types = dict.fromkeys([config.input_model.registered.full_name, *filter(None, made)])
    asked = [(each, name) for each in accelerators(config) if each != PLAIN_CPU for name in types]
    answers = _ask(target, [_question("probe", name, accelerator=accelerator) for accelerator, name in asked])
    reasons: dict[Accelerator, str] = {}
    for (accelerator, _), answer in zip(asked, answers, strict=True):
        reason = answer.message if isinstance(answer, Fault) else answer["reason"]
        if reason is not None:
            reasons.setdefault(accelerator, reason)
    return reasons


def resolve_references(steps: Sequence[Step], system: System) -> dict[str, Resolved | Fault]:
    """What every reference means now, or why it could not be resolved, by token.

    :param steps: those that fetch the references
    """
    asked = ((each, {"config": each.config.model_dump(mode="json"), "hf_token": each.hf_token}) for each in steps)
    questions = [_question("resolve", step.component, **more) for step, more in asked]
    pairs = zip(steps, _ask(system, questions), strict=True)
    return {str(step.token): each if isinstance(each, Fault) else Resolved(**each) for step, each in pairs}


def component_versions(
    components: Iterable[RegisteredComponent], system: System, distributions: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What each component depends on where a system's steps run, by its full name.

    :param distributions: the host's version of each plugin
    :raises PluginError: a plugin is missing there, or another version of it is there
    """
    wanted = {each.full_name: each for each in components}
    needed = needed_distributions(wanted.values(), distributions)
    config = {name: each.hook for name, each in wanted.items()}
    return _sure(system, _question("versions", config=config, distributions=needed)) if wanted else {}


def machine_of(system: System) -> dict[str, Any]:
    """What a timing depends on where a system's steps run.

    :raises PluginError: no worker could be asked
    """
    return _sure(system, _question("machine"))


def is_quiet(system: System, threads: int) -> bool:
    """Whether nothing would disturb models that are timed where a system's steps run; False if that is not known."""
    left = _sure(system, _question("load"))["cpus_left"]
    return left is not None and not machine.is_busy(left, threads)


def _question(kind: Question, component: str = PROJECT, **more: Any) -> StepRequest:
    fields = {"key": f"{kind} {component}", "name": kind, "kind": kind, "component": component, "config": {}}
    return StepRequest(**{**fields, "inputs": {}, "accelerator": PLAIN_CPU, "threads": 1, **more})


def _ask(system: System, questions: Sequence[StepRequest]) -> list[dict[str, Any] | Fault]:
    """The answers, in order; a worker that is lost yields a fault."""
    results = [future.result() for future in system.submit(questions, lambda _: None)] if questions else []
    return [result.fault or result.answer or {} for result in results]


def _sure(system: System, question: StepRequest) -> dict[str, Any]:
    (answer,) = _ask(system, [question])
    if isinstance(answer, Fault):
        raise PluginError(answer.message, hint=answer.hint)
    return answer

"""What must be known of the world before a run can be planned: asked of workers, as the host imports no client.

What references mean now, which accelerators are there, which versions, and what machine it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hfopt.api.model import Accelerator
from hfopt.api.protocol import Fault, Progress, Question, StepRequest
from hfopt.api.resources import Resolved
from hfopt.api.systems import System
from hfopt.base.component import PROJECT
from hfopt.base.errors import PluginError
from hfopt.config.resolve import RunConfig
from hfopt.discovery.plugins import RegisteredComponent
from hfopt.planning.builder import CPU_PROVIDERS, accelerators
from hfopt.planning.graph import Step
from hfopt.planning.identity import needed_distributions

CPU = "cpu"


def missing_accelerators(config: RunConfig, target: System) -> dict[Accelerator, str]:
    """Which of the wanted accelerators the target has not, with the reason.

    The plain CPU is taken for granted: a run that asks for nothing else starts no worker for this.
    """
    wanted = [each for each in accelerators(config) if not _plain_cpu(each)]
    types = _model_types(config)
    asked = [(each, name) for each in wanted for name in types]
    answers = _ask(target, [_question("probe", name, {}, accelerator) for accelerator, name in asked])
    reasons: dict[Accelerator, str] = {}
    for (accelerator, _), answer in zip(asked, answers, strict=True):
        reason = answer.message if isinstance(answer, Fault) else answer["reason"]
        if reason is not None:
            reasons.setdefault(accelerator, reason)
    return reasons


def _plain_cpu(accelerator: Accelerator) -> bool:
    return accelerator.device == CPU and accelerator.execution_provider in CPU_PROVIDERS


def _model_types(config: RunConfig) -> list[str]:
    """The types of model that will run: the input model's, and those that passes make."""
    made = [entry.component.cls.produces for entry in config.passes.values()]
    return list(dict.fromkeys([config.input_model.registered.full_name, *(name for name in made if name is not None)]))


def resolve_references(steps: Sequence[Step], system: System) -> dict[str, Resolved | Fault]:
    """What every reference means now, or why it could not be resolved, by token.

    :param steps: those that fetch a resource are asked for
    """
    fetching = [step for step in steps if step.token is not None]
    questions = [_question("resolve", step.component, step.config.model_dump(mode="json")) for step in fetching]
    answers = _ask(system, questions)
    return {
        step.token or "": answer if isinstance(answer, Fault) else Resolved(**answer)
        for step, answer in zip(fetching, answers, strict=True)
    }


def component_versions(
    components: Iterable[RegisteredComponent], system: System, distributions: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What each component depends on where a system's steps run, by its full name.

    :param distributions: the host's version of each plugin
    :raises PluginError: a plugin is missing there, or another version of it is there
    """
    wanted = {each.full_name: each for each in components}
    if not wanted:
        return {}
    question = _question("versions", PROJECT, {name: each.hook for name, each in wanted.items()})
    needed = needed_distributions(wanted.values(), distributions)
    (answer,) = _ask(system, [question.model_copy(update={"distributions": needed})])
    return _sure(answer)


def machine_of(system: System) -> dict[str, Any]:
    """What a timing depends on where a system's steps run.

    :raises PluginError: no worker could be asked
    """
    (answer,) = _ask(system, [_question("machine", PROJECT, {})])
    return _sure(answer)


def _sure(answer: dict[str, Any] | Fault) -> dict[str, Any]:
    if isinstance(answer, Fault):
        raise PluginError(answer.message, hint=answer.hint)
    return answer


def _question(
    kind: Question, component: str, config: Mapping[str, Any], accelerator: Accelerator | None = None
) -> StepRequest:
    return StepRequest(
        key=f"{kind} {component}",
        name=kind,
        kind=kind,
        component=component,
        config=dict(config),
        inputs={},
        accelerator=accelerator or Accelerator(),
        threads=1,
    )


def _ask(system: System, questions: Sequence[StepRequest]) -> list[dict[str, Any] | Fault]:
    """The answers, in order; a worker that is lost yields a fault."""
    if not questions:
        return []
    ignore: Callable[[Progress], None] = lambda _: None  # noqa: E731 - a question has no progress to tell of
    results = [future.result() for future in system.submit(questions, ignore)]
    return [result.fault if result.fault is not None else result.answer or {} for result in results]

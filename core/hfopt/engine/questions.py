"""What must be known of the world before a run can be planned: asked of workers, as the host imports no client.

What references mean now, and which accelerators are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hfopt.api.model import Accelerator
from hfopt.api.protocol import Fault, Progress, Question, StepRequest
from hfopt.api.resources import Resolved
from hfopt.api.systems import System
from hfopt.config.resolve import RunConfig
from hfopt.planning.builder import CPU_PROVIDERS, accelerators
from hfopt.planning.graph import Step

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


def resolve_references(steps: Sequence[Step], system: System) -> tuple[dict[str, Resolved], dict[str, Fault]]:
    """What every reference means now, by token, and why some could not be resolved.

    :param steps: those that fetch a resource are asked for
    """
    fetching = [step for step in steps if step.token is not None]
    questions = [_question("resolve", step.component, step.config.model_dump(mode="json")) for step in fetching]
    answers = dict(zip([step.token or "" for step in fetching], _ask(system, questions), strict=True))
    faults = {token: answer for token, answer in answers.items() if isinstance(answer, Fault)}
    return {token: Resolved(**answer) for token, answer in answers.items() if not isinstance(answer, Fault)}, faults


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

"""PythonEnvironment: the worker is a child process that runs another interpreter, with the host's hfopt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hfopt.api.config import ReportProgress
from hfopt.api.protocol import StepRequest
from hfopt.api.systems import SystemContext
from hfopt.api.workers import ProcessWorker, Worker, WorkerSystem, environment
from hfopt_python_environment import installers, interpreters, managed, orders, requirements
from hfopt_python_environment.children import without_python
from hfopt_python_environment.interpreters import Interpreter
from hfopt_python_environment.options import VERSION, PythonEnvironmentConfig
from hfopt_python_environment.orders import Order


class PythonEnvironment(WorkerSystem):
    """Runs steps one after another in a child process of another interpreter."""

    Config = PythonEnvironmentConfig
    config: PythonEnvironmentConfig

    def __init__(self, config: Any, context: SystemContext) -> None:
        super().__init__(config, context)
        self._python = Path()
        self._bundle = Path()

    def prepare(self, progress: ReportProgress) -> None:
        context, given = self.context, self.config.python_environment_path
        if given is not None:
            place = Path(given)
            self._check(place)
        else:  # it was checked when it was made
            place = managed.ready(self._order(), context.store, progress, self._check, offline=context.offline)
        self._python, self._bundle = interpreters.find(place), context.bundle()

    def start(self, step: StepRequest) -> Worker:
        return ProcessWorker([str(self._python)], self._environment(self._python, self._bundle), self.context)

    def _check(self, place: Path) -> None:
        """See that hfopt can run in an environment."""
        python, needed = interpreters.find(place), requirements.of_core()
        told = interpreters.ask(python, self._environment(python), [*(each.name for each in needed), "pip"])
        interpreters.check(told, needed)

    def _order(self) -> Order:
        config, base = self.config, self._base()
        file, lock = (None if each is None else Path(each) for each in (config.requirements_file, config.lock))
        named = orders.named(config.requirements, file)
        needed = requirements.third_party(self.context.distributions, named, base.marks)
        installer = installers.choose(config.installer)
        return Order(base, installer, tuple(map(str, needed)), config.requirements, file, lock)

    def _base(self) -> Interpreter:
        """The interpreter that a managed environment is made from."""
        wanted = self.config.python
        if wanted is None:
            return interpreters.this()
        path = interpreters.of_version(wanted) if VERSION.fullmatch(wanted) else Path(wanted)
        base = interpreters.ask(path, without_python(os.environ))
        interpreters.check(base, ())
        return base

    def _environment(self, python: Path, *packages: Path) -> dict[str, str]:
        """What the worker gets.

        :param packages: folders whose packages come first
        """
        host, own = without_python(environment(offline=self.context.offline)), self.config.environment_variables
        path = [*self.config.prepend_to_path, str(python.parent), own.get("PATH") or host.get("PATH", os.defpath)]
        modules = [*map(str, packages), *filter(None, [own.get("PYTHONPATH")])]
        made = {"PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join(modules)}
        return {**host, "PYTHONFAULTHANDLER": "1", **own, **made}

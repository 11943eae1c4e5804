"""What a compute's node does with a job: brings its inputs, runs its command, writes its log, keeps its outputs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import isodate  # type: ignore[import-untyped]  # it has no stubs

from azureml_emulator.azurite import end_with_parent
from azureml_emulator.identity import MANAGED
from azureml_emulator.places import ACCOUNT, GROUP, SUBSCRIPTION, WORKSPACE, Place
from azureml_emulator.wire import JSON, Refusal
from azureml_emulator.workspace import ARTIFACTS, DEFAULT_STORE, Workspace

LOG = "user_logs/std_log.txt"
GRACE_SECONDS = 3
_CHUNK = 1 << 20
_LOG_SECONDS = 0.2


@dataclass
class Job:
    """A command job.

    :ivar definition: its properties as they were submitted
    :ivar status: as the service spells it
    :ivar error: why it failed, or was ended by its time limit
    :ivar started: when its command began, in seconds since the epoch, and ``ended``
    """

    name: str
    definition: JSON
    status: str = "Queued"
    error: JSON | None = None
    started: float | None = None
    ended: float | None = None
    stopped: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def compute(self) -> str:
        """The name of its compute."""
        return str(self.definition["computeId"]).rpartition("/")[2]

    @property
    def artifacts(self) -> str:
        """Where its log and default outputs lie, in the datastore of artifacts."""
        return f"ExperimentRun/dcid.{self.name}/"

    @property
    def inputs(self) -> dict[str, JSON]:
        """Its inputs by name, as they were submitted."""
        return self.definition.get("inputs") or {}

    @property
    def outputs(self) -> dict[str, JSON]:
        """Its outputs by name, as they were submitted."""
        return self.definition.get("outputs") or {}

    def output(self, name: str) -> str:
        """Where an output lies, as a short or a long URI."""
        default = f"azureml://datastores/{DEFAULT_STORE}/paths/azureml/{self.name}/{name}/"
        return str(self.outputs[name].get("uri") or default)

    def stop(self) -> None:
        """Ask its processes to end, and make them do so after a while; without a command yet, it gets none."""
        self.stopped = True
        self.signal(signal.SIGTERM)
        end = threading.Timer(GRACE_SECONDS, self.signal, (signal.SIGKILL,))
        end.daemon = True
        end.start()

    def signal(self, number: int) -> None:
        """Signal its command and all that this has started, unless it has ended."""
        with self._lock, suppress(ProcessLookupError):
            if self._process is not None:
                os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Leave no process of it; its command has ended."""
        self.signal(signal.SIGKILL)
        with self._lock:
            self._process = None

    def start(self, command: str, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        """Start its command in bash, with its output in a pipe.

        :return: None if the job has been stopped
        """
        with self._lock:
            if self.stopped:
                return None
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
            return self._process


def run(
    job: Job, folder: Path, workspace: Workspace, environment: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[str, JSON | None]:
    """All of a job from ``Preparing`` on.

    :param folder: of its own
    :param environment: what its processes see besides what says where things are
    :param tell: takes the status that has been reached
    :return: the status in which it ends, and the error
    """
    tell("Preparing")
    code, inputs, outputs = (folder / name for name in ("code", "inputs", "outputs"))
    for each in (code, inputs, outputs, folder / "home", folder / "tmp"):
        each.mkdir(parents=True)
    try:
        if job.definition.get("codeId"):
            _fetch_code(job, code, workspace)
        values = {f"inputs.{name}": _fetch(each, inputs / name, workspace) for name, each in job.inputs.items()}
        for name in job.outputs:
            values[f"outputs.{name}"] = str(_prepare_output(job, name, outputs / name, workspace))
    except (Refusal, FileNotFoundError) as error:
        return "Failed", {"code": "UserError", "message": f"Data could not be prepared: {error}"}
    command = re.sub(r"\${{\s*([\w.]+)\s*}}", lambda found: values[found[1]], job.definition["command"])
    process = job.start(command, code, {**environment, **_variables(job, folder, values)})
    if process is None:
        return "Canceled", None
    tell("Running")
    ended = _follow(job, process, workspace)
    tell("Finalizing")
    for name, output in job.outputs.items():
        if ended == ("Completed", None) or output.get("mode") != "Upload":  # a mount has what was written
            place = workspace.resolve(job.output(name))
            workspace.blobs.upload(outputs / name, place.account, place.container, place.path)
    for name in ("outputs", "logs"):
        if (code / name).is_dir():
            workspace.blobs.upload(code / name, ACCOUNT, workspace.containers[ARTIFACTS], job.artifacts + name)
    shutil.rmtree(inputs)
    return ended


def _fetch_code(job: Job, target: Path, workspace: Workspace) -> None:
    *_, name, _, version = job.definition["codeId"].split("/")
    place = workspace.resolve(workspace.assets.get("codes", name, version)["properties"]["codeUri"])
    workspace.blobs.download(place.account, place.container, place.path, target)


def _fetch(given: JSON, target: Path, workspace: Workspace) -> str:
    """What ``${{inputs.x}}`` stands for: a literal, an address, or the path of what has been brought."""
    if given["jobInputType"] == "literal":
        return str(given["value"])
    if given.get("mode") == "Direct":
        return str(given["uri"])
    place = workspace.resolve(given["uri"])
    return str(workspace.blobs.download(place.account, place.container, place.path, target))


def _prepare_output(job: Job, name: str, target: Path, workspace: Workspace) -> Path:
    """An empty folder, or what a mounted output has already."""
    place = workspace.resolve(job.output(name))
    target.mkdir()
    with suppress(FileNotFoundError):
        if job.outputs[name].get("mode") != "Upload":
            workspace.blobs.download(place.account, place.container, place.path, target)
    return target


def _variables(job: Job, folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    """What AzureML tells a job's processes, and folders of its own."""
    paths = {name.replace(".", "_"): value for name, value in values.items()}
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "AZUREML_RUN_ID": job.name,
        "AZUREML_EXPERIMENT_NAME": str(job.definition.get("experimentName")),
        "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
        "AZUREML_ARM_RESOURCEGROUP": GROUP,
        "AZUREML_ARM_WORKSPACE_NAME": WORKSPACE,
        "AZUREML_NODE_COUNT": str((job.definition.get("resources") or {}).get("instanceCount", 1)),
        **{f"AZURE_ML_INPUT_{name[7:]}": value for name, value in paths.items() if name.startswith("inputs_")},
        **{f"AZURE_ML_OUTPUT_{name[8:]}": value for name, value in paths.items() if name.startswith("outputs_")},
        **(job.definition.get("environmentVariables") or {}),
    }


def managed_identity(job: Job, endpoint: str, secret: str) -> dict[str, str]:
    """How a job's processes get at the compute's identity, if the job says that it uses that."""
    if (job.definition.get("identity") or {}).get("identityType") != "Managed":
        return {}
    return {"MSI_ENDPOINT": endpoint, "MSI_SECRET": secret, "DEFAULT_IDENTITY_CLIENT_ID": MANAGED}


def _follow(job: Job, process: subprocess.Popen[bytes], workspace: Workspace) -> tuple[str, JSON | None]:
    """Append what a command prints to its log while it runs.

    :return: status and error in which the job ends
    """
    log = Place(ACCOUNT, workspace.containers[ARTIFACTS], job.artifacts + LOG)
    assert process.stdout is not None
    writer = threading.Thread(target=_append, args=(process.stdout, log, workspace), daemon=True)
    writer.start()
    limit = (job.definition.get("limits") or {}).get("timeout")
    seconds = isodate.parse_duration(limit).total_seconds() if limit else None
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        job.stop()
        process.wait()
        message = f"The job was canceled as it ran for longer than its limit of {seconds:g} seconds."
        return "Canceled", {"code": "UserError", "message": message}
    finally:
        job.end()
        writer.join()
    if job.stopped:
        return "Canceled", None
    if code:
        message = (
            f"Execution failed. User process 'bash' exited with status code {code}. Please check log file '{LOG}'."
        )
        return "Failed", {"code": "UserError", "message": message}
    return "Completed", None


def _append(output: IO[bytes], log: Place, workspace: Workspace) -> None:
    blob = workspace.blobs.container(log.account, log.container).get_blob_client(log.path)
    blob.create_append_blob()
    pause = threading.Event()
    with output:
        while text := os.read(output.fileno(), _CHUNK):
            blob.append_block(text)
            pause.wait(_LOG_SECONDS)  # so that many small prints are few requests

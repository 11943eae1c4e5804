"""Jobs: submitted, queued, cancelled, and asked about, by ARM and by the run history."""

from __future__ import annotations

import datetime
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from azureml_emulator import node
from azureml_emulator.identity import ARM
from azureml_emulator.node import LOG, Job
from azureml_emulator.places import ACCOUNT, REGION, WORKSPACE_ID, Place
from azureml_emulator.wire import JSON, Answer, Call, Refusal, Route
from azureml_emulator.workspace import ARM_HOST, ARTIFACTS, DATA_HOST, GUID, PREFIX, Workspace, check

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
_OUTPUT_TYPES = {"custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "triton_model": "TritonModel"}
_OUTPUT_ID = f"azureml://locations/{REGION}/workspaces/{GUID}/data/azureml_{{job}}_output_data_{{output}}/versions/1"


class Jobs:
    """The jobs of a workspace, each of which waits for a node of its compute and then runs there.

    :param folder: for a folder of each job
    :param environment: of a job's processes besides what AzureML tells them
    :ivar all: by name, in the order of submission
    :ivar changed: notified when a status or a compute has changed
    """

    def __init__(self, workspace: Workspace, folder: Path, environment: Callable[[Job], Mapping[str, str]]) -> None:
        self.all: dict[str, Job] = {}
        self.changed = threading.Condition()
        self._workspace = workspace
        self._folder = folder
        self._environment = environment
        self._on_nodes: list[Job] = []
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> None:
        """Queue a job."""
        with self.changed:
            self.all[job.name] = job
            for output in job.outputs:
                self._workspace.outputs[job.name, output] = job.output(output)
        thread = threading.Thread(target=self._live, args=(job,), name=f"job {job.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def cancel(self, job: Job) -> None:
        """Ask a job to end; it does so before long."""
        with self.changed:
            if job.status not in TERMINAL:
                job.status = "CancelRequested"
            job.stop()
            self.changed.notify_all()

    def close(self) -> None:
        """Cancel every job and wait until they have ended."""
        for job in self.all.values():
            self.cancel(job)
        for thread in self._threads:
            thread.join()

    def _live(self, job: Job) -> None:
        with self.changed:
            self.changed.wait_for(lambda: job.stopped or self._has_free_node(job.compute))
            self._on_nodes.append(job)
        status, error = "Canceled", None
        try:
            if not job.stopped:
                job.started = time.time()
                status, error = node.run(
                    job,
                    self._folder / job.name,
                    self._workspace,
                    self._environment(job),
                    lambda to: self._tell(job, to),
                )
        except Exception as failure:  # noqa: BLE001 - the emulator's own fault: the job says so, as the service's would
            traceback.print_exc()
            status, error = "Failed", {"code": "ServiceError", "message": f"The emulator failed: {failure!r}"}
        with self.changed:
            self._on_nodes.remove(job)
            job.ended, job.error, job.status = time.time(), error, status
            self.changed.notify_all()

    def _has_free_node(self, compute: str) -> bool:
        return self._workspace.computes[compute] > sum(job.compute == compute for job in self._on_nodes)

    def _tell(self, job: Job, status: str) -> None:
        with self.changed:
            if not job.stopped:
                job.status = status
                self.changed.notify_all()


def routes(jobs: Jobs, workspace: Workspace) -> Iterable[Route]:
    """Jobs in ARM, and what the run history knows of them."""

    def job_of(call: Call) -> Job:
        check(call)
        if call.match["job"] not in jobs.all:
            raise Refusal(404, "UserError", f"Job {call.match['job']} was not found.")
        return jobs.all[call.match["job"]]

    def submit(call: Call) -> Answer:
        check(call)
        name, definition = call.match["job"], call.json["properties"]
        if (there := jobs.all.get(name)) is not None:
            if there.definition != definition:
                raise Refusal(409, "UserError", f"A job with the name {name} already exists, and is another.")
            return Answer(_described(there))
        _check_definition(definition, workspace)
        jobs.submit(Job(name, definition))
        return Answer(_described(jobs.all[name]), 201)

    def show(call: Call) -> Answer:
        return Answer(_described(job_of(call)))

    def every(call: Call) -> Answer:
        check(call)
        return Answer({"value": [_described(job) for job in reversed(jobs.all.values())]})

    def cancel(call: Call) -> Answer:
        job = job_of(call)
        if job.status in TERMINAL:
            raise Refusal(400, "UserError", f"Job {job.name} has ended as {job.status} and cannot be canceled.")
        jobs.cancel(job)
        headers = {"Location": f"https://{ARM_HOST}{WORKSPACE_ID}/jobs/{job.name}/cancelled", "Retry-After": "1"}
        return Answer(None, 202, headers)

    def cancelled(call: Call) -> Answer:
        ended = job_of(call).status in TERMINAL
        return Answer(None, 200 if ended else 202, {} if ended else {"Retry-After": "1"})

    def details(call: Call) -> Answer:
        job = job_of(call)
        place = Place(ACCOUNT, workspace.containers[ARTIFACTS], job.artifacts + LOG)
        token = workspace.blobs.sas(place.account, place.container, permission="r")
        logs = {LOG: f"{place.url}?{token}"} if job.started and job.status not in ("Queued", "Preparing") else {}
        times = {"startTimeUtc": _time(job.started), "endTimeUtc": _time(job.ended)}
        error = None if job.error is None else {"error": job.error}
        return Answer(
            {"runId": job.name, "status": job.status, **times, "logFiles": logs, "error": error, "warnings": []}
        )

    def run_data(call: Call) -> Answer:
        check(call)
        name = call.json["runId"]
        if name not in jobs.all:
            raise Refusal(404, "UserError", f"Run {name} was not found.")
        outputs = {
            output: {"assetId": _OUTPUT_ID.format(job=name, output=output), "type": _output_type(each)}
            for output, each in jobs.all[name].outputs.items()
        }
        return Answer({"runMetadata": {"runId": name, "status": jobs.all[name].status, "outputs": outputs}})

    def resolved(call: Call) -> Answer:
        check(call)
        known = {_OUTPUT_ID.format(job=job, output=output): uri for (job, output), uri in workspace.outputs.items()}
        wanted = [identifier for identifier in call.json["values"] if identifier in known]
        return Answer(
            {
                "values": {
                    identifier: {"uri": workspace.address(known[identifier]), "type": "uri_folder"}
                    for identifier in wanted
                }
            }
        )

    yield Route("PUT", ARM_HOST, f"{PREFIX}/jobs/{{job}}", submit, ARM)
    yield Route("GET", ARM_HOST, f"{PREFIX}/jobs/{{job}}", show, ARM)
    yield Route("GET", ARM_HOST, f"{PREFIX}/jobs", every, ARM)
    yield Route("POST", ARM_HOST, f"{PREFIX}/jobs/{{job}}/cancel", cancel, ARM)
    yield Route("GET", ARM_HOST, f"{PREFIX}/jobs/{{job}}/cancelled", cancelled, ARM)
    yield Route("GET", DATA_HOST, rf"/history/v1\.0{PREFIX}/runs/{{job}}/details", details, ARM)
    yield Route("POST", DATA_HOST, rf"/history/v1\.0{PREFIX}/rundata", run_data, ARM)
    yield Route("POST", DATA_HOST, rf"/data/v1\.0{PREFIX}/dataversion/batchGetResolvedUris", resolved, ARM)


def _check_definition(definition: JSON, workspace: Workspace) -> None:
    """What the service looks at when a job is submitted.

    :raises Refusal: 400
    """
    if definition.get("jobType") != "Command":
        raise Refusal(400, "UserError", f"The emulator runs command jobs only, not {definition.get('jobType')}.")
    compute = str(definition.get("computeId")).rpartition("/")[2]
    if compute not in workspace.computes:
        raise Refusal(400, "UserError", f"Unknown compute target '{compute}'.")
    found = re.search(r"/workspaces/[^/]+/environments/([^/]+)/versions/([^/]+)$", str(definition.get("environmentId")))
    if found and found[2] not in workspace.assets.versions.get(("environments", found[1]), {}):
        raise Refusal(400, "UserError", f"Environment {found[1]}:{found[2]} was not found.")


def _described(job: Job) -> JSON:
    """A job as ARM has it."""
    studio = {"endpoint": f"https://ml.azure.com/runs/{job.name}?wsid={WORKSPACE_ID}", "jobServiceType": "Studio"}
    default = {"jobOutputType": "uri_folder", "uri": f"azureml://datastores/{ARTIFACTS}/paths/{job.artifacts}"}
    outputs = {**job.outputs, "default": {**default, "mode": "ReadWriteMount"}}
    return {
        "id": f"{WORKSPACE_ID}/jobs/{job.name}",
        "name": job.name,
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "properties": {**job.definition, "status": job.status, "outputs": outputs, "services": {"Studio": studio}},
    }


def _output_type(output: JSON) -> str:
    kind = str(output["jobOutputType"])
    return _OUTPUT_TYPES.get(kind, kind)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()

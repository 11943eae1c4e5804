"""What goes wrong on demand, and what the emulator tells of what it was asked."""

from __future__ import annotations

import pytest
import requests

from azureml_emulator.faults import Fault
from azureml_emulator.identity import CLIENT, TENANT
from azureml_emulator.places import WORKSPACE_ID

BLOBS = "*.blob.core.windows.net"
PROGRAM = """
    from azure.storage.blob import ContainerClient, LinearRetry
    large = Path(sys.argv[1])
    for _ in range(6):
        said["got"] = ml.models.get("given", "1").version
    try:
        ml.models.get("expired", "1")
    except HttpResponseError as error:
        said["expired"] = [type(error).__name__, error.status_code, error.error.code]
    go = large.with_name("go")
    waiting = f"echo begun; until [ -e {go} ]; do sleep 0.1; done; echo ended"
    line = {"command": waiting, "environment": "azureml:local:1"}
    try:
        ml.jobs.create_or_update(command(name="quota", compute="cpu-cluster", **line))
    except HttpResponseError as error:
        said["quota"] = error.error.code
    said["lost"] = ml.jobs.create_or_update(command(name="lost", compute="cpu-cluster", **line)).name
    store = ml.datastores.get("workspaceartifactstore", include_secrets=True)
    def container(name):
        retry = LinearRetry(backoff=0, random_jitter_range=0)
        url = f"https://{store.account_name}.blob.core.windows.net/{name}?{store.credentials.sas_token}"
        return ContainerClient.from_container_url(url, retry_policy=retry)
    artifacts = container(store.container_name)
    artifacts.upload_blob("cut-upload", large.read_bytes())
    said["same"] = artifacts.download_blob("cut-upload").readall() == large.read_bytes()
    log = artifacts.get_blob_client("ExperimentRun/dcid.lost/user_logs/std_log.txt")
    def wait_for(text):
        while True:
            try:
                if log.download_blob().readall().decode().endswith(text):
                    return ml.jobs.get("lost").status
            except ResourceNotFoundError:
                pass
            time.sleep(0.1)
    said["begun"] = wait_for("begun\\n")
    go.touch()
    said["ended"] = wait_for("begun\\nended\\n") in ("Running", "Finalizing", "Completed")
"""


def test_a_fault_befalls_each_nth_request_that_matches_so_many_times():
    fault = Fault(method="GET", host="management.*", path="*/Models/*", every=3, times=2, status=500)

    befallen = [fault.strikes("GET", "management.azure.com", "/models/a") for _ in range(12)]

    assert [number for number, struck in enumerate(befallen, 1) if struck] == [3, 6]
    assert not fault.strikes("GET", "eastus.api.azureml.ms", "/models/a")


@pytest.mark.engine
def test_faults_reach_the_sdk_as_the_service_would_send_them(azureml_emulator, sdk, model_folder, tmp_path):
    azureml_emulator.add_model("given", model_folder)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 4000)
    arm = "management.azure.com"
    add = azureml_emulator.faults.add
    failing = add(Fault(host=arm, path="*/models/given/*", every=5, status=500))
    throttled = add(Fault(host=arm, path="*/models/given/*", every=4, status=429, headers={"Retry-After": "0"}))
    add(Fault(host=arm, path="*/models/expired/*", status=401))
    add(Fault(method="PUT", path="*/jobs/quota", status=409, code="QuotaExceeded", message="No cores are left."))
    lost = add(Fault(method="PUT", path="*/jobs/lost", cut="answer", times=1))
    upload = add(Fault(method="PUT", host=BLOBS, path="*/cut-upload", after=100_000, times=1))
    download = add(Fault(method="GET", host=BLOBS, path="*/cut-upload", cut="answer", after=100_000, times=1))
    tail = add(Fault(method="GET", host=BLOBS, path="*/std_log.txt", cut="answer", after=3, every=2))

    said = sdk(PROGRAM, azureml_emulator.client_env(), large)

    assert said == {
        "got": "1",
        "expired": ["ClientAuthenticationError", 401, "ExpiredAuthenticationToken"],
        "quota": "QuotaExceeded",
        "lost": "lost",
        "same": True,
        "begun": "Running",
        "ended": True,
    }
    assert all(fault.struck for fault in (failing, throttled, lost, upload, download, tail))
    assert list(azureml_emulator.jobs)[-1] == "lost", "what was refused is no job"
    assert sum(azureml_emulator.uploads[name] for name in azureml_emulator.uploads if "cut-upload" in name) == 1


@pytest.fixture
def ask(azureml_emulator):
    """Asks through the proxy with a token from the login."""
    session = requests.Session()
    session.trust_env = False
    network = azureml_emulator.network()
    session.proxies = {"https": network["HTTPS_PROXY"], "http": network["HTTP_PROXY"]}
    session.verify = network["REQUESTS_CA_BUNDLE"]

    def log_in(scope="https://management.azure.com/.default", **changed):
        form = {"client_id": CLIENT, "client_secret": azureml_emulator.identities.client_secret, "scope": scope}
        url = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
        answer = session.post(url, data={**form, **changed})
        session.headers["Authorization"] = f"Bearer {answer.json().get('access_token')}"
        return answer

    session.log_in = log_in
    with session:
        yield session


@pytest.mark.engine
def test_a_token_is_good_for_its_resource_and_its_time(azureml_emulator, ask, monkeypatch):
    url = f"https://management.azure.com{WORKSPACE_ID}"
    assert ask.get(url).status_code == 401
    assert ask.log_in(client_secret="no").status_code == 401
    ask.log_in()
    assert ask.get(url.replace("resourceGroups", "resourcegroups")).status_code == 200
    azureml_emulator.identities.expire()
    assert ask.get(url).json()["error"]["code"] == "ExpiredAuthenticationToken"
    ask.log_in()
    assert ask.get(url).status_code == 200
    ask.log_in("https://storage.azure.com/.default")
    assert ask.get(url).json()["error"]["code"] == "InvalidAuthenticationToken"
    monkeypatch.setattr(azureml_emulator.identities, "token_seconds", -1)
    ask.log_in()
    assert ask.get(url).json()["error"]["code"] == "ExpiredAuthenticationToken"


@pytest.mark.engine
def test_other_hosts_and_routes_are_refused_and_told(azureml_emulator, ask):
    for url in ("https://example.com/", "https://no.vault.azure.net/"):
        with pytest.raises(requests.exceptions.ProxyError):
            ask.get(url)
    assert ask.get("http://169.254.169.254/metadata").status_code == 403
    assert ask.get("http://example.com/").status_code == 403
    assert ask.get("http://management.azure.com/").status_code == 403
    assert ask.get(f"https://management.azure.com{WORKSPACE_ID}/pipelines").status_code == 404

    assert azureml_emulator.refused == ["example.com:443", "http://example.com/", "http://management.azure.com/"]
    assert azureml_emulator.unknown == [f"GET https://management.azure.com{WORKSPACE_ID}/pipelines"]
    azureml_emulator.refused.clear()
    azureml_emulator.unknown.clear()

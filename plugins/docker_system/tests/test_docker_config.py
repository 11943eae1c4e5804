"""Options of the system: which go together, and what becomes of them. No engine is needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from hfopt_docker_system.config import DockerConfig
from hfopt_docker_system.container import is_orphan, options, owner


def config(**local):
    return DockerConfig.model_validate_json(json.dumps({"local_docker_config": local}))


@pytest.mark.parametrize(
    "written, told",
    [
        ({"local_docker_config": {"dockerfile": "Dockerfile"}}, "needs build_context_path"),
        ({"local_docker_config": {"build_context_path": "."}}, "needs image_name"),
        (
            {"local_docker_config": {"image_name": "a", "build_context_path": "/", "dockerfile": "B"}},
            "no such file: /B",
        ),
        ({"local_docker_config": {"image_name": "a"}, "base_image": "b"}, "but image_name is a"),
        ({"local_docker_config": {"run_params": {"volumes": ["data:/data"]}}}, "'data:/data' is not HOST:CONTAINER"),
        ({"local_docker_config": {"run_params": {"privileged": True}}}, "privileged"),
    ],
)
def test_options_that_do_not_go_together_are_told(written, told):
    with pytest.raises(ValidationError, match=told):
        DockerConfig.model_validate_json(json.dumps(written))


def test_a_container_gets_no_more_than_it_needs():
    made = options(DockerConfig(), [], {Path("/in"): (Path("/in"), False), Path("/out"): (Path("/own"), True)}, {})

    assert made["user"] == f"{os.getuid()}:{os.getgid()}"
    assert (made["network_mode"], made["read_only"], made["cap_drop"]) == ("none", True, ["ALL"])
    assert made["security_opt"] == ["no-new-privileges"]
    assert [(each["Source"], each["Target"], each["ReadOnly"]) for each in made["mounts"]] == [
        ("/in", "/in", True),
        ("/own", "/out", False),
    ]


def test_the_root_of_an_engine_without_root_is_the_caller():
    made = options(DockerConfig(), ["name=seccomp,profile=default", "name=rootless"], {}, {})

    assert made["user"] is None


def test_limits_reach_the_engine_and_memory_has_no_swap_beside_it():
    made = options(config(run_params={"mem_limit": "4g", "cpuset_cpus": "0-3", "devices": ["/dev/x"]}), [], {}, {})

    assert (made["mem_limit"], made["memswap_limit"], made["cpuset_cpus"]) == ("4g", "4g", "0-3")
    assert made["devices"] == ["/dev/x"]
    assert made["pids_limit"] == 4096


def test_folders_of_the_users_can_be_read_and_written_only_where_that_is_said():
    made = options(config(run_params={"volumes": ["/a:/b", "/c:/d:rw"]}), [], {}, {})

    assert [(each["Source"], each["Target"], each["ReadOnly"]) for each in made["mounts"]] == [
        ("/a", "/b", True),
        ("/c", "/d", False),
    ]


def test_a_gpu_is_asked_for_where_an_accelerator_is_one():
    made = options(DockerConfig.model_validate_json('{"accelerators": [{"device": "gpu"}]}'), [], {}, {})

    assert made["device_requests"][0]["Capabilities"] == [["gpu"]]


def test_the_owner_of_a_container_is_told_from_an_earlier_process_of_its_number():
    machine, pid, started = owner().rsplit(" ", 2)

    assert not is_orphan(owner())
    assert is_orphan(f"{machine} {pid} {int(started) - 100}")
    assert is_orphan(f"{machine} {2**22 + 1} {started}")
    assert not is_orphan(f"another-machine pid:[1] {pid} 0")

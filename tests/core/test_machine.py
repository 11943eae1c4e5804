"""How many CPUs a process may use: affinity, and quotas of its cgroups, real and laid out in a folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hfopt.measuring.machine import describe, usable_cpus, used_by_others


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Lays out cgroup files and asks, on a machine of 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def ask(own, **files):
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "own").write_text(own)
        return usable_cpus(tmp_path / "cgroup", tmp_path / "own")

    return ask


def test_a_process_confined_to_one_cpu_counts_one():
    confined = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); " + (
        "from hfopt.measuring.machine import usable_cpus; print(usable_cpus())"
    )

    assert subprocess.check_output([sys.executable, "-c", confined], text=True) == "1\n"


def test_what_is_counted_is_in_the_key_of_a_timing():
    assert describe()["threads"] == usable_cpus() >= 1


def test_without_cgroups_the_affinity_counts(cgroups, tmp_path):
    assert cgroups("") == 64
    assert usable_cpus(tmp_path / "nowhere", tmp_path / "nothing") == 64


def test_a_quota_of_version_2_counts_a_part_of_a_cpu_as_one(cgroups):
    assert cgroups("0::/\n", **{"cpu.max": "150000 100000\n"}) == 2
    assert cgroups("0::/\n", **{"cpu.max": "20000 100000\n"}) == 1
    assert cgroups("0::/\n", **{"cpu.max": "max 100000\n"}) == 64


def test_the_lowest_quota_of_the_own_cgroup_and_those_above_it_counts(cgroups):
    own = "0::/system.slice/run-1.scope\n"

    assert cgroups(own, **{"system.slice/run-1.scope/cpu.max": "400000 100000"}) == 4
    assert cgroups(own, **{"system.slice/cpu.max": "300000 100000"}) == 3
    assert cgroups(own, **{"other.slice/cpu.max": "100000 100000"}) == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1_counts(cgroups, mount):
    own = "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n"
    folder = f"{mount}/docker/1"

    assert cgroups(own, **{f"{folder}/cpu.cfs_quota_us": "-1", f"{folder}/cpu.cfs_period_us": "100000"}) == 64
    assert cgroups(own, **{f"{folder}/cpu.cfs_quota_us": "250000"}) == 3


def test_a_container_that_sees_its_hosts_cgroup_names_finds_its_quota_at_the_root(cgroups):
    own = "4:cpu:/docker/0123\n0::/../outside\n"

    assert cgroups(own, **{"cpu/cpu.cfs_quota_us": "500000", "cpu/cpu.cfs_period_us": "100000"}) == 5


def test_on_a_machine_with_both_versions_the_unified_mount_is_read(cgroups):
    assert cgroups("0::/user.slice\n", **{"unified/user.slice/cpu.max": "600000 100000"}) == 6


def test_unreadable_quotas_are_no_quotas(cgroups):
    assert cgroups("0::/\n", **{"cpu.max": "", "cpu/cpu.cfs_quota_us": "5", "cpu/cpu.cfs_period_us": "0"}) == 64


def test_what_others_use_is_all_on_the_cpus_that_may_be_used_but_the_own_processes():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) as process:
        before = used_by_others([])
        process.stdout.readline()

        assert used_by_others([]) - used_by_others([process.pid]) >= 0.25
        assert used_by_others([]) > before

        process.kill()
    assert used_by_others([process.pid]) is None

"""What a managed environment holds, and when one that is there does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import pytest

from hfopt import UsageError
from hfopt_python_environment import interpreters, orders, requirements, sources
from hfopt_python_environment.orders import Order


@pytest.fixture
def order():
    return Order(interpreters.this(), "pip", needed=("numpy>=2.1",))


def test_what_the_core_and_a_plugin_require_is_what_their_metadata_say():
    of_core = {each.name.lower() for each in requirements.of_core()}

    assert of_core == {re.match(r"[\w-]+", line)[0].lower() for line in metadata.requires("hfopt")}
    assert {"onnx", "onnxruntime"} <= {each.name for each in requirements.third_party(["hfopt-onnx-conversion"])}
    assert all(not each.name.startswith("hfopt") for each in requirements.third_party(["hfopt-onnx-conversion"]))


def test_a_package_of_another_extra_takes_the_place_of_what_is_installed_here():
    found = requirements.third_party(["hfopt-onnx-model"], frozenset({"onnxruntime-gpu"}))

    assert {each.name for each in found if each.name.startswith("onnxruntime")} == {"onnxruntime-gpu"}


def test_the_same_is_one_environment_and_anything_else_another(order, tmp_path):
    listed, lock = tmp_path / "requirements.txt", tmp_path / "lock.txt"
    listed.write_text("onnx\n")
    lock.write_text("numpy==2.1.0\n")
    others = [
        order,
        replace(order, installer="uv"),
        replace(order, needed=("numpy>=2.2",)),
        replace(order, asked=("onnx",)),
        replace(order, file=listed),
        replace(order, lock=lock),
        replace(order, base=replace(order.base, version=(3, 99, 0))),
    ]

    keys = [each.key for each in others]

    assert len({*keys}) == len(keys)
    assert replace(order).key == order.key


def test_a_file_counts_by_what_it_asks_for_and_so_do_those_that_it_names(order, tmp_path):
    listed, other = tmp_path / "requirements.txt", tmp_path / "other.txt"
    listed.write_text("-r other.txt\n")
    other.write_text("onnx\n")
    before = replace(order, file=listed).key
    other.write_text("# a comment\nonnx  # another\n\n")
    assert replace(order, file=listed).key == before

    other.write_text("onnx>=1.17\n")

    assert replace(order, file=listed).key != before


def test_a_wheel_that_is_named_by_its_path_counts_by_its_content(order, tmp_path):
    wheel = tmp_path / "own-1.0-py3-none-any.whl"
    wheel.write_bytes(b"one")
    asked = replace(order, asked=(f"own @ {wheel.as_uri()}",))
    listed = tmp_path / "requirements.txt"
    listed.write_text(f"./{wheel.name}\n")
    before = asked.key, replace(order, file=listed).key

    wheel.write_bytes(b"two")

    assert asked.key != before[0]
    assert replace(order, file=listed).key != before[1]


def test_a_lock_with_many_hashes_is_read(order, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==2.1.0 \\\n" + " \\\n".join(f"    --hash=sha256:{number:064}" for number in range(90)))

    assert replace(order, lock=lock).key != order.key


def test_a_folder_is_refused(order, tmp_path):
    with pytest.raises(UsageError, match="a folder may change afterwards"):
        _ = replace(order, asked=(f"own @ {tmp_path.as_uri()}",)).key


def test_settings_count_without_user_and_password(order, monkeypatch):
    keys = []
    for url in ("https://a:b@example.org/simple", "https://c:d@example.org/simple", "https://example.com/simple"):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        keys.append(order.key)

    assert keys[0] == keys[1] != keys[2]


def test_settings_of_pip_are_those_that_pip_tells(monkeypatch, tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nfind-links = /a /b\nindex-url = https://example.org/1\n[install]\nconstraint = c.txt\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org/2")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    found = sources.of_pip()

    assert (found["find-links"], found["index-url"]) == (["/a", "/b"], ["https://example.org/2"])
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    told = dict(re.findall(r"(?:global|install|:env:)\.([\w-]+)='(.*)'", listed.stdout))
    assert " ".join(found["constraint"]) == told["constraint"] == "c.txt"


def test_versions_here_are_preferred_unless_others_are_asked_for(order):
    here = {"numpy": "2.2.0", "onnx": "1.19.0", "torch": "2.13.0+cpu"}

    preferred = replace(order, asked=("onnx<1.19", "torch>=2.13")).preferred(here)

    assert preferred == {"numpy": "2.2.0", "torch": "2.13.0+cpu"}


def test_names_are_read_from_a_requirements_file(tmp_path):
    listed = tmp_path / "requirements.txt"
    listed.write_text("--find-links /wheels\nOnnxRuntime_GPU>=1.20 \\\n  --hash=sha256:00\n./own.whl\nnumpy # all\n")

    assert orders.named(["onnx"], listed) == {"onnx", "onnxruntime-gpu", "numpy"}

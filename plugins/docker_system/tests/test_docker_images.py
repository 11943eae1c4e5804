"""Images: one that is there, one that a Dockerfile makes, hfopt's own, and one that is nowhere."""

from __future__ import annotations

import io
import tarfile

import pytest

from hfopt import HfoptError
from hfopt.api.systems import SystemContext
from hfopt_docker_system import image
from hfopt_docker_system.config import DockerConfig

pytestmark = pytest.mark.engine


class Builds:
    """Makes images ready, and keeps what was said meanwhile."""

    def __init__(self, engine, folder):
        self.engine, self.log = engine, folder / "hfopt.log"
        self.context = SystemContext(store=folder, log=self.log, bundle=lambda: folder, take_in=lambda made: None)
        self.said, self.made = [], []

    def ready(self, **config):
        self.said.clear()
        name = image.ready(self.engine, DockerConfig(**config), self.context, lambda *told: self.said.append(told))
        self.made.append(name)
        return name

    def printed_by(self, name, *command):
        return self.engine.containers.run(name, list(command), network_mode="none", remove=True).decode().strip()


@pytest.fixture
def builds(engine, tmp_path):
    builds = Builds(engine, tmp_path)
    yield builds
    for name in {*builds.made}:
        engine.images.remove(name, force=True)


@pytest.fixture
def alone(monkeypatch, python_image):
    """Options of hfopt's own image without requirements: there is no registry."""
    monkeypatch.setattr(image, "requirements", lambda *_: [])
    return {"base_image": python_image}


def test_hfopts_own_image_is_built_once(builds, alone):
    name = builds.ready(**alone)

    assert [(done, total) for _, done, total in builds.said] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert builds.said[2][0].startswith(f"building {name}: RUN python3 -m pip install --no-cache-dir")
    assert builds.printed_by(name, "python3", "-c", "print(6 * 7)") == "42"
    assert builds.ready(**alone) == name
    assert builds.said == []


def test_a_build_that_fails_is_a_sentence_and_its_output_is_in_the_log(builds, alone, tmp_path):
    (tmp_path / "more.txt").write_text("/nowhere/at-all-1.0-py3-none-any.whl\n")

    with pytest.raises(HfoptError, match=r"image hfopt:\w+ could not be built: The command '.*pip install") as caught:
        builds.ready(**alone, requirements_file=str(tmp_path / "more.txt"))

    assert caught.value.hint == f"what the build printed is in {builds.log}"
    assert "No such file or directory: '/nowhere/at-all-1.0-py3-none-any.whl'" in builds.log.read_text()


def test_an_image_is_built_from_a_dockerfile_as_it_is_now(builds, python_image, tmp_path):
    (tmp_path / "box").mkdir()
    local = {"image_name": "hfopt-test-built", "build_context_path": str(tmp_path / "box"), "dockerfile": "Box"}
    local["build_args"] = {"WHO": "you"}
    for greeting in ("hello", "goodbye"):
        (tmp_path / "box" / "Box").write_text(f"FROM {python_image}\nARG WHO\nENV SAID='{greeting} '$WHO\n")

        name = builds.ready(local_docker_config=local)

        assert builds.printed_by(name, "python3", "-c", "import os; print(os.environ['SAID'])") == f"{greeting} you"


def test_an_image_that_is_nowhere_is_a_sentence(builds):
    with pytest.raises(
        HfoptError, match="image localhost:1/nothing is neither on this machine nor to be had from its reg"
    ):
        builds.ready(local_docker_config={"image_name": "localhost:1/nothing"})


def test_an_image_without_python_is_a_sentence(project, engine):
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w").close()
    engine.api.import_image_from_data(packed.getvalue(), "hfopt-test-empty", "latest")
    project.local["image_name"] = "hfopt-test-empty"
    project.do("nothing")

    done = project.run()

    engine.images.remove("hfopt-test-empty")
    assert done.returncode == 3
    assert "the worker ended with exit code 127: [FATAL tini (" in done.stderr
    assert "exec python3 failed: No such file or directory" in done.stderr
    assert "hint: the image must have Python 3.11 or newer" in done.stderr

"""What keeps an engine from answering is a sentence each. No engine is needed."""

from __future__ import annotations

import os
import socket

import pytest

from hfopt import PluginError
from hfopt_docker_system import engine


@pytest.fixture
def listening(tmp_path):
    """A socket on which nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        yield listener, tmp_path / "sock"


def refusal(monkeypatch, address):
    monkeypatch.setenv("DOCKER_HOST", str(address))
    with pytest.raises(PluginError) as caught:
        engine.connect()
    assert caught.value.message.startswith("the Docker engine could not be asked")
    return caught.value.message.partition(": ")[2], caught.value.hint


def test_no_engine_is_a_sentence_that_says_how_to_get_one(monkeypatch):
    told, hint = refusal(monkeypatch, "unix:///nowhere.sock")

    assert told == "none listens at unix:///nowhere.sock"
    assert hint.startswith("install Docker or Podman, then start it: systemctl start docker")


def test_an_engine_that_has_ended_is_a_sentence(monkeypatch, listening):
    listener, place = listening
    listener.close()

    told, hint = refusal(monkeypatch, f"unix://{place}")

    assert told == f"it does not run, but has left unix://{place}"
    assert hint.startswith("start it: ")


def test_an_engine_that_hangs_is_a_sentence_in_time(monkeypatch, listening):
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 1)

    told, hint = refusal(monkeypatch, f"unix://{listening[1]}")

    assert told == f"no answer in time from unix://{listening[1]}"
    assert hint == "see its log, or restart it"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_engine_of_others_is_a_sentence(monkeypatch, listening):
    _, place = listening
    place.chmod(0o600)
    os.seteuid(65534)
    try:
        told, hint = refusal(monkeypatch, f"unix://{place}")
    finally:
        os.seteuid(0)

    assert told == f"this user may not use unix://{place}"
    assert "join the group docker" in hint


def test_an_address_that_is_none_is_a_sentence(monkeypatch):
    told, hint = refusal(monkeypatch, "carrier://pigeon")

    assert told.startswith("Invalid bind address protocol: carrier://pigeon")
    assert hint == "see DOCKER_HOST, and whether `docker info` answers"


def test_without_docker_host_the_sockets_that_are_there_are_asked_in_order(monkeypatch, tmp_path):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman" / "podman.sock").touch()

    assert f"unix://{tmp_path}/podman/podman.sock" in engine.sockets()

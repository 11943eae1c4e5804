"""What a person sees while a run goes: bars on a terminal, lines and reminders elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import threading

import pytest

import hfopt
from hfopt.cli.terminal import Terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_a_terminal(project, *arguments, columns=100, **environment):
    """Run with stderr on a terminal.

    :return: the exit code, stdout, and what the terminal got
    """
    project.write()
    ours, theirs = os.openpty()
    seen = []

    def read():
        while True:
            try:
                seen.append(os.read(ours, 65536))
            except OSError:  # Linux says so at the end
                return

    reader = threading.Thread(target=read)
    reader.start()
    process = subprocess.Popen(
        project.command("run", "config.json", *arguments), cwd=project.folder, stdout=subprocess.PIPE, stderr=theirs,
        env={**project.environment, "TERM": "xterm", "COLUMNS": str(columns), **environment},
    )  # fmt: skip
    os.close(theirs)
    stdout, _ = process.communicate()
    reader.join()
    os.close(ours)
    return process.returncode, stdout.decode(), b"".join(seen).decode()


def test_a_reader_that_has_read_enough_ends_a_command_without_a_word(project):
    ours, theirs = os.pipe()
    os.close(ours)

    done = subprocess.run(project.command("plugins"), stdout=theirs, stderr=subprocess.PIPE, env=project.environment)

    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


def slowly(project):
    project.config["passes"]["first"]["config"]["seconds"] = 1.0


def test_on_a_terminal_a_step_of_known_length_has_a_bar_and_stdout_gets_data_alone(project):
    slowly(project)

    code, stdout, seen = on_a_terminal(project, "--json", NO_COLOR="1")

    assert (code, stdout[:2]) == (0, "{\n")
    plain = ESCAPE.sub("", seen)
    assert re.search(r"  first +\d+\.\d s  scaling [1-4]/5 ━+", plain)  # it may have waited before
    assert "reading the config and its inputs" in plain
    assert "starting a worker" in plain
    assert re.search(r"  first +[1-9]\.\d s  Scale\r\n", plain)
    assert "\x1b[3" not in seen  # no color
    assert seen.endswith("\x1b[?25h") or "\x1b[?25h" in seen.rpartition("\x1b[?25l")[2]  # the cursor is back


def test_a_narrow_terminal_gets_no_bar_and_no_line_that_is_too_long(project):
    slowly(project)

    code, _, seen = on_a_terminal(project, columns=40, NO_COLOR="1")

    live = [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", seen)) if "scal" in line and "Scale" not in line]
    assert code == 0
    assert live
    assert all(len(line) <= 40 and "━" not in line for line in live)


def test_a_dumb_terminal_gets_plain_lines(project):
    code, _, seen = on_a_terminal(project, TERM="dumb")

    assert code == 0
    assert "\x1b" not in seen
    assert re.search(r"  first +0\.\d s  Scale\r\n", seen)


def test_where_there_are_no_bars_what_takes_long_is_told_from_time_to_time(project, capsys, monkeypatch):
    slowly(project)
    monkeypatch.chdir(project.folder)

    with Terminal(every=0.25) as terminal:
        hfopt.run(project.config, plugin_files=[project.plugin], reporter=terminal)

    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"  first +scaling [1-4]/5, \d s so far", line) for line in lines), lines
    assert sum("so far" in line for line in lines) <= 30


@pytest.mark.parametrize("runs", [1, 2])
def test_a_steps_warning_is_a_note_also_when_it_comes_from_the_cache(project, misbehave, runs):
    for _ in range(runs):
        done = misbehave("warn")

    assert "note: bad: nothing was bent\n" in done.stderr


def test_what_a_step_did_is_beside_it_and_python_that_does_the_same_beneath_when_it_is_new(project, misbehave):
    first, second = misbehave("tell"), misbehave("tell")

    assert re.search(
        r"  bad +0\.\d s  Misbehave: bent twice\n        import bend\n\n        bend.twice\(\)\n", first.stderr
    )
    assert re.search(r"  bad +in the cache  Misbehave: bent twice\n", second.stderr)
    assert "import bend" not in second.stderr


def searching(project, trials=6):
    slopes = [round(0.5 * number, 1) for number in range(1, trials + 1)]
    project.config["passes"] = {"scale": {"type": "Scale", "config": {"factor": {"search": slopes}, "seconds": 0.3}}}
    project.config["engine"]["search_strategy"] = True


def test_on_a_terminal_a_search_has_a_line_of_its_own(project):
    searching(project)

    code, _, seen = on_a_terminal(project, columns=180, NO_COLOR="1")

    plain = ESCAPE.sub("", seen)
    assert code == 0
    left, best = r"about \d+\.\d s left", r"best accuracy-accuracy [\d.]+ %, [1-3] on the Pareto front"
    assert re.search(rf"  search +\d+\.\d s  [2-5]/6 trials, {left}, {best}", plain)
    assert "trial 6: " in plain


def test_where_there_is_no_terminal_a_search_is_told_of_from_time_to_time(project, capsys, monkeypatch):
    searching(project)
    monkeypatch.chdir(project.folder)

    with Terminal(every=0.25) as terminal:
        hfopt.run(project.config, plugin_files=[project.plugin], reporter=terminal)

    lines = capsys.readouterr().err.splitlines()
    told = r"  search +[2-5]/6 trials, about .* left, best .* on the Pareto front, \d+ s so far"
    assert any(re.fullmatch(told, line) for line in lines), lines

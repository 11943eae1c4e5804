"""A plugin reads configs as another tool writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfopt import ConfigError
from hfopt.config.document import read
from hfopt.config.resolve import resolve
from hfopt.discovery.plugins import Plugins

TOY = Path(__file__).with_name("toy.py")
SHOUTING = """
from hfopt import Component, Problem, hookimpl
from hfopt.api.dialects import Dialect, Translation

@hookimpl
def hfopt_config_dialects():
    return [Component("shouting", f"{__name__}:Shouting", "MODEL and FASTER"), Component("none", f"{__name__}:x", "")]

class Shouting(Dialect):
    @staticmethod
    def translate(config):
        if "MODEL" not in config:
            return Translation(config)
        kept = {key: value for key, value in config.items() if key not in ("MODEL", "FASTER", "WHERE")}
        kept["input_model"] = {"type": "Line", "config": {"model_path": config["MODEL"]}}
        kept["engine"] = {"host": "WHERE"}
        problems = [Problem(("FASTER",), "nothing is fast enough")] if config.get("FASTER") else []
        return Translation(kept, {"systems": {("WHERE",): config["WHERE"]}}, (), problems, ["no need to shout"])

    @staticmethod
    def unavailable(hook, name):
        return "LOUDER" if hook == "hfopt_passes" and name.casefold() == "louder" else None
"""


@pytest.fixture
def plugins(tmp_path):
    file = tmp_path / "shouting.py"
    file.write_text(SHOUTING)
    return Plugins.discover([TOY, file])


@pytest.fixture
def shouted(tmp_path):
    model = tmp_path / "line.json"
    model.write_text('{"slope": 0.5}')
    where = {"type": "LocalSystem"}
    return {"MODEL": str(model), "WHERE": where, "passes": {"scale": {"type": "Scale", "config": {"factor": 2.0}}}}


def test_a_config_in_another_tools_words_is_read_as_one_in_hfopts(shouted, plugins):
    config = resolve(read(shouted), plugins)

    assert config.input_model.config.model_path == shouted["MODEL"]
    assert config.host == "WHERE"
    assert config.systems["WHERE"].registered.component.name == "LocalSystem"
    assert config.notices == ("no need to shout",)


def test_a_mistake_in_what_was_translated_is_told_where_the_user_wrote_it(shouted, plugins):
    shouted["WHERE"] = {"type": "LocalSystem", "config": {"acelerators": []}}

    with pytest.raises(ConfigError, match=r"^WHERE\.config\.acelerators: unknown key"):
        resolve(read(shouted), plugins)


def test_what_a_dialect_can_not_say_in_hfopts_words_is_a_mistake_among_the_others(shouted, plugins):
    shouted["FASTER"] = True
    shouted["passes"]["louder"] = {"type": "Louder"}

    with pytest.raises(ConfigError) as raised:
        resolve(read(shouted), plugins)

    assert str(raised.value).splitlines() == [
        "FASTER: nothing is fast enough",
        "passes.louder.type: pass 'LOUDER' is not available in this version",
    ]


def test_a_dialect_that_can_not_be_loaded_leaves_configs_to_the_others(shouted, plugins):
    broken = [each for each in plugins.of_kind("hfopt_config_dialects") if each.problem()]

    assert [each.component.name for each in broken] == ["none"]
    assert resolve(read(shouted), plugins).host == "WHERE"

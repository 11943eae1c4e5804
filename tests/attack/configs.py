"""Configs, by hand (strange values at places of every kind, in every format) and mutated, for `hfopt validate`.

hfopt is imported and its plugins are found once: an attempt is a fork of this process, with limits of its own. One
mutation in a hundred runs the command itself.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
import test_config_fuzz
from test_config_fuzz import places
from world import Attempt, Ended, broken, hfopt, raised, resident

from hfopt.base.errors import HfoptError
from hfopt.cli.main import main
from hfopt.discovery.plugins import Plugins
from hfopt.planning.builder import validate

TITLE = "configs, mutated and by hand"
LEAST = 2_400
SHARE = 5

MUTATED = 6_000
CPU_SECONDS, MEBIBYTES, WALL_SECONDS = 2, 200, 60
OWN_MEBIBYTES = 80
"""Of `hfopt validate` before it reads the config: what this process has more than that is not an attempt's."""
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")

CONFIG = test_config_fuzz.CONFIG | {
    "engine": test_config_fuzz.CONFIG["engine"] | {"cache_dir": "cache", "output_name": "o"},
}
"""To it, `full_config` adds every installed component with all of its options."""

SPECIAL: dict[str, Any] = {
    "null": None,
    "true": True,
    "empty text": "",
    "empty list": [],
    "empty object": {},
    "minus one": -1,
    "2**64": 2**64,
    "-10**300": -(10**300),
    "1e308": 1e308,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "the text nan": "nan",
    "the text inf": "-Infinity",
    "the text 1e999": "1e999",
    "4,000 digits in text": "1" * 4_000,
    "NUL": "a\x00b",
    "surrogate": "a\ud800b",
    "escape": "\x1b[31mred",
    "right to left": "a\u202eb",
    "newlines": "a\nhfopt: done\n",
    "long name": "a" * 300,
    "long path": "a/" * 3_000,
    "long text": "x" * 200_000,
    "up": "../../../../etc/passwd",
    "device": "/dev/zero",
    "pipe": "pipe",
    "loop": "loop",
    "dangling": "dangling",
    "template": "{value!r} {0} %s %(a)s",
    "many texts": ["x"] * 15_000,
    "60,000 elements": [0] * 60_000,
    "many keys": {f"k{number}": number for number in range(15_000)},
    "60,000 keys": {f"k{number}": number for number in range(60_000)},
    "many objects": [{"name": f"n{number}", "type": "x"} for number in range(5_000)],
    "300 objects": {f"p{number}": {"type": f"Onnx{number}"} for number in range(300)},
    "deep": eval("[" * 45 + "]" * 45),
    "resource": {"type": "folder", "config": {"path": "rows.csv"}},
    "strange key": {"\ud800\x00": 1},
    "long key": {"k" * 50_000: 1},
}


def full_config() -> dict[str, Any]:
    """The config with every installed pass and all of its options at their defaults, so that each is mutated."""
    config = copy.deepcopy(CONFIG)
    for registered in Plugins.discover().of_kind("hfopt_passes"):
        fields = registered.load().Config.model_fields.items()
        options = {each.alias or name: each.get_default(call_default_factory=True) for name, each in fields}
        written = {name: json.loads(json.dumps(value, default=lambda _: None)) for name, value in options.items()}
        config["passes"][registered.component.name] = {"type": registered.component.name, "config": written}
    config["pass_flows"] = [list(config["passes"])]
    return config


def put(config: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a config with another value at a place."""
    if not path:
        return value
    inner = copy.copy(config)
    inner[path[0]] = put(config[path[0]], path[1:], value)
    return inner


def rendered(value: Any, kind: str) -> bytes:
    """A value in a format; what a format can't express is left to JSON."""
    if kind == "toml" and isinstance(value, dict):
        return "".join(f"{json.dumps(key)} = {_toml(each)}\n" for key, each in value.items()).encode("utf-8", "replace")
    if kind == "yaml":
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        try:
            return yaml.dump(value, Dumper=dumper, allow_unicode=True, sort_keys=False).encode()
        except UnicodeEncodeError:
            return json.dumps(value).encode()
    return json.dumps(value, indent=1).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value).replace("e+", "e")
    return '"null"' if value is None else json.dumps(value)


BOMB = "\n".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 12))
MERGES = "\n".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}], k{n}: 1}}" for n in range(1, 30))

TAGS = """!!bool abc|!!int ''|!!int 1:1|!!float x|!!null x|!!timestamp abc|!!binary '*'|!!python/object:os.system {}
!!python/name:os.system|!!set {a, b}|!!omap [a: 1]|!!pairs [a]|!x 1|!<tag:x> 1|! 1|!!str 1|!!map [1]|!!seq {a: 1}
!!merge <<|!!value =""".replace("\n", "|").split("|")

TEXTS: dict[str, str | bytes] = {
    "bomb.yaml": f"b0: &b0 [x]\n{BOMB}\n",
    "merges.yaml": f"m0: &m0 {{a: 1}}\n{MERGES}\n",
    "many-merges.yaml": "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(5_000))
    + "}\nb: {<<: ["
    + "*a," * 90_000
    + "]}",
    "long-aliases.yaml": f"a: &a {'x' * 300_000}\nb: [" + "*a," * 15_000 + "]",
    "itself.yaml": "a: &a [*a]\n",
    "itself-merged.yaml": "a: &a {<<: *a}\n",
    "no-anchor.yaml": "a: *b\n",
    "complex.yaml": "? [a, b]\n: c\n",
    "alias-key.yaml": "a: &a b\n*a : c\n",
    "keys.yaml": "1: x\ntrue: x\nnull: x\n2020-01-01: y\n",
    "date.yaml": "data_root: 2020-01-01\n",
    "documents.yaml": "a: 1\n---\nb: 2\n",
    "directives.yaml": "".join(f"%TAG !a{n}! tag:x\n" for n in range(20_000)) + "---\na: 1\n",
    "empty.yaml": "",
    "comment.yaml": "# nothing\n",
    "sexagesimal.yaml": "a: 1" + ":59" * 100_000,
    "bits.yaml": "a: 0b_\nb: 0x_\nc: -0\nd: 0o_\n",
    "tabs.yaml": "a:\n\tb: 1\n",
    "flows.yaml": "[" * 400_000,
    "blocks.yaml": "- " * 240_000,
    "questions.yaml": "? " * 240_000,
    "nul.yaml": b"a: b\x00c\n",
    "latin.json": b'{"a": "\xe9"}',
    "utf-16.json": '{"a": 1}'.encode("utf-16"),
    "empty.json": "",
    "list.json": "[1]",
    "null.json": "null",
    "deep.json": "[" * 400_000,
    "deep-closed.json": "[" * 900 + "]" * 900,
    "objects.json": '{"a":' * 90_000,
    "comments.json": "/*" * 240_000,
    "slashes.json": "/" * 480_000,
    "stars.json": "/*" + "*" * 480_000,
    "escapes.json": '"' + '\\"' * 240_000,
    "quotes.json": '"' * 480_000,
    "quote-lines.json": '"\n' * 240_000,
    "commas.json": "[1" + "," * 480_000,
    "comma-spaces.json": "[1" + ", " * 240_000,
    "spaces.json": "," + " " * 480_000,
    "keys.json": "{" + ",".join(f'"k{n}": 1' for n in range(19_000)) + "}",
    "same-keys.json": "{" + ",".join(['"k": 1'] * 60_000) + "}",
    "nan.json": '{"a": NaN, "b": -Infinity}',
    "huge.json": '{"a": ' + "1" * 5_000 + "}",
    "huge-float.json": '{"a": 1e999}',
    "huge-fraction.json": '{"a": 0.' + "1" * 5_000 + "}",
    "digits.json": "[" + ",".join(["1" * 999] * 480) + "]",
    "huge.toml": "a = " + "1" * 5_000,
    "huge.yaml": "a: " + "1" * 5_000,
    "dates.toml": "a = 2020-01-01\nb = 2020-01-01T00:00:00Z\nc = 10:00:00\nd = 2020-13-01\n",
    "inf.toml": "a = inf\nb = -nan\nc = 1e999\n",
    "dots.toml": "a." * 200_000 + "b = 1",
    "dots-often.toml": "\n".join("a." * 45 + f"b{n} = 1" for n in range(4_500)),
    "header.toml": "[" + "a." * 200_000 + "b]",
    "quoted-dots.toml": '"a".' * 100_000 + "b = 1",
    "deep.toml": "a = " + "[" * 400_000,
    "inline.toml": "a = " + "{a = " * 90_000,
    "elements.toml": "a = [" + "1," * 240_000 + "]",
    "tables.toml": "[[a]]\n" * 80_000,
    "headers.toml": "".join(f"[k{n}]\n" for n in range(50_000)),
    "names.toml": "\n".join("a" * 5_000 for _ in range(90)),
    "large.json": b"[" + b"1," * 5_000_000 + b"1]",
    "large.yaml": b"a: 1\n" * 2_000_000,
    "large.toml": b"a = 1\n" * 1_700_000,
    **{f"tag-{number}.yaml": f"a: {tag}\n" for number, tag in enumerate(TAGS)},
    **{
        f"mistakes.{kind}": rendered({"passes": {f"p{n}": {"tpe": n} for n in range(300)}}, kind)
        for kind in ("json", "yaml", "toml")
    },
    **{
        f"near-{n}.json": json.dumps(CONFIG | {"pass_flows": None, "passes": {"p": {"type": "x" * n}}})
        for n in (10, 1_000, 400_000)
    },
    "systems.json": json.dumps(
        CONFIG | {"engine": {}, "systems": {f"s{n}": {"type": "AzureML"} for n in range(6_000)}}
    ),
    "flow-names.json": json.dumps(CONFIG | {"pass_flows": [[f"p{n}" for n in range(15_000)]]}),
    "passes.json": json.dumps(
        CONFIG | {"pass_flows": None, "passes": {f"p{n}": {"type": "OnnxConversion"} for n in range(6_000)}}
    ),
    "containers.json": json.dumps(
        CONFIG
        | {"data_configs": [CONFIG["data_configs"][0] | {"name": f"d{n}"} for n in range(300)], "evaluators": {}}
        | {"passes": {f"p{n}": {"type": "OnnxConversion"} for n in range(300)}, "pass_flows": None, "engine": {}}
    ),
    "metrics.json": json.dumps(
        CONFIG | {"evaluators": {"e": {"metrics": [{"name": f"m{n}", "type": "size"} for n in range(5_000)]}}}
    ),
    "data.json": json.dumps(
        CONFIG
        | {"data_configs": [{"name": f"d{n}", "type": "HuggingfaceContainer"} for n in range(4_000)]}
        | {
            "evaluators": {
                "e": {"metrics": [{"name": "m", "type": "latency", "data_config": f"x{n}"} for n in range(900)]}
            }
        }
    ),
    "unknown-keys.json": json.dumps({f"passs{n}": n for n in range(18_000)}),
}
"""Whole files, by name."""

NO_FILES: dict[str, Callable[[Path], object]] = {
    "folder.json": lambda path: path.mkdir(),
    "pipe.yaml": os.mkfifo,
    "zero.json": lambda path: path.symlink_to("/dev/zero"),
    "tty.toml": lambda path: path.symlink_to("/dev/tty"),
    "loop.json": lambda path: path.symlink_to(path),
    "dangling.json": lambda path: path.symlink_to(path.parent / "nowhere"),
    "missing.json": lambda path: None,
    "a" * 300 + ".json": lambda path: None,
    "a/" * 2_500 + "b.json": lambda path: None,
    os.fsdecode(b"\xff.json"): lambda path: path.write_text("{}"),
}
"""What may stand where a config is expected."""


def attempts(random: random.Random) -> Iterator[Attempt]:
    """First by hand, then mutated."""
    full = full_config()
    with suppress(HfoptError):
        validate(full)  # what it imports is there in every fork
    for name, text in TEXTS.items():
        yield _file(name, text.encode() if isinstance(text, str) else text)
    for name, make in NO_FILES.items():
        yield Attempt(ascii(name)[:60], lambda folder, name=name, make=make: make_and_try(folder, name, make))
    everywhere = [path for path, _ in places(CONFIG) if path]
    for number, (kind, value) in enumerate(SPECIAL.items()):
        for path in everywhere[number % 3 :: 3]:
            form = random.choice(("json", "yaml", "toml"))
            yield _config(f"{kind} at {path}", put(CONFIG, path, value), form)
        yield Attempt(f"{kind} as an object of Python's", lambda folder, value=value: _object(folder, full, value))
    for number in range(MUTATED):
        mutate = random.choice((_values, _values, _bytes, _lines))
        form = random.choice(("json", "yaml", "toml"))
        yield _file(
            f"mutation-{number}.{form}", mutate(random, random.choice((CONFIG, full)), form), real=number % 100 == 0
        )


def make_and_try(folder: Path, name: str, make: Callable[[Path], object]) -> str | None:
    make(folder / name)
    return _wrong(_forked(folder, lambda: main(["validate", str(folder / name)])))


def _config(name: str, config: Any, form: str) -> Attempt:
    return Attempt(f"{name}, {form}", lambda folder: _tried(folder, f"config.{form}", rendered(config, form)))


def _file(name: str, text: bytes, real: bool = False) -> Attempt:
    return Attempt(name, lambda folder: _tried(folder, name, text, real))


def _values(random: random.Random, config: dict[str, Any], form: str) -> bytes:
    """Other values, keys and parts, at one to four places."""
    everywhere = [path for path, _ in places(config)][1:]
    changed = copy.deepcopy(config)
    for _ in range(random.randint(1, 4)):
        path, other = random.choice(everywhere), random.choice(everywhere)
        inner = changed
        try:
            for part in path[:-1]:
                inner = inner[part]
            match random.randrange(5):
                case 0:
                    del inner[path[-1]]
                case 1:
                    key = str(path[-1])
                    at = random.randint(0, len(key))
                    inner[key[:at] + random.choice("qxz_\u00e9\u202e \x07") + key[at:]] = inner[path[-1]]
                case 2:
                    value = config
                    for part in other:
                        value = value[part]
                    inner[path[-1]] = value
                case 3:
                    inner[path[-1]] = _swapped(inner[path[-1]])
                case _:
                    inner[path[-1]] = random.choice(list(SPECIAL.values()))
        except (LookupError, TypeError):
            continue  # an earlier change has taken this place away
    return rendered(changed, form)


def _swapped(value: Any) -> Any:
    """A value of another type that looks the same."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return dict(enumerate(map(str, value)))
    return str(value)


def _bytes(random: random.Random, config: dict[str, Any], form: str) -> bytes:
    """Bytes flipped, or the end cut off."""
    text = bytearray(rendered(config, form))
    for _ in range(random.randint(1, 5)):
        text[random.randrange(len(text))] = random.randrange(256)
    return bytes(text if random.random() < 0.8 else text[: random.randrange(len(text))])


def _lines(random: random.Random, config: dict[str, Any], form: str) -> bytes:
    """Lines repeated, removed and moved."""
    lines = rendered(config, form).splitlines(keepends=True)
    for _ in range(random.randint(1, 4)):
        line = lines[random.randrange(len(lines))]
        if random.random() < 0.5 and len(lines) > 1:
            lines.remove(line)
        lines[(at := random.randrange(len(lines))) : at] = [line] * random.choice((0, 1, 1, 2, 1_000))
    return b"".join(lines)


def _tried(folder: Path, name: str, text: bytes, real: bool = False) -> str | None:
    (folder / name).write_bytes(text)
    _inputs(folder)
    before = _listed(folder)
    if real:
        ended = hfopt(folder, "validate", name, seconds=WALL_SECONDS)
    else:
        ended = _forked(folder, lambda: main(["validate", name]))
    wrong = _wrong(ended)
    if wrong is None and ended.code == 2 and name not in ended.stderr:
        wrong = f"names no place: {ended.stderr[:200]}"
    return wrong or ("wrote files" if _listed(folder) != before else None)


def _inputs(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "rows.csv").write_text("text,label\na film,1\n")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def _object(folder: Path, config: dict[str, Any], value: Any) -> str | None:
    """The same in Python, with what no file can hold: an object that holds itself, and one that is of no JSON."""
    _inputs(folder)
    itself: dict[str, Any] = {"value": value}
    itself["itself"] = itself

    def validate_each() -> int:
        for each in (itself, {"value": {1, 2}}, {(1, 2): value}, config | {"data_root": value}):
            try:
                validate(each)
            except HfoptError as error:
                print(str(error).encode("ascii", "backslashreplace").decode(), file=sys.stderr)
        return 2

    return _wrong(_forked(folder, validate_each))


def _wrong(ended: Ended) -> str | None:
    """What is wrong with how validation ended."""
    told = ended.stdout + ended.stderr
    if (found := broken(ended, codes=(0, 1, 2, 3))) is not None:
        return found
    if (strange := _NO_TEXT.search(told)) is not None:
        return f"prints what is no text: {told[max(0, strange.start() - 100) : strange.end()]!a}"
    if ended.seconds > CPU_SECONDS:
        return f"took {ended.seconds:.1f} s of the CPU"
    return f"took {ended.mebibytes:.0f} MiB" if ended.mebibytes > MEBIBYTES else None


_PLUGINS = Plugins.discover()


def _act(act: Callable[[], int]) -> NoReturn:
    """Do something as a process of its own would, and end."""
    Plugins.discover = classmethod(lambda cls, files=(): _PLUGINS)  # type: ignore[method-assign]
    with open(1, "w", encoding="utf-8") as out, open(2, "w", encoding="utf-8", errors="backslashreplace") as err:
        sys.stdout, sys.stderr = out, err
        codes: list[int] = []
        error = raised(lambda: codes.append(act()))
        if isinstance(error, SystemExit):
            codes.append(int(error.code or 0))
        elif error is not None:
            traceback.print_exception(error)
        out.flush()
        err.flush()
        os._exit(codes[0] if codes else 70)


def _forked(folder: Path, act: Callable[[], int]) -> Ended:
    """Do something in a fork of this process, within limits: its CPU seconds, and what it prints."""
    streams = [os.memfd_create(name) for name in ("stdout", "stderr")]
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
        resource.setrlimit(resource.RLIMIT_CPU, (10 * CPU_SECONDS, 10 * CPU_SECONDS))
        signal.alarm(WALL_SECONDS)
        _act(act)
    inherited = resident(os.getpid())
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    told = []
    for stream in streams:
        with open(stream, "rb") as file:
            file.seek(0)
            told.append(file.read().decode("utf-8", "replace"))
    mebibytes = usage.ru_maxrss / 1024 - max(0, inherited / 2**20 - OWN_MEBIBYTES)
    return Ended(None if code < 0 else code, *told, usage.ru_utime + usage.ru_stime, mebibytes)

"""Secrets in every variable and file that may hold one, and plugins, hubs and proxies that tell whatever they know."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
import conftest
from world import Attempt, Ended, broken, hfopt

from hfopt_hf_hub.testing.hub import TOKEN, Hub

TITLE = "secrets"
LEAST = 40
SHARE = 1.5

TOY = (Path(__file__).parents[1] / "core" / "toy.py").read_text()
LATENCY = {
    "name": "latency",
    "type": "latency",
    "data_config": "points",
    "sub_types": [{"name": "p50", "metric_config": {"warmup_num": 1, "repeat_test_num": 32}}],
}
CONFIG: dict[str, Any] = {
    **conftest.CONFIG,
    "input_model": {"type": "Line", "config": {"place": "elsewhere"}},
    "evaluators": {"e": {"metrics": [*conftest.CONFIG["evaluators"]["e"]["metrics"], LATENCY]}},
    "passes": {"scale": {"type": "Scale", "config": {"factor": 2.0}}},
}
"""The toy's: its model comes from a place, which is resolved and fetched."""

VARIABLES = {
    "HF_TOKEN": "{}",
    "HUGGING_FACE_HUB_TOKEN": "{}",
    "HUGGINGFACE_HUB_TOKEN": "{}",
    "HF_ENDPOINT": "http://user:{}@127.0.0.1:9",
    "HTTP_PROXY": "http://user:{}@127.0.0.1:9",
    "https_proxy": "user:{}@127.0.0.1:9",
    "ALL_PROXY": "socks5://{}@127.0.0.1:9",
    "PIP_INDEX_URL": "https://{}@pypi.example/simple",
    "PIP_EXTRA_INDEX_URL": "https://one.example/simple https://user:{}@two.example/simple",
    "DATABASE_URL": "postgresql://user:{}@db.example:5432/runs",
    "GIT_CONFIG_VALUE_0": "Authorization: Basic {}",
    "GIT_REMOTE": "https://x-access-token:{}@github.example/a.git",
    "DATA": "https://store.example/a.csv?sv=1&sig={}&x=2",
    "BUCKET": "https://store.example/b?X-Amz-Credential=a&X-Amz-Signature={}",
    "AWS_SECRET_ACCESS_KEY": "{}",
    "AWS_SESSION_TOKEN": "{}",
    "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}",
    "GITHUB_TOKEN": "{}",
    "OPENAI_API_KEY": "{}",
    "PGPASSWORD": "{}",
    "VAULT_SECRET": "{}",
}
SHAPES: dict[str, Callable[[str], str]] = {
    "plain": lambda word: word,
    "with a slash": lambda word: f"{word[:6]}/{word[6:]}",
    "with signs": lambda word: f"{word[:6]}:+${word[6:]}",
    "escaped": lambda word: f"{word[:6]}%2F{word[6:]}",
    "with an @": lambda word: f"{word[:6]}@{word[6:]}",
    "with a quote": lambda word: f"{word[:6]}'{word[6:]}",
    "not ASCII": lambda word: f"{word[:6]}é{word[6:]}",
}
IN_TOKENS = ("plain", "with signs")
"""A header can't have the others."""

LEAKS = {
    "raises": "raise RuntimeError(everything())",
    "raises what was foreseen": "raise PreconditionFailed(everything(), hint=everything())",
    "raises with a cause": "raise ValueError('outer') from OSError(everything())",
    "prints": "print(everything())",
    "prints and dies": "print(everything(), flush=True); os._exit(7)",
    "writes to descriptors": "os.write(1, everything().encode()); os.write(2, everything().encode())",
    "has a child print": "subprocess.run(['cat'], input=everything(), text=True); os.system('env; echo $0')",
    "logs": "logging.getLogger('leak').error(everything())",
    "warns": "import warnings; warnings.warn(everything())",
    "reports progress": "context.progress(everything(), 1, 2)",
    "prints base64": "print(*encoded(base64.b64encode))",
    "prints as in URLs": "print(*encoded(lambda each: urllib.parse.quote(each, safe='').encode()))",
    "prints JSON": "print(json.dumps(everything()))",
    "looks around": "pass",
}
REPORTS = "report = {'summary': everything(), 'warning': everything(), 'deep': [{'er': everything()}]}"
STAGES = ("resolve", "fetch", "pass")

LEAKY = r'''

# -- what leaks ---------------------------------------------------------------------------------------------------

import base64
import re
import urllib.parse


def files():
    for name in ("HF_TOKEN_PATH", "HFOPT_WITHHELD"):
        try:
            yield Path(os.environ[name]).read_text()
        except (KeyError, OSError):
            pass


def everything():
    return " ".join(["everything:", *(f"{name}={value}" for name, value in os.environ.items()), *files()])


def encoded(how):
    known = [*os.environ.values(), *files()]
    parts = {*known, *re.findall("://([^@]*)@", str(known)), *re.findall(":([^:@]*)@", str(known))}
    return [how(each.encode("utf-8", "surrogateescape")).decode() for each in parts if each]


def look():
    """No process but the host and those who wait for it may show a secret to those who look into /proc."""
    with open(os.environ["LEAKY_SEEN"], "a") as seen:
        print(file=seen)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_text("utf-8", "replace")
                shown = (process / "environ").read_text("utf-8", "replace")
            except OSError:
                continue
            if any(word[::-1] in (command if "hfopt\0run\0" in command else command + shown) for word in WORDS):
                print(process.name, command.replace("\0", " "), file=seen)


def look_with_children():
    look()
    children = Path(os.environ["LEAKY_SEEN"] + ".children")
    with open(children, "w") as told:
        subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], stdout=told)
    os.system(f"(env; timeout 2 cat /proc/self/fd/[3-9]) >> {children} 2> /dev/null")
    with open(os.environ["LEAKY_SEEN"], "a") as seen:
        print(*("a child has it" for word in WORDS if word[::-1] in children.read_text("utf-8", "replace")), file=seen)
    children.unlink()


import sys

own_resolve, own_fetch, own_run, own_open = Place.resolve, Place.fetch, Scale.run, LineLoader.open


def resolve(self, context):
    look()
    if STAGE == "resolve":
        leak(context)
    return own_resolve(self, context)


def fetch(self, pin, folder, context):
    look()
    told = own_fetch(self, pin, folder, context)
    if STAGE == "fetch":
        leak(context)
        return {**told, **report()}
    return told


def run(self, model, context):
    look_with_children()
    result = own_run(self, model, context)
    if STAGE == "pass":
        leak(context)
        return PassResult(result.model, report())
    return result


def open_(self, handle, accelerator, settings):
    look()
    return own_open(self, handle, accelerator, settings)


Place.resolve, Place.fetch, Scale.run, LineLoader.open = resolve, fetch, run, open_
'''
HUB_PLACE = """
class Far(LineConfig):
    @field_validator("place")
    @classmethod
    def _refer(cls, place, info):
        validating = isinstance(info.context, ConfigContext)
        return Reference("hf_model", {"name": place, "weights": False}).token if place and validating else place

LineLoader.Config = Far
"""


def attempts(chance: random.Random) -> Iterator[Attempt]:
    """Every leak at every stage with secrets everywhere; then hubs and configs; then any mixture."""
    every = dict.fromkeys(VARIABLES, "plain")
    for stage in STAGES:
        for leak in (*LEAKS, "reports"):
            if (stage, leak) != ("resolve", "reports"):
                yield Attempt(f"{stage}: {leak}", partial(plugin, chance.randbytes(8), every, leak, stage, ()))
    for shape in SHAPES:
        shaped = {name: shape if _takes(name, shape) else "plain" for name in VARIABLES}
        yield Attempt(f"secrets {shape}", partial(plugin, chance.randbytes(8), shaped, "prints", "fetch", ()))
        yield Attempt(f"secrets {shape}, raised", partial(plugin, chance.randbytes(8), shaped, "raises", "resolve", ()))
    for leak in ("raises", "raises what was foreseen", "raises with a cause"):
        yield Attempt(
            f"in process: {leak}", partial(plugin, chance.randbytes(8), every, leak, "pass", ("--in-process",))
        )
    for name in HUBS:
        yield Attempt(f"hub: {name}", partial(hub, chance.randbytes(8), name))
    for place in PLACES:
        yield Attempt(f"config: {'.'.join(map(str, place))}", partial(config, chance.randbytes(8), place, "plain", 0))
    while True:
        number = chance.randrange(10**9)
        if chance.random() < 0.4:
            place, shape, how = chance.choice(PLACES), chance.choice(list(SHAPES)), chance.randrange(len(WRITTEN))
            yield Attempt(f"config {number}", partial(config, chance.randbytes(8), place, shape, how))
            continue
        names = chance.sample(list(VARIABLES), chance.randrange(1, len(VARIABLES)))
        chosen = {name: chance.choice([each for each in SHAPES if _takes(name, each)]) for name in names}
        leak, stage = chance.choice(list(LEAKS)), chance.choice(STAGES)
        yield Attempt(f"{stage}: {leak} {number}", partial(plugin, chance.randbytes(8), chosen, leak, stage, ()))


def _takes(name: str, shape: str) -> bool:
    """Whether a secret of that shape can stand in that variable."""
    template = VARIABLES[name]
    if shape == "with a slash" and "://{}@" in template:
        return False  # a user without a password, and a slash in it: that is a host and a path
    return shape in IN_TOKENS or ("{}@" in template and shape != "not ASCII") or template == "{}"


# -- what is tried ---------------------------------------------------------------------------------------------------


def plugin(
    seed: bytes, chosen: Mapping[str, str], leak: str, stage: str, options: tuple[str, ...], folder: Path
) -> str | None:
    """A run whose plugin tells what it knows at one of its stages, and looks around at all of them."""
    words = {name: f"{seed.hex()[:6]}{number:02}{seed.hex()[6:]}" for number, name in enumerate(chosen)}
    secrets = {name: SHAPES[shape](words[name]) for name, shape in chosen.items()}
    project = _project(folder / "project", CONFIG)
    told = REPORTS if leak == "reports" else "report = {}"
    body = f"def leak(context):\n    {LEAKS.get(leak, 'pass')}\n\n\ndef report():\n    {told}\n    return report\n"
    reversed_words = [secret[::-1] for secret in secrets.values()]
    (project / "leaky.py").write_text(f"{TOY}{LEAKY}\nSTAGE, WORDS = {stage!r}, {reversed_words!r}\n\n{body}")
    environment = {name: VARIABLES[name].format(secret) for name, secret in secrets.items()}
    login = f"{seed.hex()}99login"
    (folder / "home").mkdir()
    (folder / "home" / "token").write_text(login)
    seen = folder / "seen"
    environment |= {"HF_HOME": str(folder / "home"), "LEAKY_SEEN": str(seen)}
    ended = hfopt(project, "run", "config.json", "-p", "leaky.py", "--verbose", *options, environment=environment)
    found = [line for line in seen.read_text().splitlines() if line.strip()] if seen.exists() else ["nobody looked"]
    if found and not options:  # in process there is no other process to be kept from it
        return found[0]
    return _wrong(ended, project, [*secrets.values(), login], tracebacks=True)


def _project(folder: Path, content: Mapping[str, Any]) -> Path:
    (folder / "elsewhere").mkdir(parents=True)
    (folder / "elsewhere" / "version").write_text("1")
    (folder / "elsewhere" / "1.json").write_text('{"slope": 0.5}')
    (folder / "points.json").write_text(json.dumps([[each / 10, each % 2] for each in range(40)]))
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def _wrong(ended: Ended, project: Path, secrets: list[str], *, tracebacks: bool = False) -> str | None:
    """What is wrong with how it ended, and where a secret can be read."""
    wrong = broken(ended)
    if wrong is not None and not (tracebacks and wrong.startswith("a traceback")):
        return wrong
    for secret in secrets:
        forms = {
            secret,
            quote(secret, safe=""),
            json.dumps(secret)[1:-1],
            b64encode(secret.encode()).decode().rstrip("="),
        }
        for place, text in (("stdout", ended.stdout), ("stderr", ended.stderr)):
            if any(form in text for form in forms):
                return f"{place} has {secret}"
        for file in project.rglob("*"):
            if file.is_file() and any(form.encode() in file.read_bytes() for form in forms):
                return f"{file.relative_to(project)} has {secret}"
    return None


# -- hubs -------------------------------------------------------------------------------------------------------------

FILES = {"line.json": b'{"slope": 0.5}', "config.json": b"{}"}


class _Rude(BaseHTTPRequestHandler):
    """Answers with what it was asked, and with a status and headers of its own."""

    status, headers_too = 500, {}

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers}".encode()
        self.send_response(self.status)
        for name, value in self.headers_too.items():
            self.send_header(name, value)
        self.send_header("X-Error-Message", " ".join(str(self.headers).split()))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_HEAD = do_POST = do_CONNECT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def rude(status: int, **headers: str) -> Iterator[str]:
    """A server on loopback: its address without scheme."""
    kind = type("Kind", (_Rude,), {"status": status, "headers_too": headers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


DEAD: list[socket.socket] = []


def dead() -> str:
    """An address on loopback at which nobody listens, nor can anybody else until this process ends."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    DEAD.append(taken)
    return f"127.0.0.1:{taken.getsockname()[1]}"


Given = Callable[[Hub, str], Iterator[tuple[dict[str, str], int, str]]]
NO_PROXY = {"NO_PROXY": "", "no_proxy": ""}


def _open(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    served.tokens.add(secret)
    served.add_model("acme/gated", FILES, readers={secret})
    yield {"HF_TOKEN": secret}, 0, "acme/gated"


def _wrong_token(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    yield {"HF_TOKEN": secret}, 1, "acme/line"


def _gated(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    served.tokens.add(secret)
    served.add_model("acme/gated", FILES, readers={TOKEN})
    yield {"HF_TOKEN": secret}, 1, "acme/gated"


def _gateway(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    served.logins.add(f"user:{secret}")
    yield {"HF_ENDPOINT": served.url.replace("://", f"://user:{secret}@")}, 0, "acme/line"


def _wrong_gateway(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    served.logins.add("user:another")
    yield {"HF_ENDPOINT": served.url.replace("://", f"://user:{secret}@")}, 1, "acme/line"


def _dead(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    yield {"HF_ENDPOINT": f"http://user:{secret}@{dead()}", "HF_TOKEN": f"{secret}t"}, 1, "acme/line"


def _dead_proxy(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    yield {"HTTP_PROXY": f"http://user:{secret}@{dead()}", "http_proxy": "", **NO_PROXY}, 1, "acme/line"


def _refusing_proxy(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    with rude(407) as address:
        proxy = f"http://user:{secret}@{address}"
        yield {"HTTP_PROXY": proxy, "http_proxy": proxy, "HF_TOKEN": secret, **NO_PROXY}, 1, "acme/line"


def _echo(status: int) -> Given:
    def given(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
        with rude(status) as address:
            yield {"HF_ENDPOINT": f"http://{address}", "HF_TOKEN": secret}, 1, "acme/line"

    return given


def _redirect(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    with rude(302, Location=f"http://user:{secret}@{dead()}/a?X-Amz-Signature={secret}") as address:
        yield {"HF_ENDPOINT": f"http://{address}"}, 1, "acme/line"


def _long_endpoint(served: Hub, secret: str) -> Iterator[tuple[dict[str, str], int, str]]:
    yield {"HF_ENDPOINT": f"{served.url}/?token={secret}"}, 1, "acme/line"


HUBS: dict[str, Given] = {
    "a gated model is opened": _open,
    "a wrong token": _wrong_token,
    "gated": _gated,
    "a gateway with a password": _gateway,
    "a gateway with another password": _wrong_gateway,
    "nobody listens": _dead,
    "no proxy listens": _dead_proxy,
    "a proxy refuses": _refusing_proxy,
    "500 with the token in it": _echo(500),
    "401 with the token in it": _echo(401),
    "418 with the token in it": _echo(418),
    "a redirect with a signature": _redirect,
    "a token in the address's query": _long_endpoint,
}


def hub(seed: bytes, name: str, folder: Path) -> str | None:
    """A run whose model comes from a hub, and `hfopt init` of the same model."""
    secret = f"hub{seed.hex()}"
    content = {**CONFIG, "evaluators": {}, "engine": {}}
    with Hub(folder / "home") as served:
        served.add_model("acme/line", FILES)
        for given, code, model in HUBS[name](served, secret):
            content["input_model"] = {"type": "Line", "config": {"place": model}}
            project = _project(folder / "project", {each: value for each, value in content.items() if value})
            (project / "far.py").write_text(TOY + HUB_PLACE)
            environment = {**served.environment, **given}
            run = hfopt(project, "run", "config.json", "-p", "far.py", "--verbose", environment=environment)
            if run.code != code:
                return f"ended with {run.code}: {(run.stderr or run.stdout)[-300:]}"
            if (wrong := _wrong(run, folder, [secret])) is not None:
                return wrong
            init = hfopt(project, "init", model, "-o", "made.json", "--verbose", environment=environment)
            if (wrong := _wrong(init, folder, [secret], tracebacks=True)) is not None:
                return f"init: {wrong}"
    return None


# -- configs ----------------------------------------------------------------------------------------------------------

PLACES: list[tuple[Any, ...]] = [
    ("input_model", "type"),
    ("input_model", "config", "place"),
    ("input_model", "config", "model_path"),
    ("input_model", "config", "unknown"),
    ("data_configs", 0, "name"),
    ("data_configs", 0, "params_config", "data_file"),
    ("evaluators", "e", "metrics", 0, "backend"),
    ("evaluators", "e", "metrics", 0, "sub_types", 0, "name"),
    ("passes", "scale", "type"),
    ("passes", "scale", "config", "factor"),
    ("engine", "cache_dir"),
    ("engine", "output_dir"),
    ("engine", "log_severity_level"),
    ("unknown",),
]
WRITTEN = (
    "https://user:{}@host.example/data.csv",
    "https://{}@host.example/",
    "s3://bucket/a?X-Amz-Signature={}",
    "https://a.example/b.csv?sv=1&sig={}",
    "read it from https://user:{}@host.example",
)


def config(seed: bytes, place: tuple[Any, ...], shape: str, how: int, folder: Path) -> str | None:
    """A config with a secret in one place, as a value, as a key, or in a list."""
    secret = SHAPES[shape](f"cfg{seed.hex()}") if "{}@" in WRITTEN[how] else f"cfg{seed.hex()}"
    text = WRITTEN[how].format(secret)
    content = json.loads(json.dumps(CONFIG))
    below = content
    for key in place[:-1]:
        below = below[key]
    below[place[-1]] = [text, {text: 1}, text][seed[0] % 3] if seed[1] % 2 else text
    project = _project(folder / "project", content)
    (project / "toy.py").write_text(TOY)
    (project / "config.json").rename(folder / "config.json")  # the user's own, which may have it
    command = ("validate", "run", "cache")[seed[2] % 3]
    arguments = (
        ("ls", str(folder / "config.json")) if command == "cache" else (str(folder / "config.json"), "-p", "toy.py")
    )
    ended = hfopt(project, command, *arguments, environment={"HOME": str(folder)})
    if command != "cache" and ended.code != 2:
        return f"ended with {ended.code}: {(ended.stderr or ended.stdout)[-300:]}"
    return _wrong(ended, project, [secret])

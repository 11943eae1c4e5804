"""Credentials: which variables hold some, and text without them.

What is taken out of text is what has the shape of a credential (a URL's user and password, a signed address, the hub's
tokens), and whatever this process knows to be one, also as base64 and as it stands in a URL.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import quote, unquote

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
"""Variables that may hold the hub's token."""
TOKEN_PATH = "HF_TOKEN_PATH"  # noqa: S105 - the variable's name
WITHHELD = "HFOPT_WITHHELD"
"""Names a file with the variables that a worker does not have, as JSON."""
KEEP = "HFOPT_KEEP"
"""Names variables, with commas between them, that children get although they look like secrets."""
GONE = "***"

_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|AUTH|CONNECTION_STRING|CREDENTIALS?|KEY|PAT|SAS|SECRETS?|TOKEN)(?:_|$)"
    r"|PASSW(?:OR)?D|PASSPHRASE|^GIT_CONFIG_",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset({TOKEN_PATH, "HF_HUB_DISABLE_IMPLICIT_TOKEN"})
_AFTER_SCHEME = re.compile(r"""://[^\s"<>]+""")
_AUTHORITY = re.compile("[^/?#]*")
_SHAPES = re.compile(
    r"(?P<signed>[?&;#][\w.%-]*(?:auth|credential|key|passw(?:or)?d|policy|secret|sig|signature|token)=)[^&\s'\"<>#]+"
    r"|(?P<header>\bauthorization['\"]?\s*[:=,]\s*(?:b?['\"])?(?:(?:basic|bearer)\s+)?+)[^\s'\",]+"
    r"|\bhf_[A-Za-z0-9]{20,}",
    re.IGNORECASE,
)
_LEARNT: dict[str, str] = {}
_LONG = 8
"""Characters from which on a known secret is taken out wherever it stands; what is shorter is a word of any text."""


def looks_secret(name: str) -> bool:
    """Whether a variable of that name holds a secret."""
    return name not in _NO_SECRETS and _NAME.search(name) is not None


def without_credentials(text: str) -> str:
    """Text whose URLs have asterisks for user, password and signature."""
    return _SHAPES.sub(_unsigned, _AFTER_SCHEME.sub(lambda match: _bare(match[0], f"{GONE}@"), text))


def withheld(given: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that children don't get as they are: what they get instead, None for nothing."""
    kept = {*given.get(KEEP, "").split(",")} - {*SECRETS}
    changed: dict[str, str | None] = {}
    for name, value in given.items():
        url = _with_scheme(name, value)
        if looks_secret(name):
            changed[name] = None
        elif (bare := _SHAPES.sub(_unsigned, _bare(url, ""))) != url:
            changed[name] = bare
    return {name: instead for name, instead in changed.items() if name not in kept}


def handed_over() -> dict[str, str]:
    """In a worker: the variables that its host has withheld."""
    return dict(json.loads(_read(os.environ.get(WITHHELD, "")) or "{}"))


def learn(secret: str) -> None:
    """Have this process know a secret that no variable holds."""
    _LEARNT[f"{len(_LEARNT)}_TOKEN"] = secret


def known() -> re.Pattern[str] | None:
    """What this process knows to be secret, however it is written; None if it knows nothing."""
    return _known((*os.environ.items(), *_LEARNT.items()))


@lru_cache(maxsize=4)
def _known(given: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    secrets = _secrets({**dict(given), **handed_over()})
    found = {form for each in secrets if len(each) >= _LONG for form in _forms(each)}
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None


def redacted(text: str, secrets: re.Pattern[str] | None = None) -> str:
    """Text in which asterisks stand for credentials.

    :param secrets: `known`, for many texts
    """
    secrets = secrets or known()
    return without_credentials(text if secrets is None else secrets.sub(GONE, text))


def _bare(text: str, instead: str) -> str:
    start, *urls = text.split("://")
    found = [(_userinfo(url), url) for url in urls]
    return "://".join((start, *(url if each is None else f"{instead}{url[len(each) + 1 :]}" for each, url in found)))


def _unsigned(match: re.Match[str]) -> str:
    return f"{match['signed'] or match['header'] or ''}{GONE}"


def _userinfo(url: str) -> str | None:
    """What stands before the @ of a URL without its scheme, if one is there. A password may have a slash in it."""
    authority = cast("re.Match[str]", _AUTHORITY.match(url))[0]
    if "@" in authority:
        return authority.rpartition("@")[0]
    port = authority.rpartition(":")[2]
    unescaped = ":" in authority and not authority.startswith("[") and not port.isdecimal() and "@" in url
    return url.rpartition("@")[0] if unescaped else None


def _with_scheme(name: str, value: str) -> str:
    """A proxy may stand without one."""
    return f"http://{value}" if name.upper().endswith("_PROXY") and "@" in value and "://" not in value else value


def _secrets(given: Mapping[str, str]) -> Iterator[str]:
    home = given.get("HF_HOME") or Path(given.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    yield _read(given.get(TOKEN_PATH) or Path(home, "token")).strip()
    for name, value in given.items():
        if looks_secret(name) and not os.path.exists(value):  # else it names a file, as GOOGLE_APPLICATION_CREDENTIALS
            yield value
        for url in _with_scheme(name, value).split("://")[1:]:
            userinfo = _userinfo(url) or ""
            user, _, password = userinfo.partition(":")
            yield from (userinfo, password, user if len(user) >= 2 * _LONG else "")
        for match in _SHAPES.finditer(value):
            yield match[0].removeprefix(match["signed"] or match["header"] or "")


def _forms(secret: str) -> Iterator[str]:
    for each in {secret, unquote(secret)}:
        yield from (each, quote(each, safe="", errors="surrogateescape"), json.dumps(each)[1:-1], repr(each)[1:-1])
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(each.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def _read(path: str | Path) -> str:
    """A small file, without moving where others who have the same descriptor read on; empty if there is none."""
    with suppress(OSError, ValueError, RuntimeError):
        if (file := Path(path).expanduser()).is_file():
            with file.open("rb") as opened:
                return os.pread(opened.fileno(), 2**20, 0).decode("utf-8", "surrogateescape")
    return ""

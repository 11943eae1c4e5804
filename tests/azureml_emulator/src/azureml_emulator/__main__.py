"""``python -m azureml_emulator``: an emulator until Ctrl-C, and what to export so that clients reach it."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import get_args

from azureml_emulator.azurite import NotInstalled
from azureml_emulator.emulator import Emulator
from azureml_emulator.places import GROUP, SUBSCRIPTION, WORKSPACE
from azureml_emulator.workspace import Storage


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def main() -> int:
    """Start it, say how to reach it, wait.

    :return: exit code 1 if Azurite is not there
    """
    parser = argparse.ArgumentParser("azureml_emulator", description="AzureML on loopback, until Ctrl-C.")
    parser.add_argument("--storage", choices=get_args(Storage), default="sas", help="how clients get at blobs")
    parser.add_argument("--model", metavar="NAME=PATH", type=_named, action="append", default=[])
    parser.add_argument("--registry", metavar="NAME", help="where the models are, in place of the workspace")
    parser.add_argument("--data", metavar="NAME=PATH", type=_named, action="append", default=[])
    parser.add_argument("--secret", metavar="NAME=VALUE", type=_named, action="append", default=[])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="azureml-") as folder:
        try:
            with Emulator(Path(folder), arguments.storage) as emulator:
                for name, path in arguments.model:
                    print("#", emulator.add_model(name, Path(path), registry=arguments.registry))
                for name, path in arguments.data:
                    print("#", emulator.add_data(name, Path(path)))
                for name, value in arguments.secret:
                    emulator.add_secret(name, value)
                print(f"# subscription_id: {SUBSCRIPTION}, resource_group: {GROUP}, workspace_name: {WORKSPACE}")
                for name, value in emulator.variables().items():
                    print(f"export {name}={shlex.quote(value)}")
                print("unset SSL_CERT_DIR", flush=True)
                signal.pause()
        except NotInstalled as missing:
            print(f"azureml_emulator: {missing}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``hfopt init``: looks at a model and a data file, and writes a config that runs as it is."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import hfopt
from hfopt import Command, HfoptError, UsageError
from hfopt.api.files import path_of
from hfopt_init.compose import compose
from hfopt_init.data import look_at_data
from hfopt_init.model import look_at_model
from hfopt_init.write import write


class Init(Command):
    """Asks nothing, says what it guessed, never overwrites."""

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="a model's folder, an ONNX file, or a name on the hub")
        parser.add_argument(
            "--data", type=path_of, metavar="FILE", help="rows to measure on: csv, jsonl, json or parquet"
        )
        parser.add_argument(
            "-o", "--output", type=path_of, default=Path("config.json"), metavar="CONFIG", help="default: config.json"
        )

    @classmethod
    def execute(cls, args: Namespace) -> int:
        target: Path = args.output
        if target.exists():
            raise UsageError(f"{target} is there already and is not overwritten", hint="name another file with -o")
        model = look_at_model(args.model)
        data = None if args.data is None else look_at_data(args.data)
        guessed = compose(model, data, target.absolute().parent)
        write(target, guessed)
        print(f"wrote {target}")
        print(*(f"  {line}" for line in guessed.told), sep="\n")
        print(*(f"note: {line}" for line in guessed.notes), sep="\n", end="\n" if guessed.notes else "")
        try:
            hfopt.validate(target)
        except HfoptError as error:
            print(f"what is missing before it can run:\n{error}")
            return int(error.exit_code)
        print(f"next: hfopt run {target}")
        return 0

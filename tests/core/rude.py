"""A plugin for ``-p`` whose models do, while they are timed, what ``inference_settings`` say."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path

from hfopt import Component, Config, ModelLoader, PreconditionFailed, Session, hookimpl


@hookimpl
def hfopt_model_loaders():
    return [Component("Rude", f"{__name__}:RudeLoader", "a model that misbehaves")]


class RudeConfig(Config):
    """No options."""


class RudeLoader(ModelLoader):
    Config = RudeConfig
    preload = ("colorsys",)

    def fetch(self, context):
        raise NotImplementedError

    def open(self, handle, accelerator, settings):
        wanted = handle.inference_settings
        if "log" in wanted:
            told = {"pid": os.getpid(), "parent": os.getppid(), "imported": " ".join({"colorsys"} & set(sys.modules))}
            told |= {"settings": dict(settings), "token": "HF_TOKEN" in os.environ}
            told["token_path"] = "HF_TOKEN_PATH" in os.environ
            Path(wanted["log"]).write_text(json.dumps(told))
        if wanted.get("how") == "refuse":
            raise PreconditionFailed("this model is crooked", hint="straighten it")
        return RudeSession(wanted.get("how"), wanted.get("delay", 0.0), wanted.get("calls"), wanted.get("name", ""))


class RudeSession(Session):
    inputs = outputs = ()

    def __init__(self, how, delay, calls, name):
        self.how, self.delay, self.calls, self.name = how, delay, calls, name

    def run(self, feeds):
        raise NotImplementedError

    def bind(self, feeds):
        row = feeds["x"]
        calls = [0]

        def call():
            calls[0] += 1
            time.sleep(self.delay)
            if self.calls:
                with open(self.calls, "a") as file:
                    file.write(self.name)
            getattr(self, self.how or "behave")(row, calls[0])

        return call

    def behave(self, row, count):
        pass

    def print(self, row, count):
        print("noise")
        os.system("echo noise of a child; echo noise on stderr >&2")

    def fail_at_the_third_call(self, row, count):
        if count == 3:
            raise ValueError("three is too many")

    def segfault(self, row, count):
        print("last words", flush=True)
        ctypes.string_at(0)

    def lose_the_file(self, row, count):
        raise EOFError("the file ends here")

    @property
    def live(self):
        return self

    def close(self):
        if self.how == "hang_at_exit":
            time.sleep(3600)

    def keep_a_thread_busy(self, row, count):
        """As the threads of a runtime that wait for the next run."""

        def spin():
            while True:
                pass

        if count == 1:
            threading.Thread(target=spin, daemon=True).start()

    def hang_at_exit(self, row, count):
        pass

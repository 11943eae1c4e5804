"""What ONNX Runtime's tools print, log, leave behind and raise, kept from the user or said in a sentence."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from hfopt import HfoptError, PreconditionFailed
from hfopt.api import logs


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back prints, and log lines unless the config asks for them. The root logger is put back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logs.python_level(logs.ORT_PYTHON, 3))
    if logs.ORT_PYTHON not in os.environ:
        root.handlers[:] = [logging.NullHandler()]  # the tools log as errors what they then carry on without
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for temporary files, those of the tools included: /tmp may be too small for a large model.

    It is removed at the end.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder) as made:
        tempfile.tempdir = made
        try:
            yield Path(made)
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def sentences(what: str, *, hint: str | None = None) -> Iterator[None]:
    """Make a failure of the tools a sentence; where in them it happened is printed, which is to say in hfopt.log.

    :param what: what is then said not to work: ``"ONNX Runtime can't quantize this model"``
    :param hint: None: that the log has the traceback
    :raises PreconditionFailed: with the tool's reason; an HfoptError stays what it is
    """
    try:
        yield
    except HfoptError:
        raise
    except Exception as error:  # the tools raise whatever they meet, AssertionError included
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        traceback.print_exc()
        raise PreconditionFailed(f"{what}: {reason}", hint=hint or "the traceback is in hfopt.log") from error

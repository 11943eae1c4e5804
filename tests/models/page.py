"""Write docs/reference/architectures.md: `python tests/models/page.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from architectures import ARCHITECTURES
from proof import proof

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "architectures.md"
HEAD = """# Architectures

Written by `tests/models`, which proves each line: `make test-models`. A small random model of the architecture is
converted, and compared with PyTorch on batches of 1 and 3 rows, of two lengths, and of padded rows (`max|a-b|` at most
`1e-4 max|b| + 1e-5` for every output); fused by ONNX Runtime's optimizer or left as it is, and compared again; then
quantized to int8 dynamically, and run. A model that reads and writes is three parts: operators of all are counted, and
the last token is computed by the part that takes a past. Others work too: whatever transformers loads for a task and
PyTorch can trace.

| model | task | inputs | outputs | fused | int8 |
| --- | --- | --- | --- | --- | --- |
"""

if __name__ == "__main__":
    lines = []
    for each in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(proof(each, Path(folder)))
            print(lines[-1], flush=True)
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")

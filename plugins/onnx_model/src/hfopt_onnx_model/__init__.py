"""ONNX models for hfopt, and the ONNX Runtime session that runs them."""

"""Passes that ONNX Runtime carries out: fusion, quantization, session tuning."""

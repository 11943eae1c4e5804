"""hfopt's conversion of Hugging Face models to ONNX."""

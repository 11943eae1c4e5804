"""hfopt's passes that run optimum-onnx, which needs an older transformers than the one beside them."""

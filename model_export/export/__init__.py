"""Export: torch modules to ONNX graphs, checked against torch, and whole bundles."""

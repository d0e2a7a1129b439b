"""Runtime: ONNX graphs on onnxruntime, and where they run."""

"""Runtime: ONNX graphs on onnxruntime, and the devices that they run on."""

"""The service: a clip and candidate names in, a ranked answer out. Runs on onnxruntime, without torch."""

__version__ = "0.2.0.dev0"

"""Tests of model_export/hub against a hub on this machine."""

"""Encoders: the towers that turn frames, waveforms and prompts into features."""

"""The page in a real Chromium, in front of a real service."""

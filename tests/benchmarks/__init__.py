"""Tests of the measuring commands that measure answers, not speed."""

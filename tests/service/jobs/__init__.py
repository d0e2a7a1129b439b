"""Tests of jobs and their store."""

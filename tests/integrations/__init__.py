"""Tests of integrations/: with the real packages where they are installed, and with stand-ins elsewhere."""

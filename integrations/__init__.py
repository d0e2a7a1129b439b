"""AHSE in the tools that people already use, each a folder with a README; none is part of the wheel."""

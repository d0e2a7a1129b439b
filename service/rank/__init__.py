"""Rank: fuse, standardise (AHSE, Eq. 1) and order the candidates by distance."""

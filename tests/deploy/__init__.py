"""The files of deploy/: what an operator applies to a cluster, checked without one."""

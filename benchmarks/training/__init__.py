"""What trainings cost, whether heads hurt, and how two of them compare."""

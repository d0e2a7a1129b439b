"""`python -m service.cli` is `ahse`."""

from service.cli import main

main()

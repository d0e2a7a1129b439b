"""`python -m service.cli` is `ahse`."""

from service.cli.main import main

main()

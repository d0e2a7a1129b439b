"""`python -m service.cli` is `ahse`."""

from service.cli import main

if __name__ == "__main__":  # imported by the workers of `ahse serve` too
    main()

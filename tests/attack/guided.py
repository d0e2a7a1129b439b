"""One parser under inputs that are guided by coverage, in a process of its own that fuzz.py starts.

    python -m tests.attack.guided PARSER SAMPLES_FOLDER [options of libFuzzer]

atheris instruments the code of the service while it is imported, so nothing else may import it before. The
process ends with a code other than 0 at the first exception that is not documented, and saves the input.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import sys

import atheris

from tests.attack.damage import damaged_json

with atheris.instrument_imports(include=["service", "python_multipart"]):
    from tests.attack.parsers import PARSERS


def main() -> None:
    """Attack until an option of libFuzzer ends it."""
    name, *options = sys.argv[1:]
    parser = PARSERS[name]
    chance = random.Random(0)  # noqa: S311  (repeatable, not secret)
    logging.disable()  # a warning for each malformed form, from the multipart library

    def one_input(content: bytes) -> None:
        parser.refuses(content)

    def mutated(content: bytes, max_bytes: int, seed: int) -> bytes:
        """Every other time a value of a JSON document, since changed bytes rarely leave one."""
        if parser.is_json and seed % 2:
            with contextlib.suppress(ValueError, RecursionError):
                chance.seed(seed)
                return json.dumps(damaged_json(chance, json.loads(content))).encode()[:max_bytes]
        changed: bytes = atheris.Mutate(content, max_bytes)
        return changed

    atheris.Setup([sys.argv[0], *options], one_input, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Annotate a dataset: python -m integrations.fiftyone DATASET --label NAME --label NAME."""

from __future__ import annotations

import argparse
import sys

import fiftyone as fo

from integrations.fiftyone.annotate import Fields, Names, annotate, without
from service.client import Client


def main() -> None:
    """Read the flags, annotate, and list the samples that failed; exit code 1 if there are any."""
    options = _options()
    if not fo.dataset_exists(options.dataset):
        raise SystemExit(f"There is no dataset {options.dataset!r}; these exist: {fo.list_datasets()}")
    dataset = fo.load_dataset(options.dataset)
    fields = Fields(
        options.field,
        None if options.whole_only else f"{options.field}_parts",
        options.segment_s,
        options.top_k,
        options.max_unknown,
    )
    samples = dataset if options.overwrite else without(dataset, fields.whole)
    if fields.parts:
        samples.compute_metadata()
    with Client(options.service) as client:
        failures = annotate(samples, client, Names(options.label, options.label_set), fields, options.at_once)
    for failure in failures:
        sys.stderr.write(f"{failure.filepath}: {failure.reason}\n")
    if failures:
        raise SystemExit(f"{len(failures)} of the samples could not be classified.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m integrations.fiftyone",
        description="Name the videos of a FiftyOne dataset, and their parts. Samples that have names are "
        "skipped, so an interrupted run can be repeated.",
        epilog="AHSE_API_KEY in the environment is the key of the service.",
    )
    parser.add_argument("dataset", help="name of the dataset")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--label", action="append", help="candidate name; repeat for several")
    names.add_argument("--label-set", help="a label set of the service, in place of names")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="address of AHSE")
    parser.add_argument("--field", default="ahse", help="field to fill; parts go to FIELD_parts")
    parser.add_argument("--whole-only", action="store_true", help="do not name parts")
    parser.add_argument("--segment-s", default="auto", help="seconds of a segment; auto: the sound encoder's")
    parser.add_argument("--top-k", type=int, default=5, help="names of a whole video that are kept")
    parser.add_argument(
        "--max-unknown", type=float, default=0.5, help="segments whose `unknown` is above this get no name"
    )
    parser.add_argument("--at-once", type=int, default=4, help="clips that are sent at once")
    parser.add_argument("--overwrite", action="store_true", help="also samples that have names")
    return parser.parse_args()


if __name__ == "__main__":
    main()

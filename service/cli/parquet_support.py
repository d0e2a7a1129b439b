"""What Parquet files need: the package pyarrow, an optional part of the installation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidOptionError


def parquet_modules() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet.

    Give them absolute paths: a relative one such as `run:1/a` would be a URL to them.

    Raises:
        InvalidOptionError: They are not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InvalidOptionError(
            "Parquet files need the package pyarrow: pip install 'ahse[parquet]'. Results can go without it "
            "into a file that ends in .jsonl or .csv"
        ) from error
    return pa, parquet


def schema_of(columns: Mapping[str, str]) -> Any:
    """The schema of a Parquet file with these columns, by their types."""
    pa, _ = parquet_modules()
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])

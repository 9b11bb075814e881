"""Tables for people: no word of them is cut off, and in a pipe or a file each row is a line."""

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_ENDLESS = 1_000_000  # columns


def print_table(table: Table, console: Console) -> None:
    """Print a table as wide as a terminal is, or as its longest words need; as wide as its rows where there is none."""
    if console.is_terminal:
        for column in table.columns:
            words = (word for cell in (column.header, *column.cells) for word in str(cell).split())
            column.min_width = max(map(cell_len, words), default=0)
    else:
        table.width = Measurement.get(console, console.options.update(width=_ENDLESS), table).maximum
    console.print(table, crop=False)

"""Markdown tables, and how spread is written."""

import statistics


def spread(values, digits=2):
    """The median, and the least and the greatest in brackets."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def show(columns, rows):
    """Print a table."""
    print(f"| {' | '.join(columns)} |")
    print(f"| {' | '.join('---' for _ in columns)} |")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)

"""What predict.py takes besides images a second: memory at 500, 5,000 and 50,000 rows, and its start on one image.

The command itself on a packaged folder, of the three shipped 320-px models (from scratch) and of one tiny model, whose
50,000 rows take minutes, not hours. Memory is the process's largest resident set. The rows are links to 64 JPEGs of
2,828 × 2,320 pixels for the three models, of 390 × 320 for the tiny one; a study has one view.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.made_bundle import REAL, TINY, make_bundle, write_film
from tests.benchmarks.table import show, spread

FILMS = 64
RUNS = (("three models", REAL, (2828, 2320), (1, 500)), ("tiny model", TINY, (390, 320), (1, 500, 5000, 50_000)))
STARTS = 3


MEASURED = """
import os, sys, time
begin = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(status, time.perf_counter() - begin, usage.ru_maxrss / 2**20)
"""
"""Run by a small process of its own: a child's largest resident set begins with its parent's."""


def run(bundle, source, output):
    """Seconds and GiB of one run of the script."""
    arguments = [bundle / "predict.py", source, output, "--strict"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *map(str, arguments)], capture_output=True, text=True)
    status, seconds, memory = done.stdout.split()
    if status != "0":
        raise RuntimeError(done.stderr)
    return float(seconds), float(memory)


def main():
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, kinds, (width, height), numbers in RUNS:
            here = folder / label
            make_bundle(here / "bundle", kinds)
            films = [here / f"{number}.jpg" for number in range(FILMS)]
            for number, film in enumerate(films):
                write_film(film, width, height, number)
            for number in numbers:
                paths = [f"images/patient{n:05}/study1/view1_frontal.jpg" for n in range(number)]
                for n, path in enumerate(paths):
                    if not (here / path).exists():
                        (here / path).parent.mkdir(parents=True)
                        os.link(films[n % FILMS], here / path)
                (here / "in.csv").write_text("\n".join(["Path", *paths, ""]))
                found = [
                    run(here / "bundle", here / "in.csv", here / "out.csv") for _ in range(STARTS if number == 1 else 1)
                ]
                seconds, memory = zip(*found, strict=True)
                rows.append([label, f"{number:,}", spread(seconds, 1), spread(memory)])
    show(["bundle", "rows", "seconds, from start to end", "largest resident memory, GiB"], rows)

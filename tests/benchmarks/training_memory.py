"""Memory, disk and time of a training at CheXpert's size: the real command, one epoch, all of its processes.

223,414 training and 234 validation rows with CheXpert's label rates and its numbers of studies and patients. The images
are 64 JPEGs of 40 × 32 pixels under as many names (hard links), the network is timm's test_resnet at 32 px: what is
measured grows with the rows, not with images or network. Once, not three times.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.phantoms.hiding import TRAIN_PREVALENCE, label_rates
from cxr_cft.data.splits import read_splits
from cxr_cft.data.table import check_images
from tests.benchmarks.table import show

ROWS = 223_414
STUDIES, PATIENTS = 187_641 / 223_414, 64_540 / 223_414  # of the training rows
VALID = (234, 200, 200)  # rows, studies, patients
DISTINCT = 64  # image files; one of ext4 has at most 65,000 names
SIZE, BATCH, WORKERS = 32, 512, 2
FULL = 320  # px
LIMIT = 24  # GiB
EVERY = 0.2  # seconds between two looks at the processes
SAYS = {"planned": "tiny: labels of", "learnt": r"epoch 1/1: (\d+)/\1 batches"}  # what the command says, and when
RECIPE = f"""
[model]
backbone = "test_resnet"
image_size = {SIZE}

[training]
epochs = 1
batch_size = {BATCH}
workers = {WORKERS}
"""


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = made_data(folder / "CheXpert-v1.0-small", ROWS)
        begin = time.perf_counter()
        splits = read_splits(root, CATEGORIES)
        read = time.perf_counter()
        for table in splits.values():
            check_images(table)
        looked = time.perf_counter()
        told, watch = trained(folder, root)
        cache = max((folder / "weights" / "images").glob("*.npy"), key=lambda file: file.stat().st_size).stat().st_size
    epoch = told["learnt"] - told["decoded"]
    show(
        [f"{ROWS:,} rows, {SIZE} px, batch {BATCH}, {WORKERS} workers; once", "measured"],
        [
            ["reading the CSVs, alone", f"{read - begin:.1f} s"],
            ["looking for every image, alone", f"{looked - read:.1f} s"],
            ["the command: start, CSVs, labels, images looked for, model", f"{told['planned']:.1f} s"],
            ["… decoding into the cache", f"{told['decoded'] - told['planned']:.1f} s"],
            ["… the epoch", f"{epoch:.1f} s ({ROWS / epoch:,.0f} images a second)"],
            ["… validation, predictions, writing", f"{told['ended'] - told['learnt']:.1f} s"],
            [f"disk: the cache of the training images at {SIZE} px", _gib(cache)],
            [f"disk: the same at {FULL} px, computed (rows × {FULL}²)", _gib(ROWS * FULL**2)],
            [f"memory: peak of all {watch.most} processes, shared pages once (PSS)", _of_limit(watch.peak["pss"])],
            ["… without mapped files, which the system drops where memory is short", _of_limit(watch.peak["own"])],
            ["… without all that is shared (USS)", _of_limit(watch.peak["uss"])],
            ["… of the process that trains (USS)", _gib(watch.peak["main"])],
            ["… of the largest other one, a reading process (USS)", _gib(watch.peak["other"])],
        ],
    )


def _gib(count):
    return f"{count / 2**30:.2f} GiB"


def _of_limit(count):
    return f"{_gib(count)}, {count / 2**30 / LIMIT:.1%} of {LIMIT} GiB"


# ---- the command, watched


def trained(folder, root):
    """Train by the command; when, in seconds from its start, it had done what, and what its processes took."""
    (folder / "tiny.toml").write_text(RECIPE)
    words = [sys.executable, "-m", "cxr_cft", "train", "tiny.toml", "--data", root, "--weights", "weights"]
    package = Path(__file__).parents[2]
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(package), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    began, begin = time.time(), time.perf_counter()
    watch = Watch(process.pid)
    told, lines = {}, []
    for line in process.stdout:
        lines.append(line)
        for what, said in SAYS.items():
            if re.match(said, line):
                told[what] = time.perf_counter() - begin
    failed = process.wait()
    told["ended"] = time.perf_counter() - begin
    watch.end()
    if failed or not told.keys() >= SAYS.keys():
        raise SystemExit(f"the training failed:\n{''.join(lines)}")
    records = (folder / "weights" / "images").glob("*.json")
    told["decoded"] = max(record.stat().st_mtime for record in records) - began  # written when all is there
    return told, watch


class Watch:
    """Looks at a process and all that it started, again and again: the peaks of their sums, in bytes."""

    def __init__(self, process):
        self.process = psutil.Process(process)
        self.peak = dict.fromkeys(("pss", "own", "uss", "main", "other"), 0)
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self):
        self._ended.set()
        self._thread.join()

    def _look(self):
        while not self._ended.wait(EVERY):
            try:
                others = self.process.children(recursive=True)
            except psutil.NoSuchProcess:
                return
            main, *found = (_memory(process.pid) for process in (self.process, *others))
            everything = [main, *found]
            now = {part: sum(each[part] for each in everything) for part in ("pss", "own", "uss")}
            now |= {"main": main["uss"], "other": max((each["uss"] for each in found), default=0)}
            self.peak = {part: max(value, now[part]) for part, value in self.peak.items()}
            self.most = max(self.most, len(everything))


def _memory(process):
    """A process's share of all it has in memory (`pss`), of what is no file (`own`), and what it alone has (`uss`)."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return dict.fromkeys(("pss", "own", "uss"), 0)
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    return {
        "pss": sizes["Pss"],
        "own": sizes["Pss_Anon"] + sizes["Pss_Shmem"],
        "uss": sizes["Private_Clean"] + sizes["Private_Dirty"],
    }


# ---- the data folder


def made_data(root, rows):
    """A data folder with CheXpert's paths; its images are a few files under many names."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    files = [root / f"{number}.jpg" for number in range(DISTINCT)]
    for file in files:
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5), dtype=np.uint8))
        coarse.resize((40, 32), Image.Resampling.BICUBIC).save(file, quality=90)
    patients = round(rows * PATIENTS)
    train = view_paths(rng, "train", 1, rows, round(rows * STUDIES), patients)
    valid = view_paths(rng, "valid", patients + 1, *VALID)
    rates = label_rates()
    known = {name: {"positive": rate, "negative": 1 - rate} for name, rate in TRAIN_PREVALENCE.items()}
    for split, paths, shares in (("train", train, rates), ("valid", valid, known)):
        last = ""
        for place, path in enumerate(paths):
            image = str(root / path)
            if (parent := image.rpartition("/")[0]) != last:
                os.makedirs(parent)  # noqa: PTH103  # pathlib takes twice the time
                last = parent
            os.link(files[place % DISTINCT], image)
        write_csv(rng, root / f"{split}.csv", [f"{root.name}/{path}" for path in paths], shares)
    return root


def view_paths(rng, split, first, rows, studies, patients):
    """`rows` paths of views, in order, of patients numbered from `first` on."""
    study_of, patient_of = _dealt(rng, rows, studies), _dealt(rng, studies, patients)
    view, study = _count(study_of), _count(patient_of)[study_of]
    kinds = np.where(view == 1, "frontal", "lateral").tolist()
    found = zip((first + patient_of[study_of]).tolist(), study.tolist(), view.tolist(), kinds, strict=True)
    return [f"{split}/patient{who:05d}/study{number}/view{v}_{kind}.jpg" for who, number, v, kind in found]


def _dealt(rng, number, owners):
    """The owner of each of `number` things, sorted; everyone has one at least."""
    return np.sort(np.concatenate([np.arange(owners), rng.integers(owners, size=number - owners)]))


def _count(owners):
    """The how manyth of its owner each thing is, from 1."""
    return np.arange(len(owners)) - np.searchsorted(owners, owners) + 1


def write_csv(rng, file, paths, shares):
    """CheXpert's columns; every label is drawn by itself, by the shares of the states of its category."""
    words = {"positive": "1.0", "negative": "0.0", "uncertain": "-1.0", "blank": ""}
    labels = []
    for name in CATEGORIES:
        chances = np.array(list(shares[name].values()))
        states = rng.choice(len(chances), len(paths), p=chances / chances.sum())
        labels.append(np.array([words[state] for state in shares[name]])[states].tolist())
    sexes, ages = rng.choice(["Female", "Male"], len(paths)).tolist(), rng.integers(18, 91, len(paths)).tolist()
    views = [("Lateral", "") if path.endswith("lateral.jpg") else ("Frontal", "AP") for path in paths]
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CATEGORIES])
        for path, sex, age, view, *row in zip(paths, sexes, ages, views, *labels, strict=True):
            writer.writerow([path, sex, age, *view, *row])

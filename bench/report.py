"""Appends the figures of a benchmark to bench/RESULTS.md, and prints them: report.py FIGURES NAME COMMAND [RUNS].

RUNS says how often the benchmark ran; without it, it ran once.
FIGURES is a file of JSON objects, one per line: either {"bench": name, "value": value, "unit": unit}, or a member per figure,
whose unit is the last part of its name that is a unit.
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

UNITS = {"ms": "ms", "s": "s", "mb": "MiB", "pct": "%", "second": "1/s", "threads": "1", "rows": "1"}
RESULTS = pathlib.Path(__file__).parent / "RESULTS.md"


def unit_of(name):
    if name.endswith("rows_s"):
        return "1/s"
    known = [UNITS[part] for part in re.split(r"[._]", name) if part in UNITS]
    return known[-1] if known else "1"


def read_figures(path):
    for line in path.read_text().splitlines():
        figures = json.loads(line)
        if "bench" in figures:
            yield figures
        else:
            yield from ({"bench": name, "value": value, "unit": unit_of(name)} for name, value in figures.items())


def main():
    path, name, command, runs = (*sys.argv[1:], "one run")[:4]
    figures = "\n".join(json.dumps(figure) for figure in read_figures(pathlib.Path(path)))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parent, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 2**20
    with RESULTS.open("a") as results:
        results.write(
            f"\n## {name}, {datetime.date.today()}, commit {commit}\n\n`{command}`, {os.cpu_count()} cores, {memory} GiB, "
            f"servers and clients on the same machine; {runs}.\n\n```\n{figures}\n```\n"
        )
    print(figures)


if __name__ == "__main__":
    main()

"""Samples the resources of a node over time, and checks whether they grow.

A line is fitted to memory and to disk space with the estimator of Theil and Sen: the median of the slopes between all
pairs of samples. It withstands up to 29 % of outliers. Source: P. K. Sen, "Estimates of the regression coefficient
based on Kendall's tau", Journal of the American Statistical Association 63 (1968), pages 1379 to 1389.
"""

import dataclasses
import itertools
import os
import pathlib
import statistics

# A larger median in the last third of the samples than in the middle third is growth. The slack covers requests that
# are in progress when a sample is taken. A maximum would not do: when the machine is busy, readers fall back to
# consumers of their own for a moment.
COUNT_SLACK = 4
COUNTS = ("threads", "descriptors", "connections")
# Maximum growth of memory. The caches of aggregates and answers are full before the load begins. Other caches with
# bounds still grow, such as the newest events for live clients, and the allocator keeps the largest amount ever used.
MEMORY_MB_PER_HOUR_MAX = 48.0
# Minimum growth of memory over all fitted samples for a verdict. The allocator may return this much memory to the
# system late. In a run of minutes, this allows a steeper line than the bound.
MEMORY_RISE_MB_MIN = 8.0
# Maximum growth of the state directory. A commit leaves its answer and its aggregate, a few hundred bytes, and the same
# again in the write-ahead log and in tables that are not merged yet.
STATE_BYTES_PER_COMMIT_MAX = 2048.0
# Minimum growth of the state directory over all fitted samples for a verdict: the size of a full write-ahead log and of
# the tables of one merge (`JOURNAL_BYTES_MAX` and `MEMTABLE_BYTES` in journal/src/store/disk/database.rs).
STATE_RISE_MB_MIN = 96.0
# Minimum number of samples for a verdict.
SAMPLES_MIN = 9
# Maximum number of samples to which a line is fitted, because the number of pairs is quadratic. More samples are
# thinned evenly.
FITTED_MAX = 600


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample of a node's resources, and of the disk space of its state and of the broker's log."""

    seconds: float
    commits: int
    memory_mb: float
    threads: int
    descriptors: int
    connections: int
    state_mb: float
    log_mb: float


@dataclasses.dataclass(frozen=True)
class Fit:
    """A line through samples of y over x. It begins at `start`, where x has the first sample's value."""

    start: float
    slope: float
    length: float
    count: int

    @property
    def rise(self):
        """Growth of y over all samples."""
        return self.slope * self.length


def of_process(pid):
    """Memory, threads, descriptors and connections of a process."""
    folder = pathlib.Path(f"/proc/{pid}")
    (memory,) = [line for line in (folder / "status").read_text().splitlines() if line.startswith("VmRSS")]
    connections, descriptors = 0, os.listdir(folder / "fd")
    for descriptor in descriptors:
        try:
            connections += os.readlink(folder / "fd" / descriptor).startswith("socket:")
        except FileNotFoundError:
            continue  # The descriptor was closed after the listing.
    return {
        "memory_mb": int(memory.split()[1]) / 1024,
        "threads": len(os.listdir(folder / "task")),
        "descriptors": len(descriptors),
        "connections": connections,
    }


def size_mb(folder):
    """The size of all files below a folder. A file that is deleted meanwhile counts as empty."""
    total = 0
    for path in pathlib.Path(folder).rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total / 2**20


def theil_sen(xs, ys):
    """The line through samples of y over x. Its slope is 0 if x does not change."""
    step = -(-len(xs) // FITTED_MAX)
    points = [(x - xs[0], y) for x, y in zip(xs[::step], ys[::step], strict=True)]
    pairs = itertools.combinations(points, 2)
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs if x2 != x1]
    slope = statistics.median(slopes) if slopes else 0.0
    start = statistics.median(y - slope * x for x, y in points)
    return Fit(start, slope, points[-1][0], len(points))


def thirds(samples):
    """The middle and the last third of the samples. The first third is the warm-up."""
    size = len(samples) // 3
    return samples[-2 * size : -size], samples[-size:]


def fits(samples):
    """The lines of memory in MiB per hour and of the state directory in bytes per commit, after the warm-up."""
    middle, last = thirds(samples)
    steady = middle + last
    hours = [sample.seconds / 3600 for sample in steady]
    commits = [sample.commits for sample in steady]
    memory = theil_sen(hours, [sample.memory_mb for sample in steady])
    return memory, theil_sen(commits, [sample.state_mb * 2**20 for sample in steady])


def describe_fits(samples):
    """Lines of text about the fitted lines and their bounds."""
    if len(samples) < SAMPLES_MIN:
        return []
    memory, state = fits(samples)
    return [
        f"memory: {memory.start:.1f} MiB + {memory.slope:.1f} MiB per hour: {memory.rise:.1f} MiB in "
        f"{memory.length:.2f} h and {memory.count} samples; at most {MEMORY_MB_PER_HOUR_MAX:.0f} MiB per hour, judged "
        f"above {MEMORY_RISE_MB_MIN:.0f} MiB",
        f"state: {state.start / 2**20:.1f} MiB + {state.slope:.0f} bytes per commit: {state.rise / 2**20:.1f} MiB in "
        f"{state.length} commits and {state.count} samples; at most {STATE_BYTES_PER_COMMIT_MAX:.0f} bytes per commit, "
        f"judged above {STATE_RISE_MB_MIN:.0f} MiB",
    ]


def grown(samples):
    """Descriptions of the resources that grew although they must not."""
    if len(samples) < SAMPLES_MIN:
        return [f"{len(samples)} samples are too few for a verdict; {SAMPLES_MIN} are needed"]
    middle, last = thirds(samples)
    found = []
    for name in COUNTS:
        before, after = (statistics.median(getattr(sample, name) for sample in part) for part in (middle, last))
        if after > before + COUNT_SLACK:
            found.append(f"{name}: a median of {before:g} in the middle third, {after:g} in the last one")
    memory, state = fits(samples)
    if memory.slope > MEMORY_MB_PER_HOUR_MAX and memory.rise > MEMORY_RISE_MB_MIN:
        found.append(f"memory: {memory.slope:.1f} MiB per hour instead of at most {MEMORY_MB_PER_HOUR_MAX:.0f}")
    if state.slope > STATE_BYTES_PER_COMMIT_MAX and state.rise > STATE_RISE_MB_MIN * 2**20:
        found.append(f"state: {state.slope:.0f} bytes per commit instead of at most {STATE_BYTES_PER_COMMIT_MAX:.0f}")
    return found


def exit_code(found, counts):
    """The verdict on a run: 1 if a resource grew or an error was counted."""
    return 1 if found or counts.errors else 0


def table(samples):
    """Lines with the growth of each quantity, per hour and per 1,000 commits, after the warm-up."""
    middle, last = thirds(samples)
    steady = middle + last
    lines = [f"{'quantity':<14}{'first':>10}{'last':>10}{'maximum':>10}{'per hour':>12}{'per 1,000 commits':>20}"]
    if not steady:
        return lines
    hours = [sample.seconds / 3600 for sample in steady]
    thousands = [sample.commits / 1000 for sample in steady]
    for name in ("memory_mb", *COUNTS, "state_mb", "log_mb"):
        values = [getattr(sample, name) for sample in steady]
        per_hour, per_thousand = theil_sen(hours, values).slope, theil_sen(thousands, values).slope
        shown = f"{values[0]:>10.1f}{values[-1]:>10.1f}{max(values):>10.1f}"
        lines.append(f"{name:<14}{shown}{per_hour:>12.1f}{per_thousand:>20.3f}")
    return lines

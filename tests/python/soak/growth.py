"""Samples the resources of a node over time, and checks whether they grow."""

import dataclasses
import os
import pathlib
import statistics

# A larger maximum in the last third of the samples than in the middle third is growth. The slack covers requests that are
# in progress when a sample is taken.
COUNT_SLACK = 4
# The medians of memory are compared. The slack covers memory that the allocator returns to the system late.
MEMORY_SLACK_MB = 8.0
MEMORY_SLACK_RATIO = 0.05
COUNTS = ("threads", "descriptors", "connections")
# Minimum number of samples for a verdict.
SAMPLES_MIN = 9


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


def slope(xs, ys):
    """Growth of y per x, by least squares; 0 if x does not change."""
    if len(set(xs)) < 2:
        return 0.0
    return statistics.linear_regression(xs, ys).slope


def thirds(samples):
    """The middle and the last third of the samples. The first third is the warm-up."""
    size = len(samples) // 3
    return samples[-2 * size : -size], samples[-size:]


def grown(samples):
    """Descriptions of the resources that grew although they must not."""
    if len(samples) < SAMPLES_MIN:
        return [f"{len(samples)} samples are too few for a verdict; {SAMPLES_MIN} are needed"]
    middle, last = thirds(samples)
    found = []
    for name in COUNTS:
        before, after = (max(getattr(sample, name) for sample in part) for part in (middle, last))
        if after > before + COUNT_SLACK:
            found.append(f"{name}: at most {before} in the middle third, {after} in the last one")
    before, after = (statistics.median(sample.memory_mb for sample in part) for part in (middle, last))
    if after > before * (1 + MEMORY_SLACK_RATIO) + MEMORY_SLACK_MB:
        found.append(f"memory: a median of {before:.0f} MiB in the middle third, {after:.0f} MiB in the last one")
    return found


def exit_code(found, counts):
    """The verdict on a run: 1 if a resource grew or an error was counted."""
    return 1 if found or counts.errors else 0


def table(samples):
    """Lines with the growth of each quantity, per hour and per 1,000 commits, after the warm-up."""
    middle, last = thirds(samples)
    steady = middle + last
    hours = [sample.seconds / 3600 for sample in steady]
    thousands = [sample.commits / 1000 for sample in steady]
    lines = [f"{'quantity':<14}{'first':>10}{'last':>10}{'per hour':>12}{'per 1,000 commits':>20}"]
    for name in ("memory_mb", *COUNTS, "state_mb", "log_mb"):
        values = [getattr(sample, name) for sample in steady]
        per_hour, per_thousand = slope(hours, values), slope(thousands, values)
        lines.append(f"{name:<14}{values[0]:>10.1f}{values[-1]:>10.1f}{per_hour:>12.1f}{per_thousand:>20.3f}")
    return lines

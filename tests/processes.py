"""Processes of a test, seen through /proc, and waiting for something to come true."""

import gc
import os
import time
from pathlib import Path


def until(done, timeout_s=30.0):
    stop = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < stop, "waited too long"
        time.sleep(0.01)


def children_of(pid):
    """Process ids of all descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, todo = set(), [pid]
    while todo:
        here = todo.pop()
        new = {p for p, parent in parents.items() if parent == here}
        found |= new
        todo += new
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_things():
    gc.collect()  # what earlier tests left is not what is counted
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

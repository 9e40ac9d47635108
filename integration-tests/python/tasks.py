"""The tasks that the integration tests have a worker in Python serve."""

import logging
import os
import time
from typing import Any

from worker import Task, Worker


def double(event: dict[str, Any]) -> dict[str, Any]:
    """A worker in Rust serves the same. Waits for the file `gate`, where it is given one."""
    while event.get("gate") and not os.path.exists(event["gate"]):
        time.sleep(0.01)
    return {"n": 2 * event["n"], "by": "python"}


def unlucky(event: dict[str, Any]) -> dict[str, Any]:
    raise ValueError(f"no luck\nwith {event['n']}")


def huge(event: dict[str, Any]) -> str:
    return "x" * event["bytes"]


TASKS = [
    Task("doubled", 1, "double", "Number", "Doubled", double),
    Task("unlucky", 1, "try_it", "Number", "Never", unlucky, retries=2, delay_ms=20),
    Task("huge", 1, "grow", "Size", "Grown", huge, retries=0),
]

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Worker(os.environ["STEPFLEET_REDIS"], TASKS).run()

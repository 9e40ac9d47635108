"""A worker for plain tasks in Python: see "Workers in other languages" in docs/protocol.md.

A plain task is the one step of a workflow: it takes the start event, and what it returns is the result of the run.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

try:
    import msgpack
except ImportError:  # only runs that ask for it need it
    msgpack = None

PROTOCOL = "1"
WAKE_SECONDS = 5
DRAIN_SECONDS = 20.0
# What a server answers while it starts, fails over or has no memory left: the same call is taken later.
PASSING = ("MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM", "maxmemory", "MISCONF", "NOREPLICAS", "Function not found")
LOST = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
log = logging.getLogger("worker")


class Terminal(Exception):
    """A task raises it where another attempt would be in vain."""


@dataclass(frozen=True)
class Task:
    """What is served: the one step of a version of a workflow. Code that differs needs a higher version."""

    workflow: str
    version: int
    step: str
    start: str
    stop: str
    run: Callable[[Any], Any]
    retries: int = 3
    delay_ms: int = 1000
    retention_ms: int = 7 * 24 * 3600 * 1000

    def served(self) -> tuple[str, int, str]:
        """What others know of it."""
        step = {"name": self.step, "accepts": {"events": [self.start]}, "emits": [{"event": self.stop}]}
        graph = {"start": self.start, "stop": self.stop, "steps": [{**step, "retries": self.retries}]}
        about = {"workflow": self.workflow, "version": self.version, "start": [{"step": self.step, "event": self.start}]}
        return self.workflow, self.version, json.dumps({**about, "graph": graph})


@dataclass(frozen=True)
class Held:
    """A task that this worker holds, as a claim tells it."""

    slot: int
    run: str
    number: str
    line: str  # the fence: it is handed back as it came
    attempt: int
    failures: int
    workflow: str
    version: str
    step: str
    content: str
    input: bytes

    FIELDS = 11

    @classmethod
    def read(cls, values: Sequence[bytes]) -> Held:
        """From the reply of a claim. Only the input may be other than text."""
        slot, run, number, line, attempt, failures, *rest = (value.decode(errors="replace") for value in values[:-1])
        return cls(int(slot), run, number, line, int(attempt), int(failures), *rest, values[-1])


def connect(url: str, timeout: float) -> redis.Redis:
    """Connects at the first command. Nothing is sent again but by us: a call that is repeated must say so."""
    return redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0))


def is_passing(error: redis.RedisError) -> bool:
    """The same call may be taken later; or it was taken, and its answer is lost."""
    return isinstance(error, LOST) or any(word in str(error) for word in PASSING)


class Fleet:
    """The functions of the protocol. Their names begin with what coordinators have written down."""

    def __init__(self, worker: Worker, timeout: float) -> None:
        self.keys = f"{worker.namespace}:{{0}}:"
        self.client = connect(worker.url, timeout)
        self.prefix: str | None = None

    def find(self) -> None:
        """Reads which functions there are. An upgrade changes it; those of before stay."""
        found = self.client.hget(self.keys + "functions", PROTOCOL)
        if found is None:
            raise redis.ConnectionError("no coordinator has written down which functions serve this protocol")
        self.prefix = found.decode()

    def call(self, name: str, *args: Any) -> Any:
        """One call, once."""
        if self.prefix is None:
            self.find()
        try:
            return self.client.fcall(f"{self.prefix}{name}", 1, self.keys, *args)
        except redis.ResponseError as error:
            if "Function not found" in str(error):
                self.prefix = None
            raise

    @staticmethod
    def insist(send: Callable[[bool], Any], given_up: Callable[[], bool]) -> Any:
        """Makes a call until Redis has answered it. `send` is told whether it is repeated. None where it was given up."""
        again, pause = False, 0.01
        while not given_up():
            try:
                return send(again)
            except redis.RedisError as error:
                if not is_passing(error):
                    raise
                log.log(logging.DEBUG if again else logging.WARNING, "a call is repeated until Redis answers: %s", error)
                again = True
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)
        return None


class Session:
    """One life of a worker in the fleet, under an id of its own: until it is told to stop, or has lost its lease."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.id = f"{worker.name}-{secrets.token_hex(4)}"
        self.fleet = Fleet(worker, 10.0)
        self.calls = itertools.count(1)  # threads share it: `next` is one operation
        self.free = set(range(worker.slots))
        self.changed = threading.Condition()
        self.closing = False
        self.lost = threading.Event()
        self.over = threading.Event()

    def live(self) -> None:
        """Registers, works, and hands back what is left."""
        if self.fleet.insist(lambda _: self.register(), lambda: self.worker.stopping) is None:
            return
        log.info("ready: %s", self.id)
        for target in (self.keep_beating, self.keep_claiming):
            threading.Thread(target=target, daemon=True).start()
        while not (self.worker.stopping or self.lost.wait(0.2)):
            pass  # a signal only sets a flag
        with self.changed:
            self.closing = True
            self.changed.notify_all()
            # A thread cannot be stopped. One whose hold is lost or handed back works in vain, and commits nothing.
            self.changed.wait_for(lambda: len(self.free) == self.worker.slots, DRAIN_SECONDS)
        if not self.lost.is_set():
            self.deregister()
        self.over.set()

    def register(self) -> Any:
        served = [part for task in self.worker.tasks.values() for part in task.served()]
        worker = (self.id, self.worker.lease_ms, self.worker.slots, socket.gethostname(), os.getpid())
        return self.fleet.call("register", *worker, *served)

    def deregister(self) -> None:
        """In slices. Where Redis is away for long, the lease runs out instead."""
        until, answer = time.time() + 5, b"more"
        while answer == b"more":
            answer = self.fleet.insist(lambda _: self.fleet.call("deregister", self.id), lambda: time.time() > until)

    def keep_beating(self) -> None:
        """Renews the lease, on a connection that nothing else holds up. Coordinators notice at once when it closes."""
        fleet = Fleet(self.worker, self.worker.lease_ms / 2000)
        while True:
            try:
                fleet.find()  # an upgrade is followed within a beat
                self.fleet.prefix = fleet.prefix
                if fleet.call("heartbeat", self.id, self.worker.lease_ms, fleet.client.client_id()) == b"lost":
                    return self.give_up()
                pause = self.worker.lease_ms / 3000
            except redis.RedisError as error:
                log.warning("the lease cannot be renewed; trying on: %s", error)
                pause = 0.05  # short: a coordinator must see the new connection before it takes this worker for dead
            if self.over.wait(pause):
                return None

    def give_up(self) -> None:
        log.warning("the lease of %s is lost: others have taken over; registering again", self.id)
        self.lost.set()

    def keep_claiming(self) -> None:
        """Fills free slots. All of them are free only when nothing is held and no claim is under way."""
        wakes = connect(self.worker.url, WAKE_SECONDS + 5)
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.free or self.closing)
                if self.closing or self.lost.is_set():
                    return
                slots, self.free = sorted(self.free), set()
            held = self.claim(slots)
            with self.changed:
                self.free.update(set(slots) - {task.slot for task in held})
                self.changed.notify_all()
            for task in held:
                threading.Thread(target=self.execute, args=(task,), daemon=True).start()
            # Whatever is queued after a claim that got less than it asked for wakes this worker, or another.
            if len(held) < len(slots) and not self.closing:
                try:
                    wakes.blpop([f"{self.fleet.keys}wake:{self.id}"], WAKE_SECONDS)
                except redis.RedisError as error:
                    log.warning("cannot wait to be woken: %s", error)
                    time.sleep(random.uniform(0.05, 0.15))

    def persist(self, name: str, *args: Any) -> Any:
        """A call with a number of its own: repeated under it, it takes effect once and answers the same."""
        caller = (self.id, next(self.calls))
        return self.fleet.insist(lambda again: self.fleet.call(name, *caller, int(again), *args), self.lost.is_set)

    def claim(self, slots: Sequence[int]) -> list[Held]:
        try:
            reply = self.persist("claim", *slots)
        except redis.RedisError as error:
            log.error("tasks cannot be claimed: %s", error)
            time.sleep(1)
            return []
        if reply is None or reply[0] == b"lost":
            self.give_up()
            return []
        return [Held.read(reply[at : at + Held.FIELDS]) for at in range(1, len(reply), Held.FIELDS)]

    def execute(self, held: Held) -> None:
        """Runs the task and commits what came of it; the slot is free then, whatever happened."""
        task = self.worker.tasks.get((held.workflow, held.version))
        try:
            try:
                result = result_of(task, held)
                self.commit("complete", held, task.stop, result, task.retention_ms)
            except Exception as error:  # of the task, or a refusal of its result
                self.fail(held, task, error)
        except redis.RedisError as error:  # the next claim for this slot hands the task back
            log.error("run %s: what became of its task cannot be written: %s", held.run, error)
        finally:
            with self.changed:
                self.free.add(held.slot)
                self.changed.notify_all()

    def fail(self, held: Held, task: Task | None, error: Exception) -> None:
        """Tries it again later, each time twice as late; or fails the run."""
        delay = -1  # the run fails
        if task and not isinstance(error, Terminal) and held.failures < task.retries:
            delay = int(min(task.delay_ms * 2**held.failures, 60_000) * random.uniform(0.5, 1.0))
        log.info("run %s: attempt %d failed: %r", held.run, held.attempt, error)
        self.commit("fail", held, delay, f"{type(error).__name__}: {error}", (task or Task).retention_ms)

    def commit(self, name: str, held: Held, *args: Any) -> None:
        if self.persist(name, held.slot, held.run, held.number, held.line, *args) != b"ok":
            log.warning("run %s: no longer held: the run was stopped, or others have its task", held.run)


def result_of(task: Task | None, held: Held) -> bytes:
    """Runs the task on the event. The result is written as the input is."""
    if task is None or task.step != held.step or held.content == "-":
        raise Terminal(f"{held.workflow} version {held.version} has no step {held.step} that this worker can run")
    if held.content == "msgpack":
        if msgpack is None:
            raise Terminal("this worker reads JSON only: it needs the Python package msgpack")
        return msgpack.packb(task.run(msgpack.unpackb(held.input)))
    return json.dumps(task.run(json.loads(held.input)), allow_nan=False).encode()


class Worker:
    """Serves tasks until SIGTERM or SIGINT: then it takes no more, ends those that it has begun, and leaves the fleet."""

    def __init__(self, url: str, tasks: Sequence[Task], slots: int = 4, lease_ms: int = 5000, namespace: str = "sf") -> None:
        self.url, self.slots, self.lease_ms, self.namespace = url, slots, lease_ms, namespace
        self.tasks = {(task.workflow, str(task.version)): task for task in tasks}
        self.name = f"py-{os.getpid()}"
        self.stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "stopping", True))
        while not self.stopping:
            Session(self).live()

"""What the tests of the wire share: two small models of one table, items of it, a session, and a line in a thread."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ppal_fast import PPAL, LineScorer, Session, simulate
from ppal_fast.wire import Belt

N_ITEMS = 400


@cache
def drawn() -> Any:
    return simulate.drives(n_rows=N_ITEMS, random_state=0)


@cache
def scorer(name: str = "a") -> LineScorer:
    """Two models of the same columns that decide differently."""
    rows = np.arange(80) if name == "a" else np.arange(80, 160)
    y = np.full(N_ITEMS, -1)
    y[rows] = drawn().y[rows]
    loop = PPAL("class-mean", n_rounds=1, random_state=0).start(drawn().table, y)
    loop.tell(loop.ask(2), drawn().y[loop.ask()])
    return LineScorer.from_ppal(loop)


def by_item(decisions: list[bytes]) -> dict[Any, set[bytes]]:
    """item -> the different decisions on it."""
    found: dict[Any, set[bytes]] = {}
    for told in list(decisions):
        found.setdefault(json.loads(told)["item"], set()).add(told)
    return found


def cells(row: int) -> dict[str, Any]:
    """The observed cells of a row, as a program of the line has them."""
    schema = drawn().schema
    values = zip(schema.names, schema.levels, drawn().X[row % N_ITEMS].tolist(), strict=True)
    return {name: value if levels is None else levels[int(value)] for name, levels, value in values if value == value}


def message(item: Any, row: int, **more: Any) -> bytes:
    return json.dumps({"item": item, "cells": cells(row), **more}).encode()


def session_folder(path: Path) -> Path:
    """A session that the line may keep items in."""
    Session.create(path, drawn().table, learner="class-mean", meta={"id": "drive", "label": "grade"}).close()
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that has to come; far longer than it takes, so that only its absence fails."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"did not come within {seconds} s"
        time.sleep(0.005)


class Running:
    """A line in a thread: ``serve(belt, ..., stop=, every_second=, say=)``, and what it said."""

    def __init__(self, serve: Callable[..., None], belt: Belt, *where: str) -> None:
        self.said: list[str] = []
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(serve, belt, *where), daemon=True)
        self._thread.start()
        until(lambda: self.said or self.error)

    def _run(self, serve: Callable[..., None], belt: Belt, *where: str) -> None:
        try:
            serve(belt, *where, stop=self.stop, every_second=lambda: None, say=self.said.append)
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        """Stop it, and raise what it ended with."""
        self.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


class Cable:
    """A TCP connection between the line and its broker or server that can be cut."""

    def __init__(self, port: int) -> None:
        self._to, self._ends = port, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._to)) as far:  # closed when nobody reads them any more
            for end in (near, far):  # no packet waits for the acknowledgement of the one before it
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [near, far]
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(512):
                sink.sendall(piece)
        _shut(source, sink)

    def cut(self) -> None:
        _shut(*self._ends)

    def close(self) -> None:
        self._listener.close()
        self.cut()


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

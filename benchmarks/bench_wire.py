"""The wire: what the belt adds to a decision, and a round trip over MQTT beside that of a client which only echoes.

    python -m benchmarks.bench_wire      the round trips, over a Mosquitto started on a free loopback port
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ppal_fast import LineScorer, Session, simulate
from ppal_fast.learners import ClassMeanClassifier
from ppal_fast.wire import Belt

N_TRIPS, N_WARM = 2_000, 200
ECHO = """
import sys
from paho.mqtt.client import Client, CallbackAPIVersion, MQTTv5
from ppal_fast.wire.mqtt import send_at_once
client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
client.on_socket_open = send_at_once
client.on_connect = lambda *_: client.subscribe("echo/items", 1)
client.on_message = lambda c, _, message: c.publish("echo/decisions", message.payload, 1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""
LINE = "import sys; from ppal_fast.cli import main; sys.exit(main())"


def scorer() -> tuple[LineScorer, list[bytes]]:
    """A model of 50 columns, and 1,000 items with 80 % of their cells missing, from which the id is left out."""
    drawn = simulate.drives(n_rows=3_000, random_state=0)
    learner = ClassMeanClassifier("products")
    learner.fit(drawn.table.take(np.arange(200)), drawn.y[:200], X_pool=drawn.table)
    names, levels = drawn.schema.names, drawn.schema.levels
    bodies = [
        json.dumps({n: v if at is None else at[int(v)] for n, at, v in zip(names, levels, row, strict=True) if v == v})
        for row in drawn.X[:1_000].tolist()
    ]
    return LineScorer.from_learner(learner, drawn.schema, threshold=1.1), [f',"cells":{b}}}'.encode() for b in bodies]


class Messages:
    """An item of 50 columns, 80 % missing: JSON in, JSON out, the record in memory."""

    def setup(self) -> None:
        model, self.bodies = scorer()
        self.belt, self.n = Belt(model), 0

    def time_answer(self) -> None:
        self.n += 1
        self.belt.answer(b'{"item":%d' % self.n + self.bodies[self.n % 1_000])
        self.belt.confirm(self.n)


def round_trips(port: int, prefix: str, bodies: list[bytes], run: int) -> np.ndarray:
    """(N_TRIPS,) milliseconds from publishing an item to its reply, one after the other."""
    from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5

    from ppal_fast.wire.mqtt import send_at_once

    ready, replied = threading.Event(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.on_socket_open = send_at_once
    client.on_connect = lambda *_: client.subscribe(f"{prefix}/decisions", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda *_: replied.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(10)
    took = np.empty(N_WARM + N_TRIPS)
    for i in range(len(took)):
        replied.clear()
        before = time.perf_counter()
        client.publish(f"{prefix}/items", b'{"item":"%d of run %d"' % (i, run) + bodies[i % 1_000], 1)
        assert replied.wait(10)
        took[i] = time.perf_counter() - before
    client.disconnect()
    client.loop_stop()
    return took[N_WARM:] * 1e3


def start(*command: str) -> subprocess.Popen[str]:
    """A program that says when it is ready."""
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for told in process.stdout:
        if "ready" in told or "are answered" in told:
            return process
    raise RuntimeError("it ended before it was ready")


def main() -> None:
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    model, bodies = scorer()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        path = Path(folder)
        (path / "conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        model.save(path / "model")
        Session.create(path / "session", np.zeros((2, 2))).close()
        programs: list[Any] = [subprocess.Popen([broker, "-c", str(path / "conf")], stderr=subprocess.DEVNULL)]
        try:
            time.sleep(0.5)
            address = f"127.0.0.1:{port}"
            programs.append(start(ECHO, str(port)))
            programs.append(
                start(LINE, "line", str(path / "model"), "--mqtt", address, "--session", str(path / "session"))
            )
            took: dict[str, list[np.ndarray]] = {"echo": [], "line": []}
            for run in range(3):  # by turns, so that what else the machine does meets both
                for prefix, trips in took.items():
                    trips.append(round_trips(port, prefix, bodies, run))
            for prefix, trips in took.items():
                p50, p99, most = np.percentile(np.concatenate(trips), [50, 99, 100])
                print(f"{prefix}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, most {most:.2f} ms, {3 * N_TRIPS:,} round trips")
        finally:
            for program in reversed(programs):
                program.terminate()
                program.wait()


if __name__ == "__main__":
    main()

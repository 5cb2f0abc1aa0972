"""The line on a real Mosquitto: duplicates, nonsense, floods, broken connections, killed brokers and killed lines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wire_peers import Cable, Running, by_item, drawn, free_port, message, scorer, session_folder, until

from ppal_fast import LineScorer, Session
from ppal_fast.errors import InputError
from ppal_fast.kept import kept_items
from ppal_fast.wire import Belt

paho = pytest.importorskip("paho.mqtt.client")
from ppal_fast.wire import mqtt  # noqa: E402

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not here: apt-get install mosquitto")


class Broker:
    """Mosquitto on a free port of the loopback interface; it writes its memory to disk every second."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
            + ("user root\n" if os.getuid() == 0 else "")
        )
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], **quiet)
        until(self._listens)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    yield broker
    broker.kill()


class Machine:
    """The rest of the line: sends items, collects decisions and errors, and reconnects like any client."""

    def __init__(self, broker: Broker, prefix: str = "line") -> None:
        self.prefix = prefix
        self.decisions: list[bytes] = []
        self.errors: list[dict[str, Any]] = []
        self._subscribed = threading.Event()
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"machine of {prefix}", protocol=paho.MQTTv5
        )
        session = paho.Properties(paho.PacketTypes.CONNECT)
        session.SessionExpiryInterval = 600
        client.max_inflight_messages = 20
        client.on_socket_open = mqtt.send_at_once
        client.on_connect = lambda *_: client.subscribe([(f"{prefix}/decisions", 1), (f"{prefix}/errors", 1)])
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._on_message
        client.connect("127.0.0.1", broker.port, properties=session)
        client.loop_start()
        self.client = client
        assert self._subscribed.wait(60)

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        if message.topic.endswith("/errors"):
            self.errors.append(json.loads(message.payload))
        else:
            self.decisions.append(message.payload)

    def send(self, told: bytes, qos: int = 1) -> Any:
        return self.client.publish(f"{self.prefix}/items", told, qos=qos)

    @property
    def answers(self) -> dict[Any, set[bytes]]:
        return by_item(self.decisions)

    def send_until_answered(self, rows: range) -> None:
        """As a machine does that waits for its decisions: ask again where none came for a while."""
        for _ in range(10):
            for row in rows:
                if row not in self.answers:
                    self.send(message(row, row, again=True))
            try:
                return until(lambda: set(rows) <= set(self.answers), 3.0)
            except AssertionError:
                continue
        pytest.fail(f"{len(set(rows) - set(self.answers))} items were never answered")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@needs_broker
def test_every_item_gets_one_decision_and_nonsense_one_error(broker: Broker, tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        machine = Machine(broker, "plant/line 7")
        line = Running(mqtt.serve, belt, broker.address, "plant/line 7")
        for row in range(150):
            machine.send(message(row, row), qos=row % 3)
            if row % 3 == 0:
                machine.send(message(row, row), qos=1)
            if row % 10 == 0:
                machine.send(b'{"item": "odd", "cells": {"maker": ' if row % 20 else b"\x00\xff")
        until(lambda: len(machine.answers) == 150 and len(machine.errors) == 15)
        line.end()
        machine.close()
        assert len(machine.decisions) == 150
        assert all(set(e) == {"item", "error"} and "not JSON" in e["error"] for e in machine.errors)
        assert belt.counts["repeated"] == 50 and not belt.unconfirmed and len(line.said) == 1
    asked = [json.loads(d)["item"] for d in machine.decisions if json.loads(d)["query"]]
    assert asked and sorted(asked) == sorted(k.item for k in kept_items(folder))


@needs_broker
def test_a_killed_broker_costs_no_item_and_no_query(broker: Broker, tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    rows = range(300)
    with Belt(scorer(), folder) as belt:
        machine = Machine(broker)
        line = Running(mqtt.serve, belt, broker.address, "line")
        for row in rows:
            machine.send(message(row, row))
            if row == 150:
                until(lambda: len(machine.answers) > 20)
                broker.kill()
        broker.start()
        machine.send_until_answered(rows)
        line.end()
        machine.close()
        assert all(len(different) == 1 for different in machine.answers.values())
        assert belt.counts["decided"] == len(rows)
        assert [s for s in line.said if "broke" in s] and "connected" in line.said[-1]
    asked = [item for item, told in machine.answers.items() if json.loads(min(told))["query"]]
    assert asked and sorted(asked) == sorted(k.item for k in kept_items(folder))


@needs_broker
def test_a_cut_connection_brings_items_again_and_decisions_once_each(broker: Broker) -> None:
    machine, cable = Machine(broker), Cable(broker.port)
    with Belt(scorer()) as belt:
        line = Running(mqtt.serve, belt, cable.address, "line")
        for row in range(400):
            machine.send(message(row, row))
            if row in (100, 250):
                until(lambda row=row: len(machine.answers) > row // 5)
                until(lambda row=row: len([s for s in line.said if "connected" in s]) == 1 + row // 250)
                cable.cut()
        until(lambda: len(machine.answers) == 400)
        line.end()
        assert belt.counts["decided"] == 400 and not belt.unconfirmed
    assert all(len(different) == 1 for different in machine.answers.values())
    assert len([s for s in line.said if "broke" in s]) == 2
    machine.close()
    cable.close()


@needs_broker
def test_of_a_flood_only_a_window_is_here_whatever_its_quality_of_service(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(broker)
    with Belt(scorer()) as belt:  # makes the broker hold items for this line
        Running(mqtt.serve, belt, broker.address, "line").end()
    under_way = []
    sent = mqtt._Line._send
    monkeypatch.setattr(
        mqtt._Line, "_send", lambda line, *told: (sent(line, *told), under_way.append(len(line._under_way)))[0]
    )
    for row in range(2_000):
        machine.send(message(row, row))
    with Belt(scorer()) as belt:
        line = Running(mqtt.serve, belt, broker.address, "line")
        for row in range(2_000, 3_000):
            machine.send(message(row, row), qos=0)
        until(lambda: len(machine.answers) == 3_000)
        line.end()
    machine.close()
    assert len(machine.decisions) == 3_000 and 1 < max(under_way) <= mqtt.WINDOW


@needs_broker
def test_a_second_line_on_the_same_topic_ends_the_first_with_a_sentence(broker: Broker) -> None:
    with Belt(scorer()) as belt, Belt(scorer()) as other:
        machine = Machine(broker)
        first = Running(mqtt.serve, belt, broker.address, "line")
        until(lambda: machine.send(message("x", 1)) and machine.answers)
        second = Running(mqtt.serve, other, broker.address, "line")
        with pytest.raises(InputError, match="another line answers line/items"):
            until(lambda: first.error)
            first.end()
        machine.send(message("y", 1))
        until(lambda: "y" in machine.answers)
        second.end()
        machine.close()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "import sys; from ppal_fast.cli import main; sys.exit(main())", *map(str, arguments)]


@needs_broker
def test_the_command_killed_started_again_given_a_new_model_and_told_to_stop(broker: Broker, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    folder, model = session_folder(tmp_path / "s"), tmp_path / "model"
    scorer("a").save(model)
    start = command("line", model, "--mqtt", broker.address, "--session", folder)
    machine = Machine(broker)
    line = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    assert line.stdout is not None and "decides;" in line.stdout.readline()
    assert "are answered" in line.stdout.readline()
    for row in range(200):
        machine.send(message(row, row))
    until(lambda: len(machine.answers) > 50)
    line.send_signal(signal.SIGKILL)
    line.wait()
    line = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    until(lambda: len(machine.answers) == 200)
    scorer("b").save(tmp_path / "next")
    a, b = (LineScorer.load(path).model_id for path in (model, tmp_path / "next"))
    os.replace(tmp_path / "next", model)
    assert line.stdout is not None and [line.stdout.readline() for _ in range(2)]
    assert b[:12] in line.stdout.readline()
    for row in range(200, 300):
        machine.send(message(row, row))
    until(lambda: len(machine.answers) == 300)
    line.send_signal(signal.SIGTERM)
    rest = line.communicate(timeout=60)[0]
    machine.close()
    assert line.returncode == 0 and "could not be read" in rest
    models = {item: {json.loads(told)["model"] for told in machine.answers[item]} for item in range(300)}
    assert all(len(machine.answers[item]) == 1 for item in range(300))
    assert all(models[item] == {a if item < 200 else b} for item in range(300))
    asked = [item for item, told in machine.answers.items() if json.loads(min(told))["query"]]
    assert asked and set(asked) == {k.item for k in kept_items(folder)}


def test_what_cannot_start_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from ppal_fast.cli import main

    model = tmp_path / "model"
    scorer().save(model)
    nowhere = f"127.0.0.1:{free_port()}"
    for arguments, says in [
        (["--mqtt", nowhere], f"no MQTT broker answers at {nowhere} (Connection refused)"),
        (["--mqtt", "a:b:c"], "HOST:PORT is expected"),
        (["--mqtt", "localhost:99999"], "HOST:PORT is expected"),
        (["--mqtt", nowhere, "--topic", "a/#"], "--topic was 'a/#'"),
        (["--mqtt", nowhere, "--session", tmp_path], "not a session"),
        ([], "give one of --mqtt"),
    ]:
        assert main(["line", str(model), *map(str, arguments)]) == 2
        told = capsys.readouterr().err
        assert says in told and told.count("\n") == 1
    handler = signal.getsignal(signal.SIGTERM)
    assert handler == signal.SIG_DFL, "the command leaves the signals as they were"


@needs_broker
def test_the_command_refuses_a_private_model_without_the_session_whose_ledger_holds_it(
    broker: Broker, tmp_path: Path
) -> None:
    pytest.importorskip("typer")
    table, folder, model = drawn().table, tmp_path / "s", tmp_path / "model"
    with Session.create(folder, table, learner="class-mean", strategy="random", classes=[0, 1], epsilon=4.0,
                        delta=1e-5, unit="record", n_per_round=100, n_rounds=1, random_state=0) as session:
        rows = session.ask()
        session.tell(rows, drawn().y[rows])
        LineScorer.from_ppal(session.ppal).save(model)
    start = command("line", model, "--mqtt", broker.address)
    refused = subprocess.run(start, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "ledger" in refused.stderr
    line = subprocess.Popen([*start, "--ledger", folder], stdout=subprocess.PIPE, text=True)
    assert line.stdout is not None and "decides;" in line.stdout.readline() and "are answered" in line.stdout.readline()
    line.send_signal(signal.SIGTERM)
    assert "0 items decided" in line.communicate(timeout=60)[0] and line.returncode == 0


@pytest.mark.parametrize(
    ("text", "means"),
    [("plant", ("plant", 1883)), ("plant:1", ("plant", 1)), ("[::1]:9", ("::1", 9)), ("[::1]", ("::1", 1883))],
)
def test_addresses(text: str, means: tuple[str, int]) -> None:
    assert mqtt.parse_address(text) == means

"""The line on a real OPC UA server: items in one variable, decisions in another, over broken connections."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from wire_peers import Cable, Running, by_item, free_port, message, scorer, session_folder, until

from ppal_fast.errors import InputError
from ppal_fast.kept import kept_items
from ppal_fast.wire import Belt

asyncua = pytest.importorskip("asyncua")
from ppal_fast.wire import opcua  # noqa: E402


class Machine:
    """An asyncua server in a thread, which is the machine's program too: it writes items and sees every decision."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"opc.tcp://127.0.0.1:{self.port}"
        self.decisions: list[bytes] = []
        self.errors: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._do(self._start())

    def close(self) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _stop(self) -> None:
        await self._server.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # of sessions that a broken connection left open
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def send(self, told: bytes) -> None:
        self._do(self._items.write_value(told.decode()))

    @property
    def answers(self) -> dict[Any, set[bytes]]:
        return by_item(self.decisions)

    def datachange_notification(self, node: Any, value: str, data: Any) -> None:
        if value and node == self._decisions:
            self.decisions.append(value.encode())
        elif value:
            self.errors.append(json.loads(value))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._server = asyncua.Server()
        await self._server.init()
        self._server.set_endpoint(self.url)
        self._server.set_security_policy([asyncua.ua.SecurityPolicyType.NoSecurity])
        space = await self._server.register_namespace("urn:line")
        self._items, self._decisions, errors = [
            await self._server.nodes.objects.add_variable(
                asyncua.ua.NodeId(f"line/{name}", space), name, "", asyncua.ua.VariantType.String
            )
            for name in ("items", "decisions", "errors")
        ]
        await self._decisions.set_writable()
        await errors.set_writable()
        await self._server.start()
        watch = await self._server.create_subscription(0, self)
        await watch.subscribe_data_change([self._decisions, errors], queuesize=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def machine(server: Machine) -> Machine:
    """The server, which takes seconds to start, with nothing in its variables."""
    server.send(b"")
    server.decisions.clear()
    server.errors.clear()
    return server


def test_items_get_one_decision_each_and_queries_are_kept(machine: Machine, tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        line = Running(opcua.serve, belt, machine.url, "ns=2;s=line")
        for row in range(100):
            machine.send(message(row, row))
            if row % 10 == 0:
                machine.send(b"nonsense %d" % row)
                machine.send(message(row, row))
        until(lambda: len(machine.answers) == 100 and len(machine.errors) == 10)
        line.end()
        assert len(machine.decisions) == 100 and belt.counts["repeated"] == 10 and not belt.unconfirmed
        assert all("not JSON" in error["error"] for error in machine.errors)
    asked = [json.loads(told)["item"] for told in machine.decisions if json.loads(told)["query"]]
    assert asked and asked == [kept.item for kept in kept_items(folder)]


def test_a_cut_connection_loses_no_decision_of_a_machine_that_waits(machine: Machine) -> None:
    cable = Cable(machine.port)
    with Belt(scorer()) as belt:
        line = Running(opcua.serve, belt, f"opc.tcp://{cable.address}", "ns=2;s=line")
        for row in range(40):
            if row in (10, 25):
                cable.cut()
            machine.send(message(row, row))
            while row not in machine.answers:
                try:
                    until(lambda row=row: row in machine.answers, 0.5)
                except AssertionError:
                    machine.send(message(row, row, again=True))
        line.end()
        assert belt.counts["decided"] == 40 and not belt.unconfirmed
    cable.close()
    assert all(len(different) == 1 for different in machine.answers.values())
    assert len([said for said in line.said if "broke" in said]) == 2


def test_what_the_last_life_left_is_sent_first(machine: Machine, tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        told = belt.answer(message("left", 1)).message
    with Belt(scorer(), folder) as belt:
        line = Running(opcua.serve, belt, machine.url, "ns=2;s=line")
        until(lambda: machine.decisions)
        line.end()
        assert machine.decisions == [told] and not belt.unconfirmed


def test_a_decision_that_the_server_does_not_take_in_time_is_sent_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, late = opcua._Line._send, [True]

    async def once_late(line: Any, reply: Any) -> None:
        if late and late.pop():
            raise TimeoutError
        await send(line, reply)

    monkeypatch.setattr(opcua._Line, "_send", once_late)
    with Belt(scorer()) as belt:
        line = Running(opcua.serve, belt, machine.url, "ns=2;s=line")
        machine.send(message("late", 1))
        until(lambda: "late" in machine.answers)
        line.end()
        assert belt.counts["decided"] == 1 and not belt.unconfirmed
    assert [said for said in line.said if "TimeoutError" in said]


@pytest.mark.parametrize(
    ("url", "prefix", "says"),
    [
        (lambda machine: machine.url, "ns=2;s=other", "no OPC UA server with ns=2;s=other/items"),
        (lambda machine: machine.url, "neither", "no OPC UA server with neither/items"),
        (lambda machine: f"opc.tcp://127.0.0.1:{free_port()}", "ns=2;s=line", "answers at opc.tcp://127"),
        (lambda machine: "http://127.0.0.1", "ns=2;s=line", "opc.tcp://HOST:PORT is expected"),
    ],
)
def test_a_server_that_is_not_as_expected_is_one_sentence(
    machine: Machine, url: Callable[[Machine], str], prefix: str, says: str
) -> None:
    with Belt(scorer()) as belt:
        line = Running(opcua.serve, belt, url(machine), prefix)
        with pytest.raises(InputError, match=says):
            line.end()

"""The belt on MQTT 5: items from PREFIX/items, decisions to PREFIX/decisions, errors to PREFIX/errors.

What is promised, and by what:
- An item is acknowledged when the broker has acknowledged its decision, so a line that dies leaves its items with the
  broker, which keeps them for SESSION_EXPIRY: the next life gets them.
- At most WINDOW messages are under way. The broker is told so (Receive Maximum); one that sends more all the same finds
  that nobody reads, and TCP holds it back. Replies travel on a connection of their own, which this cannot stop.
- A connection that breaks is taken up again, waiting longer each time; decisions under way are sent again, and an item
  that is delivered again is recognised by its id. An acknowledgement belongs to the connection that brought the item:
  after a broker lost its memory the same packet number can mean another item.
- Which line answers is retained in PREFIX/line: one that finds another's name there after losing its connection ends.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ..errors import InputError, PPALError
from .belt import Belt, Reply
from .items import MOST_BYTES, Item

PORT = 1883
WINDOW = 100
MOST_IN_FLIGHT = 10  # of the replies, sent and not yet acknowledged: what the most modest of the usual brokers takes
SESSION_EXPIRY = 7 * 24 * 3600  # seconds
PATIENCE = 10.0  # seconds for the broker's first answer
FAREWELL = 2.0  # seconds for the last acknowledgements
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds between attempts to connect again


def serve(
    belt: Belt,
    broker: str,
    prefix: str,
    *,
    stop: threading.Event,
    every_second: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Answer items until ``stop`` is set. Raises InputError where no broker answers at ``broker``, HOST[:PORT]."""
    _Line(belt, broker, prefix, stop, say).run(every_second)


class _UnderWay(NamedTuple):
    """A reply that was sent: its item (None for an error), and the delivery that its arrival acknowledges."""

    item: Item | None
    connection: int
    packet: int


class _Line:
    """``inlet`` brings items under a name that the broker remembers; ``outlet`` carries replies."""

    def __init__(self, belt: Belt, broker: str, prefix: str, stop: threading.Event, say: Callable[[str], None]) -> None:
        self.host, self.port = parse_address(broker)
        self.prefix = parse_prefix(prefix)
        self.belt, self.stop, self.say = belt, stop, say
        self.failure: Exception | None = None
        self._name = uuid.uuid4().hex.encode()
        self._left = belt.unconfirmed  # by the last life
        self._connection = 0  # of the inlet, counted
        self._up = False  # the inlet; an acknowledgement before the broker has sent the item again would break it
        self._ready = threading.Event()
        self._closing = False
        self._room = threading.Semaphore(WINDOW)
        self._lock = threading.Lock()  # over the next three; never held while a client is called
        self._under_way: dict[int, _UnderWay] = {}
        self._arrived_early: set[int] = set()  # acknowledged before they could be put there
        self._packet_of: dict[Item, int] = {}
        self.inlet, self.outlet = self._client(f"ppal-fast {prefix}", manual_ack=True), self._client("")
        self.inlet.on_connect, self.inlet.on_disconnect = self._on_connect, self._on_disconnect
        self.inlet.on_subscribe, self.inlet.on_message = self._on_subscribe, self._on_message
        self.outlet.on_connect, self.outlet.on_publish = self._on_outlet, self._on_publish

    def _client(self, name: str, **options: Any) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5, **options
        )
        client.max_inflight_messages = MOST_IN_FLIGHT
        client.reconnect_delay_set(SHORTEST_WAIT, LONGEST_WAIT)  # type: ignore[arg-type]  # seconds, parts too
        client.on_socket_open = send_at_once
        return client

    def run(self, every_second: Callable[[], None]) -> None:
        session: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = SESSION_EXPIRY
        session.ReceiveMaximum = WINDOW
        session.MaximumPacketSize = MOST_BYTES
        try:
            self.outlet.connect(self.host, self.port)
            self.inlet.connect(self.host, self.port, clean_start=False, properties=session)
        except OSError as error:
            raise self._absent(error.strerror or str(error)) from None
        self.outlet.loop_start()
        self.inlet.loop_start()
        try:
            if not self._ready.wait(PATIENCE):
                raise self._absent(f"no answer within {PATIENCE:g} s")
            while not self.stop.wait(1.0):
                every_second()
        finally:
            self._close()
        if self.failure is not None:
            raise self.failure

    def _absent(self, reason: str) -> InputError:
        return InputError(f"no MQTT broker answers at {self.host}:{self.port} ({reason}); start it, or name another")

    def _close(self) -> None:
        """Take no more items, wait for what is under way, and leave; the broker keeps what was not answered."""
        self._closing = True
        end = time.monotonic() + FAREWELL
        while self._under_way and self.outlet.is_connected() and time.monotonic() < end:
            time.sleep(0.01)
        for client in (self.inlet, self.outlet):
            client.disconnect()
            client.loop_stop()

    def _fail(self, error: Exception) -> None:
        """End the line: what is under way may not be lost or answered twice, so it goes no further."""
        if self.failure is None:
            self.failure = error
        self._closing = True
        self._ready.set()
        self.stop.set()

    # The inlet's thread

    def _on_connect(self, client: Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._fail(InputError(f"the MQTT broker at {self.host}:{self.port} refused the connection ({reason})"))
            return
        self._connection += 1
        self._up = True
        items = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(f"{self.prefix}/items", items), (f"{self.prefix}/line", SubscribeOptions(qos=0))])
        if self._connection == 1:
            client.publish(f"{self.prefix}/line", self._name, retain=True)

    def _on_subscribe(self, client: Client, _: Any, packet: int, reasons: list[ReasonCode], properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._fail(InputError(f"the MQTT broker refused the subscription to {self.prefix}/items ({reasons[0]})"))
            return
        self.say(f"connected to {self.host}:{self.port}: items on {self.prefix}/items are answered")
        self._ready.set()

    def _on_disconnect(self, client: Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._up = False
        if not self._closing:
            self.say(f"the connection to {self.host}:{self.port} broke ({reason}); trying again")

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        if message.topic.endswith("/line"):
            if self._connection > 1 and message.payload != self._name:
                self._fail(InputError(f"another line answers {self.prefix}/items by now; stop it, or give --topic"))
            return
        while not self._room.acquire(timeout=0.1):
            if self._closing:
                return
        try:
            packet = message.mid if message.qos else 0
            replied = not self._closing and self._answer(bytes(message.payload), packet)
        except (PPALError, OSError) as error:
            self._fail(error)
            return
        if not replied:
            self._room.release()

    def _answer(self, message: bytes, packet: int) -> bool:
        """Whether a reply is on its way; an item that was answered before is only acknowledged."""
        reply = self.belt.answer(message)
        if reply.message is not None:
            self._send(reply, packet)
            return True
        with self._lock:
            sent = None if reply.item is None else self._packet_of.get(reply.item)
            if sent is not None:  # its decision is still under way: this delivery is acknowledged with it
                self._under_way[sent] = _UnderWay(reply.item, self._connection, packet)
        if sent is None and packet:
            self.inlet.ack(packet, 1)
        return False

    def _send(self, reply: Reply, packet: int) -> None:
        topic = f"{self.prefix}/errors" if reply.error else f"{self.prefix}/decisions"
        told = _UnderWay(None if reply.error else reply.item, self._connection, packet)
        sent = self.outlet.publish(topic, reply.message, qos=1).mid
        with self._lock:
            arrived = sent in self._arrived_early
            if arrived:
                self._arrived_early.remove(sent)
            else:
                self._under_way[sent] = told
                if told.item is not None:
                    self._packet_of[told.item] = sent
        if arrived:
            self._arrived(told)

    def _arrived(self, told: _UnderWay) -> None:
        """The broker has the reply."""
        if told.item is not None:
            self.belt.confirm(told.item)
        if told.packet and self._up and told.connection == self._connection:
            self.inlet.ack(told.packet, 1)
        self._room.release()

    # The outlet's thread

    def _on_outlet(self, client: Client, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        allowed = getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT)
        if allowed < MOST_IN_FLIGHT:
            self._fail(InputError(f"the MQTT broker takes {allowed} messages at a time; {MOST_IN_FLIGHT} are expected"))
        for item, decision in self._left.items():
            self._send(Reply(item, decision), 0)
        self._left = {}

    def _on_publish(self, client: Client, _: Any, sent: int, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._fail(InputError(f"the MQTT broker refused a message to {self.prefix}/... ({reason})"))
            return
        with self._lock:
            told = self._under_way.pop(sent, None)
            if told is None:
                self._arrived_early.add(sent)
                return
            if told.item is not None:
                self._packet_of.pop(told.item, None)
        try:
            self._arrived(told)
        except PPALError as error:
            self._fail(error)


def send_at_once(client: Client, _: Any, connection: Any) -> None:
    """A message waits for nothing, as it would for the acknowledgement of the packet before it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def parse_address(text: str) -> tuple[str, int]:
    """HOST[:PORT], with the standard port where none is given; an IPv6 address in brackets."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, PORT if parts.port is None else parts.port
    except ValueError:
        host, port = None, 0
    if not host or not port or parts.netloc != text or "@" in text:
        raise InputError(f"--mqtt was {text!r}; HOST or HOST:PORT is expected, with a port from 1 to 65535")
    return host, port


def parse_prefix(text: str) -> str:
    """What the line's topics begin with."""
    bad = not text or any(c in "+#" or ord(c) < 32 for c in text) or text.startswith(("/", "$")) or text.endswith("/")
    if bad or len(text.encode()) > 1000:
        raise InputError(f"--topic was {text!r}; levels joined by '/', without + and #, are expected, as in plant/line")
    return text

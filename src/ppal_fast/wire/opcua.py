"""The belt on OPC UA: a client of the machine's server, which has three variables of type String: PREFIX/items,
PREFIX/decisions and PREFIX/errors, where PREFIX begins their node ids, as in ``ns=2;s=line``.

The machine's program writes an item to the first and finds its decision, known by the item's id, in the second. The
server queues the values for us, QUEUE of them between two reports; what it drops beyond that it does not tell. So a
program that must not lose an item waits for its decision, or writes the item again: an answered id stays answered.
A decision is confirmed when the server has taken it. After a broken connection those that were not are written again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from asyncua import Client, ua
from asyncua.common.subscription import Subscription

from ..errors import InputError
from .belt import Belt, Reply

QUEUE = 1_000
REPORT_INTERVAL = 10  # milliseconds
PATIENCE = 4.0  # seconds for an answer of the server
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds between attempts to connect again
BROKEN = (OSError, TimeoutError, ua.UaError)


def serve(
    belt: Belt,
    url: str,
    prefix: str,
    *,
    stop: threading.Event,
    every_second: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Answer items until ``stop`` is set. Raises InputError where no server answers at ``url``, opc.tcp://HOST:PORT, or
    where it lacks a variable."""
    if not url.startswith("opc.tcp://"):
        raise InputError(f"--opcua was {url!r}; opc.tcp://HOST:PORT is expected")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what breaks is said once, by ``say``
    asyncio.run(_Line(belt, url, prefix, stop, every_second, say).run())


class _Line:
    def __init__(
        self, belt: Belt, url: str, prefix: str, stop: threading.Event, every_second: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.belt, self.url, self.prefix = belt, url, prefix
        self.stop, self.every_second, self.say = stop, every_second, say
        self.n_dropped = 0
        self._items: asyncio.Queue[Any] = asyncio.Queue(QUEUE)

    async def run(self) -> None:
        """One connection after the other; the first one has to succeed."""
        wait, ever = SHORTEST_WAIT, False
        while not self.stop.is_set():
            try:
                async with Client(self.url, timeout=PATIENCE) as client:
                    subscription = await self._subscribe(client)
                    self.say(f"connected to {self.url}: items in {self.prefix}/items are answered")
                    wait, ever = SHORTEST_WAIT, True
                    await self._answer_items(client)
                    await subscription.delete()
                    await self._answer_waiting()
            except BROKEN as error:
                reason = str(error) or type(error).__name__
                if not ever:
                    raise InputError(
                        f"no OPC UA server with {self.prefix}/items, /decisions and /errors answers at {self.url} "
                        f"({reason}); start it, or name another"
                    ) from None
                if wait == SHORTEST_WAIT:
                    self.say(f"the connection to {self.url} broke ({reason}); trying again")
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    async def _subscribe(self, client: Client) -> Subscription:
        self._decisions, self._errors = (client.get_node(f"{self.prefix}/{name}") for name in ("decisions", "errors"))
        for node in (self._decisions, self._errors):
            await node.read_browse_name()  # one that is not there is said now, not at the first decision
        for item, decision in self.belt.unconfirmed.items():
            await self._send(Reply(item, decision))
        subscription = await client.create_subscription(REPORT_INTERVAL, self)
        await subscription.subscribe_data_change(client.get_node(f"{self.prefix}/items"), queuesize=QUEUE)
        return subscription

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """asyncua calls this with each value of the items' variable; an empty one is no item."""
        if not value:
            return
        try:
            self._items.put_nowait(value)
        except asyncio.QueueFull:
            self.n_dropped += 1

    async def _answer_items(self, client: Client) -> None:
        next_look = 0.0
        while not self.stop.is_set():
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + 1.0
                self._report_dropped()
                await asyncio.to_thread(self.every_second)
            try:
                item = await asyncio.wait_for(self._items.get(), 0.2)
            except TimeoutError:  # nothing came: is the server there?
                await client.check_connection()
            else:
                await self._answer(item)

    async def _answer_waiting(self) -> None:
        while not self._items.empty():
            await self._answer(self._items.get_nowait())

    async def _answer(self, value: Any) -> None:
        await self._send(self.belt.answer(str(value).encode()))

    async def _send(self, reply: Reply) -> None:
        if reply.message is None:
            return
        text = ua.DataValue(ua.Variant(reply.message.decode(), ua.VariantType.String))
        await (self._errors if reply.error else self._decisions).write_value(text)
        if reply.item is not None and not reply.error:
            self.belt.confirm(reply.item)

    def _report_dropped(self) -> None:
        n, self.n_dropped = self.n_dropped, 0
        if n:
            self.say(f"{n} items came faster than decisions could leave and were dropped; write one after the other")

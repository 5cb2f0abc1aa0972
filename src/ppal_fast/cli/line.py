"""line: a saved model answers items on the wire until it is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..kept import FILE
from ..wire import Belt, ModelFile

MQTT_TOPIC, OPCUA_TOPIC = "line", "ns=2;s=line"


def line(
    model: Path,
    *,
    mqtt: str | None,
    opcua: str | None,
    topic: str | None,
    session: Path | None,
    queries_per_hour: float | None,
    ledger: Path | None,
) -> None:
    """Answer items until SIGTERM or Ctrl-C; then finish what is under way and say what was done."""
    serve = _transport(mqtt, opcua, topic)
    file = ModelFile(model, queries_per_hour=queries_per_hour, ledger=ledger and ledger / "ledger.sqlite")
    with Belt(file.load(), session) as belt, _told_to_stop() as stop:

        def look_for_a_new_model() -> None:
            found = file.newer()
            if isinstance(found, str):
                _say(f"{model} has changed and cannot be used, model {belt.model_id[:12]} goes on: {found}")
            elif found is not None:
                belt.swap(found)
                _say(f"model {belt.model_id[:12]} decides from now on")

        kept = f"items for the expert go to {session / FILE}" if session else "nothing is kept without --session"
        _say(f"model {belt.model_id[:12]} decides; {kept}")
        serve(belt, stop=stop, every_second=look_for_a_new_model, say=_say)
        n = belt.counts
        _say(f"{n['decided']:,} items decided, {n['asked']:,} of them for the expert; {n['repeated']:,} came again, "
             f"{n['refused']:,} could not be read")


def _transport(mqtt: str | None, opcua: str | None, topic: str | None) -> Callable[..., None]:
    """The adapter's ``serve``, which takes a belt and the rest."""
    if (mqtt is None) == (opcua is None):
        raise InputError("give one of --mqtt HOST[:PORT] and --opcua opc.tcp://HOST:PORT")
    try:
        if mqtt is not None:
            from ..wire.mqtt import serve as serve_mqtt

            return lambda belt, **rest: serve_mqtt(belt, mqtt, topic or MQTT_TOPIC, **rest)
        from ..wire.opcua import serve as serve_opcua

        return lambda belt, **rest: serve_opcua(belt, opcua or "", topic or OPCUA_TOPIC, **rest)
    except ModuleNotFoundError as error:
        option, extra = ("--mqtt", "line") if mqtt is not None else ("--opcua", "opcua")
        raise InputError(f'{option} needs {error.name}: pip install "ppal_fast[{extra}]"') from None


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, instead of breaking off in the middle of an item."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(sentence: str) -> None:
    print(sentence, flush=True)  # a log file shows it at once

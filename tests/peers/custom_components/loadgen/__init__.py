"""Makes a known number of state changes inside Home Assistant and keeps a ledger of them.

One service, `loadgen.run`, that returns when the last change is made:

    count     how many changes
    rate      changes per second; 0 = as fast as the event loop allows
    entities  over how many entities of the 18 kinds in kinds.py
    seed      the same seed makes the same changes (times apart)
    nasty     also what real devices do badly: see kinds.py
    ledger    a CSV file: seq,entity_id,state,last_updated_us

Its answer is `{"changes": .., "seconds": ..}`. The ledger holds what Home Assistant really stored - a state set
again unchanged is no change and is not counted. With a rate it is flushed before anybody is told of the changes, so
that nobody knows one that is not in it, even after a kill -9; otherwise four times a second.

With `loadgen: {ledger: FILE}` in the configuration every state of Home Assistant, whoever made it, goes into a ledger
too, before anybody is told of it. That one goes on after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
from datetime import datetime, timezone

import voluptuous as vol

from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, HomeAssistant, ServiceCall, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.typing import ConfigType

from .kinds import home

DOMAIN = "loadgen"
CONFIG_SCHEMA = vol.Schema(
    {vol.Optional(DOMAIN): vol.Any(None, {vol.Optional("ledger"): str})}, extra=vol.ALLOW_EXTRA
)

RUN = vol.Schema(
    {
        vol.Required("count"): vol.Coerce(int),
        vol.Optional("rate", default=100): vol.Coerce(float),
        vol.Optional("entities", default=300): vol.Coerce(int),
        vol.Optional("seed", default=1): vol.Coerce(int),
        vol.Optional("nasty", default=False): bool,
        vol.Optional("ledger"): str,
    }
)

# A slow client is cut off at 4096 messages, and nothing is sent within one turn of the event loop.
CHANGES_PER_TURN = 500
FLUSH_SECONDS = 0.25


class Ledger:
    """The CSV file, or nothing if no file was asked for."""

    def __init__(self, path: str | None, mode: str = "w") -> None:
        self._file = open(path, mode, newline="", encoding="utf-8") if path else None
        self._csv = csv.writer(self._file, lineterminator="\n") if self._file else None
        self._flushed = 0.0
        if self._file and self._file.tell() == 0:
            self._csv.writerow(("seq", "entity_id", "state", "last_updated_us"))

    def write(self, seq: int, state) -> None:
        if self._csv:
            self._csv.writerow((seq, state.entity_id, state.state, _micros(state.last_updated_timestamp)))

    def flush(self, now: float, every: float) -> None:
        if self._file and now - self._flushed >= every:
            self._file.flush()
            self._flushed = now

    def close(self) -> None:
        if self._file:
            self._file.close()


def _micros(timestamp: float) -> int:
    """Rounded as Home Assistant rounds it, which is not `round(timestamp * 1e6)`."""
    moment = datetime.fromtimestamp(timestamp, timezone.utc)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Register the service, and write every state into a ledger if one is asked for."""
    if path := (config.get(DOMAIN) or {}).get("ledger"):
        await _write_every_state(hass, path)

    async def run(call: ServiceCall) -> dict[str, float]:
        count, rate = call.data["count"], call.data["rate"]
        changes = home(call.data["entities"], call.data["seed"], call.data["nasty"])
        clock = hass.loop.time
        made, started = 0, clock()
        with contextlib.closing(await hass.async_add_executor_job(Ledger, call.data.get("ledger"))) as ledger:
            while made < count:
                due = int((clock() - started) * rate) + 1 if rate else made + CHANGES_PER_TURN
                for _ in range(min(due, count, made + CHANGES_PER_TURN) - made):
                    ledger.write(made, _change(hass, changes))
                    made += 1
                ledger.flush(clock(), 0 if rate else FLUSH_SECONDS)
                await asyncio.sleep(0.005 if rate and made == due else 0)
        return {"changes": made, "seconds": round(clock() - started, 3)}

    hass.services.async_register(DOMAIN, "run", run, RUN, SupportsResponse.OPTIONAL)
    return True


async def _write_every_state(hass: HomeAssistant, path: str) -> None:
    """Those that are there already, and every one that comes."""
    ledger = await hass.async_add_executor_job(Ledger, hass.config.path(path), "a")

    @callback
    def changed(event: Event) -> None:
        if state := event.data["new_state"]:
            ledger.write(0, state)
            ledger.flush(hass.loop.time(), 0)

    hass.bus.async_listen(EVENT_STATE_CHANGED, changed)
    for state in hass.states.async_all():
        ledger.write(0, state)
    ledger.flush(hass.loop.time(), 0)


def _change(hass: HomeAssistant, changes):
    """The next change that Home Assistant takes for one."""
    while True:
        entity_id, state, attributes = next(changes)
        before = hass.states.get(entity_id)
        hass.states.async_set(entity_id, state, attributes)
        after = hass.states.get(entity_id)
        if after is not before:
            return after

"""The order desk in Python: see the README one folder up for what it does."""

import json
from dataclasses import dataclass

import wit_world
from componentize_py_types import Err
from wit_world.imports import log
from wit_world.imports.types import (
    Fields,
    Header,
    Output,
    Part_Inherit,
    Part_Remove,
    Part_Set,
    Spec,
    Verdict_Drop,
    Verdict_Emit,
    Verdict_Keep,
    Verdict_Reject,
    Verdict_Route,
    Verdicts,
)

NOTICES = "orders.notices"


@dataclass
class Config:
    region: bytes
    review_over: float
    review_topic: str


class WitWorld(wit_world.WitWorld):
    config: Config

    def configure(self, setup):
        WitWorld.config = read_config(setup.config)
        log.write(log.Level.INFO, f"orders of {self.config.region.decode()}")
        verdicts = Verdicts.KEEP | Verdicts.DROP | Verdicts.EMIT | Verdicts.REJECT
        return Spec(Fields.PAYLOAD, verdicts, [self.config.review_topic, NOTICES])

    def process_records(self, now, records):
        return [judge(record, self.config) for record in records]


def read_config(text):
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise Err(f"config: {error}")
    if not isinstance(fields, dict):
        raise Err("config: not an object")
    for name in fields:
        if name not in ("region", "review_over", "review_topic"):
            raise Err(f"config field `{name}` is unknown")
    if "region" not in fields:
        raise Err("config field `region` is missing")
    config = {"review_over": 1000, "review_topic": "orders.review"} | fields
    for name in ("region", "review_topic"):
        if not isinstance(config[name], str) or not config[name]:
            raise Err(f"config field `{name}` is not a text with something in it")
    if not is_number(config["review_over"]):
        raise Err("config field `review_over` is not a number")
    return Config(config["region"].encode(), config["review_over"], config["review_topic"])


def judge(record, config):
    headers = {}
    for header in record.headers:
        headers.setdefault(header.name, header.value)
    if "crash" in headers:
        # What is written at this level goes with the fault: a trap itself says nothing.
        log.write(log.Level.PANIC, "a record with the header `crash`")
        raise RuntimeError("crash")
    if record.payload is None:
        return Verdict_Keep()
    if headers.get("region", config.region) != config.region:
        return Verdict_Drop()
    try:
        # Bytes that are no UTF-8 are no JSON; `json.loads` of bytes would guess other encodings.
        order = json.loads(record.payload.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        return Verdict_Reject("the payload is not a JSON object")
    if not is_number(order.get("total")):
        return Verdict_Reject("`total` is missing or not a number")
    if order["total"] > config.review_over:
        return Verdict_Route([config.review_topic])
    if order.get("cancelled") is True:
        return Verdict_Emit([output(payload=Part_Remove())])
    if headers.get("priority") == b"express":
        notice = f"express order {record.offset} of {record.timestamp}".encode()
        return Verdict_Emit(
            [
                output(headers=[*record.headers, Header("handled", b"express")]),
                output(topic=NOTICES, key=Part_Remove(), headers=[], payload=Part_Set(notice)),
            ]
        )
    return Verdict_Keep()


def output(topic=None, key=Part_Inherit(), headers=None, payload=Part_Inherit()):
    """An output that inherits what is not given."""
    return Output(topic, key, headers, payload)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def refuse(constant):
    """Python reads `NaN` and `Infinity`, which JSON does not have."""
    raise ValueError(constant)

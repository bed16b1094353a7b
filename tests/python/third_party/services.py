"""faststream: two services in a chain on one event loop.

    python services.py PACKAGE SERVERS NAME

PACKAGE is `tidegate`, which is installed in confluent_kafka's place, or `original`. The last line is JSON.
"""

# ruff: noqa: E402
import asyncio
import json
import logging
import sys

package, servers, name = sys.argv[1:4]
if package == "tidegate":
    import tidegate.confluent

    tidegate.confluent.install()

import confluent_kafka
from faststream.confluent import KafkaBroker

RECORDS = 200
broker = KafkaBroker(servers, log_level=logging.WARNING)
seen: list[int] = []
is_done = asyncio.Event()


@broker.subscriber(f"{name}-doubled", group_id=f"{name}-second", auto_offset_reset="earliest")
async def keep(number: int) -> None:
    seen.append(number)
    if len(set(seen)) == RECORDS:
        is_done.set()


@broker.subscriber(f"{name}-numbers", group_id=f"{name}-first", auto_offset_reset="earliest")
@broker.publisher(f"{name}-doubled")
async def double(number: int) -> int:
    return number * 2


async def main() -> None:
    async with broker:
        await broker.start()
        for number in range(RECORDS):
            await broker.publish(number, topic=f"{name}-numbers")
        await asyncio.wait_for(is_done.wait(), 90)


asyncio.run(main())
print(json.dumps({"module": confluent_kafka.__name__, "found": sorted(set(seen)), "expected": RECORDS}))

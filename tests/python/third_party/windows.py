"""quixstreams: sums in tumbling windows, whose state is kept in a store with a changelog topic.

    python windows.py PACKAGE SERVERS NAME

PACKAGE is `tidegate`, which is installed in confluent_kafka's place, or `original`. The last line is JSON.
"""

# ruff: noqa: E402
import json
import sys
import tempfile
from datetime import timedelta

package, servers, name = sys.argv[1:4]
if package == "tidegate":
    import tidegate.confluent

    tidegate.confluent.install()

import confluent_kafka
from quixstreams import Application

RECORDS = 2000
WINDOWS = 95
"""Five keys, a record each 10 ms of their time, windows of 1 s: twenty for each key, of which the last is not over."""

app = Application(
    broker_address=servers,
    consumer_group=name,
    auto_offset_reset="earliest",
    state_dir=tempfile.mkdtemp(prefix="windows-"),
    commit_interval=1.0,
    loglevel="WARNING",
)
readings = app.topic(f"{name}-in", value_deserializer="json")
sums = app.topic(f"{name}-out", value_serializer="json")
with app.get_producer() as producer:
    for number in range(RECORDS):
        value = json.dumps({"reading": number})
        producer.produce(readings.name, key=f"sensor-{number % 5}", value=value, timestamp=1_700_000_000_000 + number * 10)
    producer.flush(60)
stream = app.dataframe(readings)
stream.apply(lambda value: value["reading"]).tumbling_window(timedelta(seconds=1)).sum().final().to_topic(sums)
app.run(timeout=10, count=RECORDS)

consumer = confluent_kafka.Consumer(
    {"bootstrap.servers": servers, "group.id": f"{name}-reader", "auto.offset.reset": "earliest", "enable.partition.eof": True}
)
consumer.subscribe([sums.name])
found = []
while (message := consumer.poll(60)) is not None:
    if (error := message.error()) is not None:
        if error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
            break
        continue
    window = json.loads(message.value())
    found.append([message.key().decode(), window["start"], window["value"]])
consumer.close()
print(json.dumps({"module": confluent_kafka.__name__, "found": sorted(found), "expected": WINDOWS}))

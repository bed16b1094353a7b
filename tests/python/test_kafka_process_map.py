"""One stuck record beside fifty thousand done ones on a real Kafka: what a restart after SIGKILL repeats, with the map of what is
done in the commit's metadata, and where the map is too long for its limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from services import ProcessService, known_to_group

from harness.kafka import KafkaCluster

RECORDS = 50_001
STUCK = "0"
# No map is as short: it is left out of every commit.
TOO_FEW_BYTES = 16
CLASSIC = {"group.protocol": "classic", "session.timeout.ms": 6000}
KIP_848 = {"group.protocol": "consumer"}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("config", "map_bytes"), [(KIP_848, 4096), (CLASSIC, TOO_FEW_BYTES)], ids=["map", "limit exceeded"])
def test_a_killed_member_with_one_stuck_record(
    kafka: KafkaCluster,
    fresh_topic: Callable[..., str],
    fresh_group: str,
    tmp_path: Path,
    say: Callable[[str], None],
    config: dict[str, object],
    map_bytes: int,
) -> None:
    topic = fresh_topic(partitions=1)
    kafka.produce(topic, [str(number).encode() for number in range(RECORDS)], [b"key-%d" % number for number in range(RECORDS)])
    process = {"max_in_flight": 100, "offset_map_bytes": map_bytes}
    options = {"config": config, "process": process}

    def known() -> int:
        """How many records the group has as done beyond its offset."""
        offset, done = known_to_group(kafka, fresh_group, topic)[0]
        assert offset == 0, "the stuck record was passed"
        return sum(end - start for start, end in done)

    with ProcessService(kafka.bootstrap_servers, fresh_group, topic, tmp_path / "first", stuck=[STUCK], **options) as service:
        service.wait_handled(lambda handled: len(handled) == RECORDS - 1)
        if map_bytes == TOO_FEW_BYTES:
            service.child.wait_for_line("left out of commits")
        else:
            kafka.await_state("a commit with all that is done", lambda: known() == RECORDS - 1)
        service.child.kill()
    beyond = known()
    with ProcessService(kafka.bootstrap_servers, fresh_group, topic, tmp_path / "second", **options) as service:
        kafka.await_state("everything committed", lambda: kafka.committed(fresh_group, topic) == {0: RECORDS}, timeout=90)
        again = [handled.offset for handled in service.handled()]
        ledger = service.leave()
    repeated = len(again) - 1
    lost = RECORDS - len({handled.offset for handled in service.handled()}) - ledger["skipped"]
    say(
        f"map of at most {map_bytes} B: {RECORDS - 1} done beside one stuck, {beyond} known to the group, "
        f"{repeated} repeated, {lost} lost"
    )
    assert ledger["missing"] == 0
    assert lost == 0
    if map_bytes == TOO_FEW_BYTES:
        assert sorted(again) == list(range(RECORDS))
    else:
        assert again == [int(STUCK)]
        assert ledger["skipped"] == RECORDS - 1

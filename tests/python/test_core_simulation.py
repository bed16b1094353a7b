"""`_core._Simulation`: the engine of `process()` in virtual time, as Python sees it."""

from __future__ import annotations

import pytest

from tidegate import _core


def test_one_stuck_record_is_all_that_a_restart_repeats() -> None:
    simulation = _core._Simulation(order="none", max_in_flight=1000)
    for number in range(500):
        simulation.produce(0, None, str(number).encode())
    simulation.assign([0])
    works = simulation.take(1000)
    assert [record.offset for _, _, record in works] == list(range(500))
    simulation.settle([ticket for ticket, _, _ in works[1:]])
    assert simulation.commit()
    committed = simulation.committed(0)
    assert committed is not None and committed[1] is not None
    assert (committed[0], _core._offset_map(committed[1])) == (0, (0, None, [(1, 500)]))
    simulation.crash()
    simulation.assign([0])
    assert [record.value for _, _, record in simulation.take(1000)] == [b"0"]
    assert simulation.ledger()["skipped"] == 499


def test_deadlines_retries_and_dead_letters_happen_in_virtual_time() -> None:
    simulation = _core._Simulation(dead_letters=True, attempt_timeout=2.0, max_attempts=2, backoff=1.0)
    simulation.produce(0, b"camera", b"frame")
    simulation.assign([0])
    ((first, attempts, _),) = simulation.take(1)
    assert attempts == 0 and simulation.next_due() == 2.0
    simulation.advance(2.0)
    assert simulation.ledger()["overdue"] == 1
    simulation.settle([first])
    simulation.advance(2.0)
    ((second, attempts, _),) = simulation.take(1)
    assert attempts == 1
    simulation.fail(second, "ValueError", "no such camera", False)
    assert simulation.dead_letters() == [(0, 0, "ValueError", "no such camera", 2)]
    assert simulation.ledger()["missing"] == 0


def test_wrong_options_are_told() -> None:
    with pytest.raises(TypeError, match="speed"):
        _core._Simulation(speed=3)
    with pytest.raises(ValueError, match="max_in_flight"):
        _core._Simulation(max_in_flight=0)

"""Tests of code that is to run under `Consumer.process`: a consumer group in virtual time, without a broker.

    >>> from tidegate.testing import Simulation
    >>> def test_no_assessment_is_lost():
    ...     with Simulation(partitions=4, max_in_flight=100, seed=7) as sim:
    ...         sim.handler(assess)
    ...         sim.fill(1000, keys=50)
    ...         sim.crash(at=30)
    ...         sim.commit_outage(20, at=40)
    ...         sim.run().assert_all_handled()

See `Simulation`, and docs/testing.md.
"""

from __future__ import annotations

from tidegate.testing._result import Completion, DeadLetter, Result
from tidegate.testing._simulation import Simulation, SimulationError

__all__ = ["Completion", "DeadLetter", "Result", "Simulation", "SimulationError"]

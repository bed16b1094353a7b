"""Creates the pipeline's topics. Blocks; any thread."""

from __future__ import annotations

from tidegate import _core
from tidegate.pipeline.messages import TOPICS

__all__ = ["EXISTS", "init_topics"]

EXISTS = "exists"
"""What `init_topics` says of a topic that was there before."""

CREATED = "created"
"""What `init_topics` says of a topic it has created."""


def init_topics(bootstrap_servers: str, partitions: int = 12, *, prefix: str = "", timeout: float = 30.0) -> dict[str, str]:
    """Create the pipeline's three topics where they do not exist yet; an existing one is left as it is.

    Returns, for each topic, `created`, `exists`, or the text of what went wrong.

    Raises:
        tidegate.TidegateError: the cluster cannot be reached within `timeout` seconds.
    """
    names = [prefix + name for name in TOPICS]
    with _core.Admin({"bootstrap.servers": bootstrap_servers}) as admin:
        outcomes = admin.create_topics(dict.fromkeys(names, partitions), timeout=timeout)
    return {name: _outcome(outcomes.get(name)) for name in names}


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return CREATED
    return EXISTS if getattr(error, "kafka_name", None) == "TOPIC_ALREADY_EXISTS" else str(error)

"""Share consumers (KIP-932) need a newer librdkafka than the one that is linked: the classes exist and say so when used."""

from __future__ import annotations

from typing import Any, NoReturn

from tidegate import _core
from tidegate.confluent._errors import KafkaError, KafkaException


class ShareConsumer:
    """A consumer of a share group. Not available with the librdkafka that is linked.

    Raises:
        KafkaException: always, with `_UNSUPPORTED_FEATURE`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Says that share groups are not available."""
        raise _unsupported(cls.__name__)


class DeserializingShareConsumer(ShareConsumer):
    """A share consumer that deserializes. Not available with the librdkafka that is linked.

    Raises:
        KafkaException: always, with `_UNSUPPORTED_FEATURE`.
    """


def _unsupported(name: str) -> KafkaException:
    return KafkaException(
        KafkaError(
            KafkaError._UNSUPPORTED_FEATURE,
            f"{name}: share groups need a newer librdkafka than {_core.librdkafka_version}, which Tidegate links; "
            "use Consumer with a group.id of its own, or confluent_kafka's ShareConsumer",
        )
    )

"""SASL/SCRAM credentials of users."""

from __future__ import annotations

from tidegate.confluent import _constants as c
from tidegate.confluent._model import OrderedEnum


class ScramMechanism(OrderedEnum):
    """A SASL/SCRAM mechanism."""

    UNKNOWN = c.SCRAM_MECHANISM_UNKNOWN
    SCRAM_SHA_256 = c.SCRAM_MECHANISM_SHA_256
    SCRAM_SHA_512 = c.SCRAM_MECHANISM_SHA_512


class ScramCredentialInfo:
    """A mechanism, and how often it hashes the password."""

    def __init__(self, mechanism: ScramMechanism, iterations: int) -> None:
        self.mechanism = mechanism
        self.iterations = iterations


class UserScramCredentialsDescription:
    """A user's credentials."""

    def __init__(self, user: str, scram_credential_infos: list[ScramCredentialInfo]) -> None:
        self.user = user
        self.scram_credential_infos = scram_credential_infos


class UserScramCredentialAlteration:
    """A change to a user's credentials: an upsertion or a deletion."""

    def __init__(self, user: str) -> None:
        self.user = user


class UserScramCredentialUpsertion(UserScramCredentialAlteration):
    """Makes or replaces a credential. The password is hashed here; without `salt` a random one is used."""

    def __init__(self, user: str, scram_credential_info: ScramCredentialInfo, password: bytes, salt: bytes | None = None) -> None:
        super().__init__(user)
        self.scram_credential_info = scram_credential_info
        self.password = password
        self.salt = salt


class UserScramCredentialDeletion(UserScramCredentialAlteration):
    """Removes a credential."""

    def __init__(self, user: str, mechanism: ScramMechanism) -> None:
        super().__init__(user)
        self.mechanism = mechanism

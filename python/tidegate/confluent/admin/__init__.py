"""Administration of a cluster, as `confluent_kafka.admin`."""

from __future__ import annotations

from tidegate.confluent._constants import CONFIG_SOURCE_DEFAULT_CONFIG as CONFIG_SOURCE_DEFAULT_CONFIG
from tidegate.confluent._constants import CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG as CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG
from tidegate.confluent._constants import (
    CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG as CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG,
)
from tidegate.confluent._constants import CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG as CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG
from tidegate.confluent._constants import CONFIG_SOURCE_GROUP_CONFIG as CONFIG_SOURCE_GROUP_CONFIG
from tidegate.confluent._constants import CONFIG_SOURCE_STATIC_BROKER_CONFIG as CONFIG_SOURCE_STATIC_BROKER_CONFIG
from tidegate.confluent._constants import CONFIG_SOURCE_UNKNOWN_CONFIG as CONFIG_SOURCE_UNKNOWN_CONFIG
from tidegate.confluent._constants import OFFSET_INVALID as OFFSET_INVALID
from tidegate.confluent._constants import RESOURCE_ANY as RESOURCE_ANY
from tidegate.confluent._constants import RESOURCE_BROKER as RESOURCE_BROKER
from tidegate.confluent._constants import RESOURCE_GROUP as RESOURCE_GROUP
from tidegate.confluent._constants import RESOURCE_TOPIC as RESOURCE_TOPIC
from tidegate.confluent._constants import RESOURCE_TRANSACTIONAL_ID as RESOURCE_TRANSACTIONAL_ID
from tidegate.confluent._constants import RESOURCE_UNKNOWN as RESOURCE_UNKNOWN
from tidegate.confluent._errors import KafkaError as KafkaError
from tidegate.confluent._errors import KafkaException as KafkaException

# Names that programs and the original's own tests take from here.
from tidegate.confluent._model import ConsumerGroupState as _ConsumerGroupState  # noqa: F401
from tidegate.confluent._model import ConsumerGroupTopicPartitions as _ConsumerGroupTopicPartitions  # noqa: F401
from tidegate.confluent._model import ConsumerGroupType as _ConsumerGroupType  # noqa: F401
from tidegate.confluent._model import ElectionType as _ElectionType  # noqa: F401
from tidegate.confluent._model import IsolationLevel as _IsolationLevel  # noqa: F401
from tidegate.confluent._model import TopicCollection as _TopicCollection  # noqa: F401
from tidegate.confluent._types import TopicPartition as _TopicPartition  # noqa: F401
from tidegate.confluent.admin._acl import AclBinding as AclBinding
from tidegate.confluent.admin._acl import AclBindingFilter as AclBindingFilter
from tidegate.confluent.admin._acl import AclOperation as AclOperation
from tidegate.confluent.admin._acl import AclPermissionType as AclPermissionType
from tidegate.confluent.admin._client import AdminClient as AdminClient
from tidegate.confluent.admin._config import AlterConfigOpType as AlterConfigOpType
from tidegate.confluent.admin._config import ConfigEntry as ConfigEntry
from tidegate.confluent.admin._config import ConfigResource as ConfigResource
from tidegate.confluent.admin._config import ConfigSource as ConfigSource
from tidegate.confluent.admin._listoffsets import OffsetSpec as OffsetSpec
from tidegate.confluent.admin._new import NewPartitions as NewPartitions
from tidegate.confluent.admin._new import NewTopic as NewTopic
from tidegate.confluent.admin._resource import ResourcePatternType as ResourcePatternType
from tidegate.confluent.admin._resource import ResourceType as ResourceType
from tidegate.confluent.admin._results import BrokerMetadata as BrokerMetadata
from tidegate.confluent.admin._results import ClusterMetadata as ClusterMetadata
from tidegate.confluent.admin._results import ConsumerGroupDescription as ConsumerGroupDescription
from tidegate.confluent.admin._results import ConsumerGroupListing as ConsumerGroupListing
from tidegate.confluent.admin._results import DeletedRecords as DeletedRecords
from tidegate.confluent.admin._results import DescribeClusterResult as DescribeClusterResult
from tidegate.confluent.admin._results import GroupMember as GroupMember
from tidegate.confluent.admin._results import GroupMetadata as GroupMetadata
from tidegate.confluent.admin._results import ListConsumerGroupsResult as ListConsumerGroupsResult
from tidegate.confluent.admin._results import ListOffsetsResultInfo as ListOffsetsResultInfo
from tidegate.confluent.admin._results import MemberAssignment as MemberAssignment
from tidegate.confluent.admin._results import MemberDescription as MemberDescription
from tidegate.confluent.admin._results import PartitionMetadata as PartitionMetadata
from tidegate.confluent.admin._results import TopicDescription as TopicDescription
from tidegate.confluent.admin._results import TopicMetadata as TopicMetadata
from tidegate.confluent.admin._scram import ScramCredentialInfo as ScramCredentialInfo
from tidegate.confluent.admin._scram import ScramMechanism as ScramMechanism
from tidegate.confluent.admin._scram import UserScramCredentialAlteration as UserScramCredentialAlteration
from tidegate.confluent.admin._scram import UserScramCredentialDeletion as UserScramCredentialDeletion
from tidegate.confluent.admin._scram import UserScramCredentialsDescription as UserScramCredentialsDescription
from tidegate.confluent.admin._scram import UserScramCredentialUpsertion as UserScramCredentialUpsertion

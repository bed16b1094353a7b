//! What admin requests are made of and what they come back with, as plain values.
//!
//! Any thread. Numbers are those of Kafka's protocol and of librdkafka, so that every face can name them its own way.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::checks;
use crate::config::IsolationLevel;
use crate::error::{Error, Result};

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$says:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$says])* $variant = $number,)+ }

        impl $name {
            /// Kafka's number.
            #[must_use]
            pub fn number(self) -> i32 {
                self as i32
            }

            /// The value with this number.
            #[must_use]
            pub fn from_number(number: i32) -> Option<$name> {
                match number {
                    $($number => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// The kind of a resource that has a configuration or access rules.
    ResourceType {
        /// Not known.
        Unknown = 0,
        /// In a filter: each.
        Any = 1,
        /// A topic.
        Topic = 2,
        /// A consumer group.
        Group = 3,
        /// A broker, or in access rules the cluster.
        Broker = 4,
        /// A transactional id.
        TransactionalId = 5,
    }
}
numbered! {
    /// How the name of an access rule is compared.
    PatternType {
        /// Not known.
        Unknown = 0,
        /// In a filter: each.
        Any = 1,
        /// In a filter: every rule that would apply to the name.
        Match = 2,
        /// The very name.
        Literal = 3,
        /// Names that begin like this.
        Prefixed = 4,
    }
}
numbered! {
    /// What an access rule is about.
    AclOperation {
        /// Not known.
        Unknown = 0,
        /// In a filter: each.
        Any = 1,
        /// Every operation.
        All = 2,
        /// Reading.
        Read = 3,
        /// Writing.
        Write = 4,
        /// Creating.
        Create = 5,
        /// Deleting.
        Delete = 6,
        /// Altering.
        Alter = 7,
        /// Describing.
        Describe = 8,
        /// What brokers do among themselves.
        ClusterAction = 9,
        /// Describing configurations.
        DescribeConfigs = 10,
        /// Altering configurations.
        AlterConfigs = 11,
        /// Idempotent writing.
        IdempotentWrite = 12,
    }
}
numbered! {
    /// Whether an access rule allows or denies.
    AclPermission {
        /// Not known.
        Unknown = 0,
        /// In a filter: each.
        Any = 1,
        /// Denies.
        Deny = 2,
        /// Allows.
        Allow = 3,
    }
}
numbered! {
    /// What is done to one setting.
    AlterOperation {
        /// Sets it.
        Set = 0,
        /// Back to the default.
        Delete = 1,
        /// Adds to a list.
        Append = 2,
        /// Takes out of a list.
        Subtract = 3,
    }
}
numbered! {
    /// What a consumer group is doing.
    GroupState {
        /// Not known.
        Unknown = 0,
        /// A rebalance begins.
        PreparingRebalance = 1,
        /// A rebalance ends.
        CompletingRebalance = 2,
        /// Its members have their partitions.
        Stable = 3,
        /// It is being removed.
        Dead = 4,
        /// It has no members.
        Empty = 5,
    }
}
numbered! {
    /// Which protocol a consumer group speaks.
    GroupType {
        /// Not known.
        Unknown = 0,
        /// KIP-848's.
        Consumer = 1,
        /// The classic one.
        Classic = 2,
    }
}
numbered! {
    /// A SASL/SCRAM mechanism.
    ScramMechanism {
        /// Not known.
        Unknown = 0,
        /// SCRAM-SHA-256.
        Sha256 = 1,
        /// SCRAM-SHA-512.
        Sha512 = 2,
    }
}
numbered! {
    /// How a leader is elected.
    ElectionType {
        /// The preferred replica.
        Preferred = 0,
        /// Any replica, even one that is behind.
        Unclean = 1,
    }
}

/// How a request is made. The default leaves everything to librdkafka: its timeouts are `socket.timeout.ms`.
#[derive(Debug, Clone, Default)]
pub struct AdminOptions {
    /// How long the whole request may take.
    pub request_timeout: Option<Duration>,
    /// How long the broker may wait until what was asked for is done everywhere; topics, partitions, records and elections.
    pub operation_timeout: Option<Duration>,
    /// Only checks: topics, partitions and configurations.
    pub validate_only: bool,
    /// The broker to ask; configurations.
    pub broker: Option<i32>,
    /// Leaves out offsets of open transactions; group offsets.
    pub require_stable: bool,
    /// Asks as well for what the user may do; topics, groups and the cluster.
    pub authorized_operations: bool,
    /// Only groups in these states.
    pub states: Vec<GroupState>,
    /// Only groups of these types.
    pub types: Vec<GroupType>,
    /// Whose offsets count; offsets of partitions.
    pub isolation: Option<IsolationLevel>,
}

/// A topic to create.
///
/// ```
/// use tidegate::NewTopic;
///
/// let topic = NewTopic::new("detections", 12).replication(3).config("retention.ms", "86400000");
/// assert_eq!(topic.partitions, 12);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; 1 or more.
    pub partitions: i32,
    /// On how many brokers each partition is; -1 takes the cluster's default.
    pub replication: i32,
    /// For each partition the brokers that keep it, instead of a replication factor.
    pub assignment: Vec<Vec<i32>>,
    /// Settings of the topic, such as `retention.ms`.
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the cluster's default replication.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions,
            replication: -1,
            assignment: Vec::new(),
            config: BTreeMap::new(),
        }
    }

    /// Sets the replication factor.
    #[must_use]
    pub fn replication(mut self, replication: i32) -> NewTopic {
        self.replication = replication;
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> NewTopic {
        self.config.insert(name.into(), value.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        checks::topic_name(&self.name)?;
        checks::partition_count(self.partitions)?;
        if self.replication < 1 && self.replication != -1 {
            return Err(Error::argument(
                "replication",
                format!(
                    "topic '{}' cannot be replicated {} times",
                    self.name, self.replication
                ),
                "use 1 or more, or -1 for the cluster's default",
            ));
        }
        Ok(())
    }
}

/// More partitions for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// How many it shall have.
    pub total: i32,
    /// For each new partition the brokers that keep it; empty leaves it to the cluster.
    pub assignment: Vec<Vec<i32>>,
}

/// A partition with an offset, as requests take it and results give it.
#[derive(Debug, Clone)]
pub struct PartitionOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset, or one of librdkafka's logical ones (-1 the end, -2 the beginning, -1001 none).
    pub offset: i64,
    /// The text committed beside it.
    pub metadata: Option<String>,
    /// The leader epoch of the offset.
    pub leader_epoch: Option<i32>,
    /// What went wrong for this partition.
    pub error: Option<Error>,
}

impl PartitionOffset {
    /// A partition and an offset.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: i32, offset: i64) -> PartitionOffset {
        PartitionOffset {
            topic: topic.into(),
            partition,
            offset,
            metadata: None,
            leader_epoch: None,
            error: None,
        }
    }
}

/// Something that has a configuration, and what to do with it.
#[derive(Debug, Clone)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ResourceType,
    /// Its name; of a broker its number.
    pub name: String,
    /// Settings: name, value, and the operation where settings are altered one by one.
    pub settings: Vec<(String, Option<String>, AlterOperation)>,
}

/// A setting of a resource.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` when it has none or is secret.
    pub value: Option<String>,
    /// Where the value is from, Kafka's number.
    pub source: i32,
    /// It cannot be altered.
    pub read_only: bool,
    /// It has its default value.
    pub default: bool,
    /// It is secret.
    pub sensitive: bool,
    /// It is another name, or another source, of the entry it stands in.
    pub synonym: bool,
    /// Other names and sources of this setting.
    pub synonyms: Vec<ConfigEntry>,
}

/// What became of one [`ConfigResource`]; the settings are empty unless they were asked for.
pub type ConfigResult = (ResourceType, String, Result<Vec<ConfigEntry>>);

/// An access rule. As a filter, `None` and `Any` match each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// The kind of resource.
    pub kind: ResourceType,
    /// Its name.
    pub name: Option<String>,
    /// How the name is compared.
    pub pattern: PatternType,
    /// Whom the rule is about: `User:alice`.
    pub principal: Option<String>,
    /// From where; `*` is everywhere.
    pub host: Option<String>,
    /// What is done.
    pub operation: AclOperation,
    /// Allowed or denied.
    pub permission: AclPermission,
}

/// A change to a user's SCRAM credential.
#[derive(Clone)]
pub enum ScramChange {
    /// Makes or replaces one.
    Upsert {
        /// The user.
        user: String,
        /// The mechanism.
        mechanism: ScramMechanism,
        /// How often the password is hashed.
        iterations: i32,
        /// The password; it is hashed here and never sent.
        password: Vec<u8>,
        /// The salt; `None` makes a random one.
        salt: Option<Vec<u8>>,
    },
    /// Removes one.
    Delete {
        /// The user.
        user: String,
        /// The mechanism.
        mechanism: ScramMechanism,
    },
}

impl fmt::Debug for ScramChange {
    /// Without password and salt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScramChange::Upsert {
                user, mechanism, ..
            } => write!(f, "Upsert({user}, {mechanism:?})"),
            ScramChange::Delete { user, mechanism } => write!(f, "Delete({user}, {mechanism:?})"),
        }
    }
}

/// A user's SCRAM credentials: mechanism and iterations of each, or what went wrong.
pub type ScramUser = (String, Result<Vec<(ScramMechanism, i32)>>);

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

/// A partition of a [`TopicDescription`].
#[derive(Debug, Clone)]
pub struct PartitionDescription {
    /// The partition.
    pub id: i32,
    /// Its leader; `None` while it has none.
    pub leader: Option<Node>,
    /// The brokers that keep it.
    pub replicas: Vec<Node>,
    /// Those that are in sync.
    pub in_sync: Vec<Node>,
}

/// A topic in detail.
#[derive(Debug, Clone)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id: the upper and the lower half.
    pub id: (i64, i64),
    /// Kafka's own.
    pub internal: bool,
    /// Its partitions.
    pub partitions: Vec<PartitionDescription>,
    /// What the user may do with it; `None` unless asked for.
    pub operations: Option<Vec<i32>>,
}

/// The cluster.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    /// Its id.
    pub id: Option<String>,
    /// The broker that is its controller.
    pub controller: Option<Node>,
    /// Its brokers.
    pub nodes: Vec<Node>,
    /// What the user may do with it; `None` unless asked for.
    pub operations: Option<Vec<i32>>,
}

/// A group in a list.
#[derive(Debug, Clone)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// It only has offsets; nobody joins it.
    pub simple: bool,
    /// What it is doing.
    pub state: GroupState,
    /// The protocol it speaks.
    pub kind: GroupType,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// `client.id`.
    pub client_id: String,
    /// Where it runs.
    pub host: String,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its partitions.
    pub assignment: Vec<PartitionOffset>,
    /// The partitions it shall have; only with KIP-848.
    pub target: Option<Vec<PartitionOffset>>,
}

/// A group in detail.
#[derive(Debug, Clone)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// It only has offsets.
    pub simple: bool,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The name of the assignor.
    pub assignor: String,
    /// What it is doing.
    pub state: GroupState,
    /// The protocol it speaks.
    pub kind: GroupType,
    /// The broker that coordinates it.
    pub coordinator: Option<Node>,
    /// What the user may do with it; `None` unless asked for.
    pub operations: Option<Vec<i32>>,
}

/// A member of an [`OldGroup`]: id, client id, host, metadata, assignment.
pub type OldMember = (String, String, String, Vec<u8>, Vec<u8>);

/// A group as the old list of groups tells it, metadata and assignments undecoded.
#[derive(Debug, Clone)]
pub struct OldGroup {
    /// The broker: number, host, port.
    pub broker: (i32, String, i32),
    /// Its id.
    pub group: String,
    /// What is wrong with it.
    pub error: Option<Error>,
    /// What it is doing.
    pub state: String,
    /// `consumer`, for groups of consumers.
    pub protocol_type: String,
    /// The assignor.
    pub protocol: String,
    /// Its members.
    pub members: Vec<OldMember>,
}

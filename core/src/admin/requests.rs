//! The requests that are answered later.
//!
//! Any thread; none of them waits, but for [`Admin::metadata`], [`Admin::cluster_id`] and [`Admin::list_all_groups`].

use std::time::Duration;

use super::answer::Answer;
use super::types::{
    Acl, AdminOptions, ClusterDescription, ConfigResource, ConfigResult, ElectionType,
    GroupDescription, GroupListing, NewPartitions, NewTopic, OldGroup, PartitionOffset,
    ScramChange, ScramUser, TopicDescription,
};
use super::{Admin, WHAT};
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::sink::Sink;

/// A result for each name.
type Named<T = ()> = Vec<(String, Result<T>)>;
/// A result for each partition: offset and timestamp.
type ByPartition = Vec<(PartitionOffset, Result<(i64, i64)>)>;

/// librdkafka takes no empty list of these.
fn not_empty<T>(argument: &'static str, list: &[T]) -> Result<()> {
    if list.is_empty() {
        return Err(Error::argument(
            argument,
            "the list is empty",
            "name at least one",
        ));
    }
    Ok(())
}

impl Admin {
    /// Creates topics, with nothing checked before librdkafka and the cluster do; see [`Admin::create_topics`].
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn start_create_topics(
        &self,
        topics: &[NewTopic],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        not_empty("topics", topics)?;
        self.client()?.create_topics(topics, options)
    }

    /// Deletes topics and everything in them; see [`Admin::delete_topics`].
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn start_delete_topics(
        &self,
        topics: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        not_empty("topics", topics)?;
        self.client()?.delete_topics(topics, options)
    }

    /// Gives topics more partitions.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn create_partitions(
        &self,
        topics: &[NewPartitions],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        not_empty("topics", topics)?;
        self.client()?.create_partitions(topics, options)
    }

    /// Describes topics.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_topics(
        &self,
        topics: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named<TopicDescription>>> {
        self.client()?.describe_topics(topics, options)
    }

    /// Deletes the records before these offsets; -1 is the end. The answer has each partition's low watermark, or its error.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn delete_records(
        &self,
        before: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<PartitionOffset>>> {
        self.client()?.delete_records(before, options)
    }

    /// Offsets at the end (-1), the beginning (-2), the largest timestamp (-3), or a timestamp (0 or more), and their timestamps.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn list_offsets(
        &self,
        partitions: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<ByPartition>> {
        self.client()?.list_offsets(partitions, options)
    }

    /// Elects leaders of these partitions, or of all. Each comes back with its error, if it had one.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn elect_leaders(
        &self,
        kind: ElectionType,
        partitions: Option<&[PartitionOffset]>,
        options: &AdminOptions,
    ) -> Result<Answer<Vec<PartitionOffset>>> {
        self.client()?.elect_leaders(kind, partitions, options)
    }

    /// Describes the cluster.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_cluster(&self, options: &AdminOptions) -> Result<Answer<ClusterDescription>> {
        self.client()?.describe_cluster(options)
    }

    /// Reads configurations.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        not_empty("resources", resources)?;
        self.client()?.describe_configs(resources, options)
    }

    /// Replaces configurations: what is not named goes back to its default.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn alter_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        not_empty("resources", resources)?;
        self.client()?.alter_configs(resources, options)
    }

    /// Alters single settings.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn incremental_alter_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        not_empty("resources", resources)?;
        self.client()?.incremental_alter_configs(resources, options)
    }

    /// Lists groups, and what went wrong with brokers that did not tell theirs.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn list_groups(
        &self,
        options: &AdminOptions,
    ) -> Result<Answer<(Vec<GroupListing>, Vec<Error>)>> {
        self.client()?.list_groups(options)
    }

    /// Describes groups.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_groups(
        &self,
        groups: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named<GroupDescription>>> {
        not_empty("groups", groups)?;
        self.client()?.describe_groups(groups, options)
    }

    /// Deletes groups without members.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn delete_groups(
        &self,
        groups: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        not_empty("groups", groups)?;
        self.client()?.delete_groups(groups, options)
    }

    /// A group's committed offsets, of these partitions or of all.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[PartitionOffset]>,
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        self.client()?.group_offsets(group, partitions, options)
    }

    /// Sets committed offsets of a group without members.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        not_empty("offsets", offsets)?;
        self.client()?.alter_group_offsets(group, offsets, options)
    }

    /// Forgets committed offsets of a group.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        not_empty("partitions", partitions)?;
        self.client()?
            .delete_group_offsets(group, partitions, options)
    }

    /// Creates access rules; results in their order.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn create_acls(
        &self,
        acls: &[Acl],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<Result<()>>>> {
        not_empty("acls", acls)?;
        self.client()?.create_acls(acls, options)
    }

    /// The access rules that match.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_acls(&self, filter: &Acl, options: &AdminOptions) -> Result<Answer<Vec<Acl>>> {
        self.client()?.describe_acls(filter, options)
    }

    /// Deletes the access rules that match; for each filter those it deleted.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn delete_acls(
        &self,
        filters: &[Acl],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<Result<Vec<Acl>>>>> {
        not_empty("filters", filters)?;
        self.client()?.delete_acls(filters, options)
    }

    /// SCRAM credentials of these users, or of all when none is named.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn describe_scram(
        &self,
        users: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ScramUser>>> {
        self.client()?.describe_scram(users, options)
    }

    /// Makes, replaces and removes SCRAM credentials; a result for each user.
    ///
    /// # Errors
    /// [`Error::Argument`] for what librdkafka does not take; [`Error::Closed`], [`Error::Forked`]. What the cluster refuses is in the answer.
    pub fn alter_scram(
        &self,
        changes: &[ScramChange],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        not_empty("changes", changes)?;
        self.client()?.alter_scram(changes, options)
    }

    /// Brokers, topics and partitions, of one topic or of all.
    ///
    /// # Errors
    /// [`Error::Kafka`] when no broker answered in time; [`Error::Closed`], [`Error::Forked`].
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        self.client()?.sink.metadata(topic, timeout)
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when no broker told it in time; [`Error::Closed`], [`Error::Forked`].
    pub fn cluster_id(&self, timeout: Duration) -> Result<String> {
        self.client()?
            .sink
            .cluster_id(timeout)?
            .ok_or_else(|| Error::TimedOut {
                what: format!("asking for the cluster's id ({WHAT})"),
                timeout_ms: crate::checks::millis(timeout),
            })
    }

    /// Groups of every protocol type, with what their members keep in them, by the oldest of Kafka's requests.
    ///
    /// # Errors
    /// As [`Admin::metadata`].
    pub fn list_all_groups(&self, group: Option<&str>, timeout: Duration) -> Result<Vec<OldGroup>> {
        self.client()?.old_groups(group, timeout)
    }

    /// Other SASL PLAIN or SCRAM credentials, for connections that are made from now on.
    ///
    /// # Errors
    /// [`Error::Argument`] when librdkafka does not take them; [`Error::Closed`], [`Error::Forked`].
    pub fn set_sasl_credentials(&self, username: &str, password: &str) -> Result<()> {
        self.client()?.set_credentials(username, password)
    }
}

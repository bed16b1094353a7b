//! Requests about topics, partitions and the cluster.

use std::ffi::{CString, c_char};
use std::ptr;

use rdkafka::bindings as rd;

use super::super::answer::Answer;
use super::super::types::{
    AdminOptions, ClusterDescription, ElectionType, NewPartitions, NewTopic, Node,
    PartitionDescription, PartitionOffset, TopicDescription,
};
use super::{Client, Natives, c_text, read, sentence};
use crate::error::{Error, Result};

type Op = rd::rd_kafka_admin_op_t;
type RawEvent = *mut rd::rd_kafka_event_t;

/// A result by name.
pub(in super::super) type Named<T = ()> = Vec<(String, Result<T>)>;

/// A result by partition.
type ByPartition = Vec<(PartitionOffset, Result<(i64, i64)>)>;

fn sizes(broker_ids: &[i32]) -> (Vec<i32>, usize) {
    (broker_ids.to_vec(), broker_ids.len())
}

fn position(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl Client {
    pub(in super::super) fn create_topics(
        &self,
        topics: &[NewTopic],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        let mut natives = Natives::new(rd::rd_kafka_NewTopic_destroy);
        for topic in topics {
            let name = c_text("topic", &topic.name)?;
            // SAFETY: the text is alive, and copied.
            let (native, said) = sentence(|text, size| unsafe {
                rd::rd_kafka_NewTopic_new(
                    name.as_ptr(),
                    topic.partitions,
                    topic.replication,
                    text,
                    size,
                )
            });
            let native = natives.push("topics", native, &said)?;
            for (index, brokers) in topic.assignment.iter().enumerate() {
                let (mut ids, count) = sizes(brokers);
                // SAFETY: the object is alive; so many numbers are there, and copied.
                let (code, said) = sentence(|text, size| unsafe {
                    rd::rd_kafka_NewTopic_set_replica_assignment(
                        native,
                        position(index),
                        ids.as_mut_ptr(),
                        count,
                        text,
                        size,
                    )
                });
                check("replica_assignment", code, &said)?;
            }
            for (name, value) in &topic.config {
                let (name, value) = (c_text("config", name)?, c_text("config", value)?);
                // SAFETY: the object and the texts are alive; they are copied.
                let code = unsafe {
                    rd::rd_kafka_NewTopic_set_config(native, name.as_ptr(), value.as_ptr())
                };
                check("config", code, "")?;
            }
        }
        let count = natives.items.len();
        self.ask(
            "creating topics",
            Op::RD_KAFKA_ADMIN_OP_CREATETOPICS,
            options,
            // SAFETY: handle, objects, options and queue are alive; the objects are copied.
            |rk, options, queue| unsafe {
                rd::rd_kafka_CreateTopics(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_CreateTopics_result(event);
                topic_results(
                    rd::rd_kafka_CreateTopics_result_topics(result, &raw mut count),
                    count,
                )
            },
        )
    }

    pub(in super::super) fn delete_topics(
        &self,
        names: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        let mut natives = Natives::new(rd::rd_kafka_DeleteTopic_destroy);
        for name in names {
            let name = c_text("topic", name)?;
            // SAFETY: the text is alive, and copied.
            let native = unsafe { rd::rd_kafka_DeleteTopic_new(name.as_ptr()) };
            natives.push("topics", native, "")?;
        }
        let count = natives.items.len();
        self.ask(
            "deleting topics",
            Op::RD_KAFKA_ADMIN_OP_DELETETOPICS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DeleteTopics(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DeleteTopics_result(event);
                topic_results(
                    rd::rd_kafka_DeleteTopics_result_topics(result, &raw mut count),
                    count,
                )
            },
        )
    }

    pub(in super::super) fn create_partitions(
        &self,
        topics: &[NewPartitions],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        let mut natives = Natives::new(rd::rd_kafka_NewPartitions_destroy);
        for topic in topics {
            let name = c_text("topic", &topic.topic)?;
            // A negative number becomes one that librdkafka refuses with its range.
            let total = usize::try_from(topic.total).unwrap_or(0);
            // SAFETY: the text is alive, and copied.
            let (native, said) = sentence(|text, size| unsafe {
                rd::rd_kafka_NewPartitions_new(name.as_ptr(), total, text, size)
            });
            let native = natives.push("new_partitions", native, &said)?;
            for (index, brokers) in topic.assignment.iter().enumerate() {
                let (mut ids, count) = sizes(brokers);
                // SAFETY: the object is alive; so many numbers are there, and copied.
                let (code, said) = sentence(|text, size| unsafe {
                    rd::rd_kafka_NewPartitions_set_replica_assignment(
                        native,
                        position(index),
                        ids.as_mut_ptr(),
                        count,
                        text,
                        size,
                    )
                });
                check("replica_assignment", code, &said)?;
            }
        }
        let count = natives.items.len();
        self.ask(
            "creating partitions",
            Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe {
                rd::rd_kafka_CreatePartitions(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_CreatePartitions_result(event);
                let topics = rd::rd_kafka_CreatePartitions_result_topics(result, &raw mut count);
                topic_results(topics, count)
            },
        )
    }

    pub(in super::super) fn delete_records(
        &self,
        before: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<PartitionOffset>>> {
        let list = read::native_partitions(before)?;
        let mut natives = Natives::new(rd::rd_kafka_DeleteRecords_destroy);
        // SAFETY: the list is alive, and copied.
        let native = unsafe { rd::rd_kafka_DeleteRecords_new(list.items[0]) };
        natives.push("partitions", native, "")?;
        self.ask(
            "deleting records",
            Op::RD_KAFKA_ADMIN_OP_DELETERECORDS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DeleteRecords(rk, natives.pointer(), 1, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let result = rd::rd_kafka_event_DeleteRecords_result(event);
                read::partitions(rd::rd_kafka_DeleteRecords_result_offsets(result))
            },
        )
    }

    pub(in super::super) fn list_offsets(
        &self,
        partitions: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<ByPartition>> {
        let list = read::native_partitions(partitions)?;
        self.ask(
            "listing offsets",
            Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe {
                rd::rd_kafka_ListOffsets(rk, list.items[0], options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_ListOffsets_result(event);
                let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
                let one = |info: &*const rd::rd_kafka_ListOffsetsResultInfo_t| {
                    let place = rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
                    let mut place = read::partition(place);
                    let at = (
                        place.offset,
                        rd::rd_kafka_ListOffsetsResultInfo_timestamp(*info),
                    );
                    let outcome = place.error.take().map_or(Ok(at), Err);
                    (place, outcome)
                };
                read::array(infos, count).iter().map(one).collect()
            },
        )
    }

    pub(in super::super) fn elect_leaders(
        &self,
        kind: ElectionType,
        partitions: Option<&[PartitionOffset]>,
        options: &AdminOptions,
    ) -> Result<Answer<Vec<PartitionOffset>>> {
        let list = partitions.map(read::native_partitions).transpose()?;
        let list = list.as_ref().map_or(ptr::null_mut(), |list| list.items[0]);
        let mut natives = Natives::new(rd::rd_kafka_ElectLeaders_destroy);
        // SAFETY: the list, where there is one, is alive, and copied.
        let native = unsafe { rd::rd_kafka_ElectLeaders_new(read::election(kind), list) };
        let native = natives.push("partitions", native, "")?;
        self.ask(
            "electing leaders",
            Op::RD_KAFKA_ADMIN_OP_ELECTLEADERS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe { rd::rd_kafka_ElectLeaders(rk, native, options, queue) },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_ElectLeaders_result(event);
                let places = rd::rd_kafka_ElectLeaders_result_partitions(result, &raw mut count);
                let one = |one: &*const rd::rd_kafka_topic_partition_result_t| {
                    let place = rd::rd_kafka_topic_partition_result_partition(*one);
                    let mut place = read::partition(place);
                    place.error = read::error_of(rd::rd_kafka_topic_partition_result_error(*one));
                    place
                };
                read::array(places, count).iter().map(one).collect()
            },
        )
    }

    pub(in super::super) fn describe_topics(
        &self,
        names: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named<TopicDescription>>> {
        let names = c_texts("topics", names)?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut natives = Natives::new(rd::rd_kafka_TopicCollection_destroy);
        // SAFETY: so many texts are alive, and copied.
        let native = unsafe {
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len())
        };
        let native = natives.push("topics", native, "")?;
        self.ask(
            "describing topics",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe { rd::rd_kafka_DescribeTopics(rk, native, options, queue) },
            described_topics,
        )
    }

    pub(in super::super) fn describe_cluster(
        &self,
        options: &AdminOptions,
    ) -> Result<Answer<ClusterDescription>> {
        self.ask(
            "describing the cluster",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER,
            options,
            // SAFETY: as in `create_topics`.
            |rk, options, queue| unsafe { rd::rd_kafka_DescribeCluster(rk, options, queue) },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let result = rd::rd_kafka_event_DescribeCluster_result(event);
                let (mut nodes, mut allowed) = (0, 0);
                let all = rd::rd_kafka_DescribeCluster_result_nodes(result, &raw mut nodes);
                let operations = rd::rd_kafka_DescribeCluster_result_authorized_operations(
                    result,
                    &raw mut allowed,
                );
                ClusterDescription {
                    id: read::maybe(rd::rd_kafka_DescribeCluster_result_cluster_id(result)),
                    controller: read::node(rd::rd_kafka_DescribeCluster_result_controller(result)),
                    nodes: all_nodes(all, nodes),
                    operations: read::operations(operations, allowed),
                }
            },
        )
    }
}

/// Texts that live until the call is made.
pub(super) fn c_texts(argument: &'static str, texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().map(|text| c_text(argument, text)).collect()
}

fn check(argument: &'static str, code: rd::rd_kafka_resp_err_t, said: &str) -> Result<()> {
    match read::error(code, said.to_string()) {
        None => Ok(()),
        Some(Error::Kafka { context, .. }) => Err(Error::argument(argument, context, "correct it")),
        Some(other) => Err(other),
    }
}

/// # Safety
///
/// So many results of a live event.
unsafe fn topic_results(first: *mut *const rd::rd_kafka_topic_result_t, count: usize) -> Named {
    // SAFETY: by contract.
    unsafe {
        let one = |one: &*const rd::rd_kafka_topic_result_t| {
            let code = rd::rd_kafka_topic_result_error(*one);
            let said = read::text(rd::rd_kafka_topic_result_error_string(*one));
            let name = read::text(rd::rd_kafka_topic_result_name(*one));
            (name, read::error(code, said).map_or(Ok(()), Err))
        };
        read::array(first, count).iter().map(one).collect()
    }
}

/// # Safety
///
/// So many nodes of a live event.
unsafe fn all_nodes(first: *mut *const rd::rd_kafka_Node_t, count: usize) -> Vec<Node> {
    // SAFETY: by contract.
    unsafe {
        read::array(first, count)
            .iter()
            .filter_map(|node| read::node(*node))
            .collect()
    }
}

/// # Safety
///
/// An event of DescribeTopics.
unsafe fn described_topics(event: RawEvent) -> Named<TopicDescription> {
    // SAFETY: by contract; everything in the event lives as long as it.
    unsafe {
        let mut count = 0;
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let partition = |native: &*const rd::rd_kafka_TopicPartitionInfo_t| {
            let (mut kept, mut synced) = (0, 0);
            let replicas = rd::rd_kafka_TopicPartitionInfo_replicas(*native, &raw mut kept);
            let in_sync = rd::rd_kafka_TopicPartitionInfo_isr(*native, &raw mut synced);
            PartitionDescription {
                id: rd::rd_kafka_TopicPartitionInfo_partition(*native),
                leader: read::node(rd::rd_kafka_TopicPartitionInfo_leader(*native)),
                replicas: all_nodes(replicas, kept),
                in_sync: all_nodes(in_sync, synced),
            }
        };
        let topic = |native: &*const rd::rd_kafka_TopicDescription_t| {
            let native = *native;
            let name = read::text(rd::rd_kafka_TopicDescription_name(native));
            if let Some(error) = read::error_of(rd::rd_kafka_TopicDescription_error(native)) {
                return (name, Err(error));
            }
            let (mut parts, mut allowed) = (0, 0);
            let id = rd::rd_kafka_TopicDescription_topic_id(native);
            let all = rd::rd_kafka_TopicDescription_partitions(native, &raw mut parts);
            let operations =
                rd::rd_kafka_TopicDescription_authorized_operations(native, &raw mut allowed);
            let description = TopicDescription {
                name: name.clone(),
                id: (
                    rd::rd_kafka_Uuid_most_significant_bits(id),
                    rd::rd_kafka_Uuid_least_significant_bits(id),
                ),
                internal: rd::rd_kafka_TopicDescription_is_internal(native) != 0,
                partitions: read::array(all, parts).iter().map(partition).collect(),
                operations: read::operations(operations, allowed),
            };
            (name, Ok(description))
        };
        read::array(topics, count).iter().map(topic).collect()
    }
}

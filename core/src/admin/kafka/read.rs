//! librdkafka's texts, lists and errors as plain values, and numbers as its enums.
//!
//! The admin client's thread, while an event is alive, and callers with what they were given. Everything is copied.

use std::ffi::{CString, c_int};
use std::ptr;

use rdkafka::bindings as rd;

use super::super::types::{
    AclOperation, AclPermission, AlterOperation, ElectionType, GroupState, GroupType, Node,
    PartitionOffset, PatternType, ResourceType, ScramMechanism,
};
use super::{Natives, c_text};
use crate::error::{Error, Result};
use crate::kafka_code;
pub(super) use crate::native::read::{array, counted, maybe, text};

/// An error with librdkafka's own sentence, without the context that other errors of ours have: faces show it as it is.
pub(super) fn error(code: rd::rd_kafka_resp_err_t, reason: String) -> Option<Error> {
    if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    let code = kafka_code::from_number(code as i32);
    let context = if reason.is_empty() {
        code.description().to_string()
    } else {
        reason
    };
    Some(Error::Kafka { code, context })
}

/// The error in an object, which keeps it.
///
/// # Safety
///
/// NULL, or alive.
pub(super) unsafe fn error_of(native: *const rd::rd_kafka_error_t) -> Option<Error> {
    if native.is_null() {
        return None;
    }
    // SAFETY: by contract.
    unsafe {
        error(
            rd::rd_kafka_error_code(native),
            text(rd::rd_kafka_error_string(native)),
        )
    }
}

/// A broker; `None` for NULL.
///
/// # Safety
///
/// NULL, or alive.
pub(super) unsafe fn node(native: *const rd::rd_kafka_Node_t) -> Option<Node> {
    if native.is_null() {
        return None;
    }
    // SAFETY: by contract.
    unsafe {
        Some(Node {
            id: rd::rd_kafka_Node_id(native),
            host: text(rd::rd_kafka_Node_host(native)),
            port: i32::from(rd::rd_kafka_Node_port(native)),
            rack: maybe(rd::rd_kafka_Node_rack(native)),
        })
    }
}

/// Operations as numbers; `None` where they were not asked for.
///
/// # Safety
///
/// NULL, or so many.
pub(super) unsafe fn operations(
    first: *const rd::rd_kafka_AclOperation_t,
    count: usize,
) -> Option<Vec<i32>> {
    if first.is_null() {
        return None;
    }
    // SAFETY: by contract.
    let operations = unsafe { array(first, count) };
    Some(operations.iter().map(|op| *op as i32).collect())
}

/// A partition of a list.
///
/// # Safety
///
/// Alive.
pub(super) unsafe fn partition(native: *const rd::rd_kafka_topic_partition_t) -> PartitionOffset {
    // SAFETY: by contract; metadata is as long as it says.
    unsafe {
        let fields = &*native;
        let metadata = array(fields.metadata.cast::<u8>(), fields.metadata_size);
        let epoch = rd::rd_kafka_topic_partition_get_leader_epoch(native);
        PartitionOffset {
            topic: text(fields.topic),
            partition: fields.partition,
            offset: fields.offset,
            metadata: (!fields.metadata.is_null())
                .then(|| String::from_utf8_lossy(metadata).into_owned()),
            leader_epoch: (epoch >= 0).then_some(epoch),
            error: error(fields.err, String::new()),
        }
    }
}

/// A list of partitions; empty for NULL.
///
/// # Safety
///
/// NULL, or alive.
pub(super) unsafe fn partitions(
    list: *const rd::rd_kafka_topic_partition_list_t,
) -> Vec<PartitionOffset> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: by contract.
    unsafe {
        counted((*list).elems, (*list).cnt)
            .iter()
            .map(|native| partition(native))
            .collect()
    }
}

/// A list of partitions for librdkafka.
pub(super) fn native_partitions(
    partitions: &[PartitionOffset],
) -> Result<Natives<rd::rd_kafka_topic_partition_list_t>> {
    let count = c_int::try_from(partitions.len()).unwrap_or(c_int::MAX);
    let mut natives = Natives::new(rd::rd_kafka_topic_partition_list_destroy);
    // SAFETY: a new list, which is ours.
    let list = natives.push(
        "partitions",
        unsafe { rd::rd_kafka_topic_partition_list_new(count) },
        "",
    )?;
    for place in partitions {
        let topic = c_text("partitions", &place.topic)?;
        let metadata = place
            .metadata
            .as_deref()
            .map(|text| c_text("metadata", text));
        let metadata = metadata.transpose()?;
        // SAFETY: the list and the text are alive; the element is until the next is added; metadata is malloc'ed, as librdkafka frees it.
        unsafe {
            let element =
                rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), place.partition);
            (*element).offset = place.offset;
            if let Some(epoch) = place.leader_epoch {
                rd::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
            }
            if let Some(metadata) = metadata {
                set_metadata(element, &metadata);
            }
        }
    }
    Ok(natives)
}

/// Gives a partition its metadata.
///
/// # Safety
///
/// The element is alive and has none.
unsafe fn set_metadata(element: *mut rd::rd_kafka_topic_partition_t, metadata: &CString) {
    let bytes = metadata.as_bytes();
    // SAFETY: so many bytes are there; librdkafka's own allocation, which its list frees.
    unsafe {
        let copy = rd::rd_kafka_mem_malloc(ptr::null_mut(), bytes.len().max(1));
        if !copy.is_null() {
            ptr::copy_nonoverlapping(bytes.as_ptr(), copy.cast(), bytes.len());
            (*element).metadata = copy;
            (*element).metadata_size = bytes.len();
        }
    }
}

macro_rules! native {
    ($function:ident: $ours:ident => $native:ident { $($variant:ident => $constant:ident,)+ }) => {
        pub(super) fn $function(value: $ours) -> rd::$native {
            match value {
                $($ours::$variant => rd::$native::$constant,)+
            }
        }
    };
}

native! { resource: ResourceType => rd_kafka_ResourceType_t {
    Unknown => RD_KAFKA_RESOURCE_UNKNOWN,
    Any => RD_KAFKA_RESOURCE_ANY,
    Topic => RD_KAFKA_RESOURCE_TOPIC,
    Group => RD_KAFKA_RESOURCE_GROUP,
    Broker => RD_KAFKA_RESOURCE_BROKER,
    TransactionalId => RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
} }
native! { pattern: PatternType => rd_kafka_ResourcePatternType_t {
    Unknown => RD_KAFKA_RESOURCE_PATTERN_UNKNOWN,
    Any => RD_KAFKA_RESOURCE_PATTERN_ANY,
    Match => RD_KAFKA_RESOURCE_PATTERN_MATCH,
    Literal => RD_KAFKA_RESOURCE_PATTERN_LITERAL,
    Prefixed => RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
} }
native! { operation: AclOperation => rd_kafka_AclOperation_t {
    Unknown => RD_KAFKA_ACL_OPERATION_UNKNOWN,
    Any => RD_KAFKA_ACL_OPERATION_ANY,
    All => RD_KAFKA_ACL_OPERATION_ALL,
    Read => RD_KAFKA_ACL_OPERATION_READ,
    Write => RD_KAFKA_ACL_OPERATION_WRITE,
    Create => RD_KAFKA_ACL_OPERATION_CREATE,
    Delete => RD_KAFKA_ACL_OPERATION_DELETE,
    Alter => RD_KAFKA_ACL_OPERATION_ALTER,
    Describe => RD_KAFKA_ACL_OPERATION_DESCRIBE,
    ClusterAction => RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION,
    DescribeConfigs => RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
    AlterConfigs => RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
    IdempotentWrite => RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE,
} }
native! { permission: AclPermission => rd_kafka_AclPermissionType_t {
    Unknown => RD_KAFKA_ACL_PERMISSION_TYPE_UNKNOWN,
    Any => RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
    Deny => RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
    Allow => RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
} }
native! { alter: AlterOperation => rd_kafka_AlterConfigOpType_t {
    Set => RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
    Delete => RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE,
    Append => RD_KAFKA_ALTER_CONFIG_OP_TYPE_APPEND,
    Subtract => RD_KAFKA_ALTER_CONFIG_OP_TYPE_SUBTRACT,
} }
native! { state: GroupState => rd_kafka_consumer_group_state_t {
    Unknown => RD_KAFKA_CONSUMER_GROUP_STATE_UNKNOWN,
    PreparingRebalance => RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE,
    CompletingRebalance => RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE,
    Stable => RD_KAFKA_CONSUMER_GROUP_STATE_STABLE,
    Dead => RD_KAFKA_CONSUMER_GROUP_STATE_DEAD,
    Empty => RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY,
} }
native! { kind: GroupType => rd_kafka_consumer_group_type_t {
    Unknown => RD_KAFKA_CONSUMER_GROUP_TYPE_UNKNOWN,
    Consumer => RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER,
    Classic => RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC,
} }
native! { mechanism: ScramMechanism => rd_kafka_ScramMechanism_t {
    Unknown => RD_KAFKA_SCRAM_MECHANISM_UNKNOWN,
    Sha256 => RD_KAFKA_SCRAM_MECHANISM_SHA_256,
    Sha512 => RD_KAFKA_SCRAM_MECHANISM_SHA_512,
} }
native! { election: ElectionType => rd_kafka_ElectionType_t {
    Preferred => RD_KAFKA_ELECTION_TYPE_PREFERRED,
    Unclean => RD_KAFKA_ELECTION_TYPE_UNCLEAN,
} }

//! Requests about consumer groups.

use std::ffi::c_char;
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::super::answer::Answer;
use super::super::types::{
    AdminOptions, GroupDescription, GroupListing, GroupMember, GroupState, GroupType, OldGroup,
    PartitionOffset,
};
use super::topics::{Named, c_texts};
use super::{Client, Natives, c_text, or_null, read};
use crate::error::{Error, Result};
use crate::native::{failed, millis};

type Op = rd::rd_kafka_admin_op_t;
/// Groups, and the errors of brokers that did not tell theirs.
type Listed = (Vec<GroupListing>, Vec<Error>);

impl Client {
    pub(in super::super) fn list_groups(&self, options: &AdminOptions) -> Result<Answer<Listed>> {
        self.ask(
            "listing groups",
            Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS,
            options,
            // SAFETY: handle, options and queue are alive.
            |rk, options, queue| unsafe { rd::rd_kafka_ListConsumerGroups(rk, options, queue) },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let (mut good, mut bad) = (0, 0);
                let result = rd::rd_kafka_event_ListConsumerGroups_result(event);
                let valid = rd::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut good);
                let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut bad);
                let one = |native: &*const rd::rd_kafka_ConsumerGroupListing_t| GroupListing {
                    group: read::text(rd::rd_kafka_ConsumerGroupListing_group_id(*native)),
                    simple: rd::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(*native)
                        != 0,
                    state: state(rd::rd_kafka_ConsumerGroupListing_state(*native) as i32),
                    kind: kind(rd::rd_kafka_ConsumerGroupListing_type(*native) as i32),
                };
                let groups = read::array(valid, good).iter().map(one).collect();
                let errors = read::array(errors, bad).iter();
                (
                    groups,
                    errors.filter_map(|error| read::error_of(*error)).collect(),
                )
            },
        )
    }

    pub(in super::super) fn describe_groups(
        &self,
        groups: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named<GroupDescription>>> {
        let names = c_texts("group_ids", groups)?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        self.ask(
            "describing groups",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            options,
            // SAFETY: as above; so many texts are alive, and copied.
            |rk, options, queue| unsafe {
                let (first, count) = (pointers.as_mut_ptr(), pointers.len());
                rd::rd_kafka_DescribeConsumerGroups(rk, first, count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
                let all = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
                read::array(all, count)
                    .iter()
                    .map(|group| described(*group))
                    .collect()
            },
        )
    }

    pub(in super::super) fn delete_groups(
        &self,
        groups: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        let mut natives = Natives::new(rd::rd_kafka_DeleteGroup_destroy);
        for group in groups {
            let group = c_text("group_ids", group)?;
            // SAFETY: the text is alive, and copied.
            let native = unsafe { rd::rd_kafka_DeleteGroup_new(group.as_ptr()) };
            natives.push("group_ids", native, "")?;
        }
        let count = natives.items.len();
        self.ask(
            "deleting groups",
            Op::RD_KAFKA_ADMIN_OP_DELETEGROUPS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DeleteGroups(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DeleteGroups_result(event);
                let all = rd::rd_kafka_DeleteGroups_result_groups(result, &raw mut count);
                let named = group_results(all, count).into_iter();
                named
                    .map(|(group, outcome)| (group, outcome.map(drop)))
                    .collect()
            },
        )
    }

    pub(in super::super) fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[PartitionOffset]>,
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        let list = partitions.map(read::native_partitions).transpose()?;
        let list = list.as_ref().map_or(ptr::null_mut(), |list| list.items[0]);
        let group = c_text("group_id", group)?;
        let mut natives = Natives::new(rd::rd_kafka_ListConsumerGroupOffsets_destroy);
        // SAFETY: the text and the list, where there is one, are alive, and copied.
        let native = unsafe { rd::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list) };
        natives.push("group_id", native, "")?;
        self.ask(
            "listing a group's offsets",
            Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_ListConsumerGroupOffsets(rk, natives.pointer(), 1, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
                let all =
                    rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
                group_results(all, count)
            },
        )
    }

    pub(in super::super) fn alter_group_offsets(
        &self,
        group: &str,
        partitions: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        let list = read::native_partitions(partitions)?;
        let group = c_text("group_id", group)?;
        let mut natives = Natives::new(rd::rd_kafka_AlterConsumerGroupOffsets_destroy);
        // SAFETY: the text and the list are alive, and copied.
        let native =
            unsafe { rd::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.items[0]) };
        natives.push("group_id", native, "")?;
        self.ask(
            "altering a group's offsets",
            Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_AlterConsumerGroupOffsets(rk, natives.pointer(), 1, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(event);
                let all =
                    rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
                group_results(all, count)
            },
        )
    }

    pub(in super::super) fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[PartitionOffset],
        options: &AdminOptions,
    ) -> Result<Answer<Named<Vec<PartitionOffset>>>> {
        let list = read::native_partitions(partitions)?;
        let group = c_text("group_id", group)?;
        let mut natives = Natives::new(rd::rd_kafka_DeleteConsumerGroupOffsets_destroy);
        // SAFETY: the text and the list are alive, and copied.
        let native =
            unsafe { rd::rd_kafka_DeleteConsumerGroupOffsets_new(group.as_ptr(), list.items[0]) };
        natives.push("group_id", native, "")?;
        self.ask(
            "deleting a group's offsets",
            Op::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DeleteConsumerGroupOffsets(rk, natives.pointer(), 1, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DeleteConsumerGroupOffsets_result(event);
                let all =
                    rd::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count);
                group_results(all, count)
            },
        )
    }

    /// Groups by the old request, of any protocol type; waits.
    pub(in super::super) fn old_groups(
        &self,
        group: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<OldGroup>> {
        let group = group.map(|group| c_text("group", group)).transpose()?;
        let mut list = ptr::null();
        // SAFETY: handle and text are alive; what comes back is ours.
        let code = unsafe {
            rd::rd_kafka_list_groups(
                self.handle(),
                or_null(group.as_ref()),
                &raw mut list,
                millis(timeout),
            )
        };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            if !list.is_null() {
                // SAFETY: ours, given back once; a part of the brokers had answered.
                unsafe { rd::rd_kafka_group_list_destroy(list) };
            }
            return Err(failed(code, "Failed to list groups"));
        }
        // SAFETY: ours until it is given back, below; every array is as long as it says.
        unsafe {
            let groups = read::counted((*list).groups, (*list).group_cnt);
            let groups = groups.iter().map(|group| old_group(group)).collect();
            rd::rd_kafka_group_list_destroy(list);
            Ok(groups)
        }
    }
}

fn state(number: i32) -> GroupState {
    GroupState::from_number(number).unwrap_or(GroupState::Unknown)
}

fn kind(number: i32) -> GroupType {
    GroupType::from_number(number).unwrap_or(GroupType::Unknown)
}

/// # Safety
///
/// So many results of a live event.
unsafe fn group_results(
    first: *mut *const rd::rd_kafka_group_result_t,
    count: usize,
) -> Named<Vec<PartitionOffset>> {
    // SAFETY: by contract.
    unsafe {
        let one = |native: &*const rd::rd_kafka_group_result_t| {
            let group = read::text(rd::rd_kafka_group_result_name(*native));
            let outcome = match read::error_of(rd::rd_kafka_group_result_error(*native)) {
                Some(error) => Err(error),
                None => Ok(read::partitions(rd::rd_kafka_group_result_partitions(
                    *native,
                ))),
            };
            (group, outcome)
        };
        read::array(first, count).iter().map(one).collect()
    }
}

/// # Safety
///
/// Of a live event.
unsafe fn described(
    native: *const rd::rd_kafka_ConsumerGroupDescription_t,
) -> (String, Result<GroupDescription>) {
    // SAFETY: by contract.
    unsafe {
        let group = read::text(rd::rd_kafka_ConsumerGroupDescription_group_id(native));
        if let Some(error) = read::error_of(rd::rd_kafka_ConsumerGroupDescription_error(native)) {
            return (group, Err(error));
        }
        let member = |index: usize| {
            let native = rd::rd_kafka_ConsumerGroupDescription_member(native, index);
            let target = rd::rd_kafka_MemberDescription_target_assignment(native);
            let assigned = rd::rd_kafka_MemberDescription_assignment(native);
            GroupMember {
                id: read::text(rd::rd_kafka_MemberDescription_consumer_id(native)),
                client_id: read::text(rd::rd_kafka_MemberDescription_client_id(native)),
                host: read::text(rd::rd_kafka_MemberDescription_host(native)),
                instance_id: read::maybe(rd::rd_kafka_MemberDescription_group_instance_id(native)),
                assignment: match assigned.is_null() {
                    true => Vec::new(),
                    false => read::partitions(rd::rd_kafka_MemberAssignment_partitions(assigned)),
                },
                target: (!target.is_null())
                    .then(|| read::partitions(rd::rd_kafka_MemberAssignment_partitions(target))),
            }
        };
        let members = rd::rd_kafka_ConsumerGroupDescription_member_count(native);
        let mut allowed = 0;
        let operations =
            rd::rd_kafka_ConsumerGroupDescription_authorized_operations(native, &raw mut allowed);
        let coordinator = rd::rd_kafka_ConsumerGroupDescription_coordinator(native);
        let assignor = rd::rd_kafka_ConsumerGroupDescription_partition_assignor(native);
        let description = GroupDescription {
            group: group.clone(),
            simple: rd::rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(native) != 0,
            members: (0..members).map(member).collect(),
            assignor: read::text(assignor),
            state: state(rd::rd_kafka_ConsumerGroupDescription_state(native) as i32),
            kind: kind(rd::rd_kafka_ConsumerGroupDescription_type(native) as i32),
            coordinator: read::node(coordinator),
            operations: read::operations(operations, allowed),
        };
        (group, Ok(description))
    }
}

/// # Safety
///
/// Alive.
unsafe fn old_group(native: &rd::rd_kafka_group_info) -> OldGroup {
    // SAFETY: by contract; every array is as long as it says.
    unsafe {
        let bytes = |first: *mut std::ffi::c_void, count: i32| {
            let count = usize::try_from(count).unwrap_or(0);
            if first.is_null() || count == 0 {
                return Vec::new();
            }
            slice::from_raw_parts(first.cast::<u8>(), count).to_vec()
        };
        let member = |member: &rd::rd_kafka_group_member_info| {
            (
                read::text(member.member_id),
                read::text(member.client_id),
                read::text(member.client_host),
                bytes(member.member_metadata, member.member_metadata_size),
                bytes(member.member_assignment, member.member_assignment_size),
            )
        };
        let members = read::counted(native.members, native.member_cnt);
        OldGroup {
            broker: (
                native.broker.id,
                read::text(native.broker.host),
                native.broker.port,
            ),
            group: read::text(native.group),
            error: read::error(native.err, String::new()),
            state: read::text(native.state),
            protocol_type: read::text(native.protocol_type),
            protocol: read::text(native.protocol),
            members: members.iter().map(member).collect(),
        }
    }
}

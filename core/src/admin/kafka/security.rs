//! Requests about access rules and SCRAM credentials, and the client's own credentials.

use std::ffi::c_char;
use std::ptr;

use rdkafka::bindings as rd;

use super::super::answer::Answer;
use super::super::types::{
    Acl, AclOperation, AclPermission, AdminOptions, PatternType, ResourceType, ScramChange,
    ScramMechanism, ScramUser,
};
use super::topics::{Named, c_texts};
use super::{Client, Natives, c_text, or_null, read, sentence};
use crate::error::Result;
use crate::sink::Sink;

type Op = rd::rd_kafka_admin_op_t;
type Acls = Natives<rd::rd_kafka_AclBinding_t>;

/// Rules, or filters, which librdkafka keeps in the same kind of object.
fn natives(argument: &'static str, acls: &[Acl], filter: bool) -> Result<Acls> {
    let make = if filter {
        rd::rd_kafka_AclBindingFilter_new
    } else {
        rd::rd_kafka_AclBinding_new
    };
    let mut natives = Natives::new(rd::rd_kafka_AclBinding_destroy);
    for acl in acls {
        let text = |text: &Option<String>| {
            text.as_deref()
                .map(|text| c_text(argument, text))
                .transpose()
        };
        let (name, principal, host) = (text(&acl.name)?, text(&acl.principal)?, text(&acl.host)?);
        // SAFETY: the texts are alive, and copied.
        let (native, said) = sentence(|text, size| unsafe {
            make(
                read::resource(acl.kind),
                or_null(name.as_ref()),
                read::pattern(acl.pattern),
                or_null(principal.as_ref()),
                or_null(host.as_ref()),
                read::operation(acl.operation),
                read::permission(acl.permission),
                text,
                size,
            )
        });
        natives.push(argument, native, &said)?;
    }
    Ok(natives)
}

impl Client {
    pub(in super::super) fn create_acls(
        &self,
        acls: &[Acl],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<Result<()>>>> {
        let mut natives = natives("acls", acls, false)?;
        let count = natives.items.len();
        self.ask(
            "creating access rules",
            Op::RD_KAFKA_ADMIN_OP_CREATEACLS,
            options,
            // SAFETY: handle, objects, options and queue are alive; the objects are copied.
            |rk, options, queue| unsafe {
                rd::rd_kafka_CreateAcls(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_CreateAcls_result(event);
                let all = rd::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
                let one = |one: &*const rd::rd_kafka_acl_result_t| {
                    let error = rd::rd_kafka_acl_result_error(*one);
                    read::error_of(error).map_or(Ok(()), Err)
                };
                read::array(all, count).iter().map(one).collect()
            },
        )
    }

    pub(in super::super) fn describe_acls(
        &self,
        filter: &Acl,
        options: &AdminOptions,
    ) -> Result<Answer<Vec<Acl>>> {
        let natives = natives("acl_binding_filter", std::slice::from_ref(filter), true)?;
        self.ask(
            "describing access rules",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBEACLS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DescribeAcls(rk, natives.items[0], options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeAcls_result(event);
                rules(
                    rd::rd_kafka_DescribeAcls_result_acls(result, &raw mut count),
                    count,
                )
            },
        )
    }

    pub(in super::super) fn delete_acls(
        &self,
        filters: &[Acl],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<Result<Vec<Acl>>>>> {
        let mut natives = natives("acl_binding_filters", filters, true)?;
        let count = natives.items.len();
        self.ask(
            "deleting access rules",
            Op::RD_KAFKA_ADMIN_OP_DELETEACLS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DeleteAcls(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DeleteAcls_result(event);
                let all = rd::rd_kafka_DeleteAcls_result_responses(result, &raw mut count);
                let one = |one: &*const rd::rd_kafka_DeleteAcls_result_response_t| {
                    let error = rd::rd_kafka_DeleteAcls_result_response_error(*one);
                    if let Some(error) = read::error_of(error) {
                        return Err(error);
                    }
                    let mut count = 0;
                    let matching =
                        rd::rd_kafka_DeleteAcls_result_response_matching_acls(*one, &raw mut count);
                    Ok(rules(matching, count))
                };
                read::array(all, count).iter().map(one).collect()
            },
        )
    }

    pub(in super::super) fn describe_scram(
        &self,
        users: &[String],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ScramUser>>> {
        let names = c_texts("users", users)?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        self.ask(
            "describing SCRAM credentials",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBEUSERSCRAMCREDENTIALS,
            options,
            // SAFETY: as above; so many texts are alive, and copied.
            |rk, options, queue| unsafe {
                let (first, count) = match pointers.is_empty() {
                    true => (ptr::null_mut(), 0),
                    false => (pointers.as_mut_ptr(), pointers.len()),
                };
                rd::rd_kafka_DescribeUserScramCredentials(rk, first, count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeUserScramCredentials_result(event);
                let all = rd::rd_kafka_DescribeUserScramCredentials_result_descriptions(
                    result,
                    &raw mut count,
                );
                read::array(all, count)
                    .iter()
                    .map(|user| scram_user(*user))
                    .collect()
            },
        )
    }

    pub(in super::super) fn alter_scram(
        &self,
        changes: &[ScramChange],
        options: &AdminOptions,
    ) -> Result<Answer<Named>> {
        let mut natives = Natives::new(rd::rd_kafka_UserScramCredentialAlteration_destroy);
        for change in changes {
            // SAFETY: texts and bytes are alive, and copied.
            let native = unsafe {
                match change {
                    ScramChange::Upsert {
                        user,
                        mechanism,
                        iterations,
                        password,
                        salt,
                    } => {
                        let user = c_text("user", user)?;
                        let salt = salt.as_deref().unwrap_or_default();
                        rd::rd_kafka_UserScramCredentialUpsertion_new(
                            user.as_ptr(),
                            read::mechanism(*mechanism),
                            *iterations,
                            password.as_ptr(),
                            password.len(),
                            if salt.is_empty() {
                                ptr::null()
                            } else {
                                salt.as_ptr()
                            },
                            salt.len(),
                        )
                    }
                    ScramChange::Delete { user, mechanism } => {
                        let user = c_text("user", user)?;
                        let mechanism = read::mechanism(*mechanism);
                        rd::rd_kafka_UserScramCredentialDeletion_new(user.as_ptr(), mechanism)
                    }
                }
            };
            natives.push("alterations", native, "")?;
        }
        let count = natives.items.len();
        self.ask(
            "altering SCRAM credentials",
            Op::RD_KAFKA_ADMIN_OP_ALTERUSERSCRAMCREDENTIALS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_AlterUserScramCredentials(
                    rk,
                    natives.pointer(),
                    count,
                    options,
                    queue,
                );
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_AlterUserScramCredentials_result(event);
                let all =
                    rd::rd_kafka_AlterUserScramCredentials_result_responses(result, &raw mut count);
                let one =
                    |one: &*const rd::rd_kafka_AlterUserScramCredentials_result_response_t| {
                        let user =
                            rd::rd_kafka_AlterUserScramCredentials_result_response_user(*one);
                        let error =
                            rd::rd_kafka_AlterUserScramCredentials_result_response_error(*one);
                        (read::text(user), read::error_of(error).map_or(Ok(()), Err))
                    };
                read::array(all, count).iter().map(one).collect()
            },
        )
    }

    pub(in super::super) fn set_credentials(&self, user: &str, password: &str) -> Result<()> {
        self.sink.set_sasl_credentials(user, password)
    }
}

/// # Safety
///
/// So many rules of a live event.
unsafe fn rules(first: *mut *const rd::rd_kafka_AclBinding_t, count: usize) -> Vec<Acl> {
    // SAFETY: by contract.
    unsafe {
        let one = |native: &*const rd::rd_kafka_AclBinding_t| {
            let native = *native;
            let kind = rd::rd_kafka_AclBinding_restype(native) as i32;
            let pattern = rd::rd_kafka_AclBinding_resource_pattern_type(native) as i32;
            let operation = rd::rd_kafka_AclBinding_operation(native) as i32;
            let permission = rd::rd_kafka_AclBinding_permission_type(native) as i32;
            Acl {
                kind: ResourceType::from_number(kind).unwrap_or(ResourceType::Unknown),
                name: read::maybe(rd::rd_kafka_AclBinding_name(native)),
                pattern: PatternType::from_number(pattern).unwrap_or(PatternType::Unknown),
                principal: read::maybe(rd::rd_kafka_AclBinding_principal(native)),
                host: read::maybe(rd::rd_kafka_AclBinding_host(native)),
                operation: AclOperation::from_number(operation).unwrap_or(AclOperation::Unknown),
                permission: AclPermission::from_number(permission)
                    .unwrap_or(AclPermission::Unknown),
            }
        };
        read::array(first, count).iter().map(one).collect()
    }
}

/// # Safety
///
/// Of a live event.
unsafe fn scram_user(native: *const rd::rd_kafka_UserScramCredentialsDescription_t) -> ScramUser {
    // SAFETY: by contract.
    unsafe {
        let user = read::text(rd::rd_kafka_UserScramCredentialsDescription_user(native));
        let error = rd::rd_kafka_UserScramCredentialsDescription_error(native);
        if let Some(error) = read::error_of(error) {
            return (user, Err(error));
        }
        let count = rd::rd_kafka_UserScramCredentialsDescription_scramcredentialinfo_count(native);
        let one = |index: usize| {
            let info =
                rd::rd_kafka_UserScramCredentialsDescription_scramcredentialinfo(native, index);
            let mechanism = rd::rd_kafka_ScramCredentialInfo_mechanism(info) as i32;
            (
                ScramMechanism::from_number(mechanism).unwrap_or(ScramMechanism::Unknown),
                rd::rd_kafka_ScramCredentialInfo_iterations(info),
            )
        };
        (user, Ok((0..count).map(one).collect()))
    }
}

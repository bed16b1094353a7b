//! Requests about configurations.

use rdkafka::bindings as rd;

use super::super::answer::Answer;
use super::super::types::{AdminOptions, ConfigEntry, ConfigResource, ConfigResult, ResourceType};
use super::{Client, Natives, c_text, or_null, read, refused};
use crate::error::{Error, Result};
use crate::native::failed;

type Op = rd::rd_kafka_admin_op_t;
type Resources = Natives<rd::rd_kafka_ConfigResource_t>;

/// What is done with the settings of a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settings {
    Asked,
    Replaced,
    Altered,
}

fn natives(resources: &[ConfigResource], settings: Settings) -> Result<Resources> {
    let mut natives = Natives::new(rd::rd_kafka_ConfigResource_destroy);
    for resource in resources {
        let name = c_text("name", &resource.name)?;
        let said = format!(
            "Invalid ConfigResource({},{})",
            resource.kind.number(),
            resource.name
        );
        // SAFETY: the text is alive, and copied.
        let native = unsafe {
            rd::rd_kafka_ConfigResource_new(read::resource(resource.kind), name.as_ptr())
        };
        let native = natives.push("resources", native, &said)?;
        for (name, value, operation) in &resource.settings {
            let name = c_text("name", name)?;
            let value = value
                .as_deref()
                .map(|value| c_text("value", value))
                .transpose()?;
            let value = or_null(value.as_ref());
            // SAFETY: the object and the texts are alive; they are copied.
            unsafe {
                match settings {
                    Settings::Asked => {}
                    Settings::Replaced => {
                        let code =
                            rd::rd_kafka_ConfigResource_set_config(native, name.as_ptr(), value);
                        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                            return Err(failed(code, "setting a configuration property"));
                        }
                    }
                    Settings::Altered => {
                        let operation = read::alter(*operation);
                        let error = rd::rd_kafka_ConfigResource_add_incremental_config(
                            native,
                            name.as_ptr(),
                            operation,
                            value,
                        );
                        refused("incremental_configs", error)?;
                    }
                }
            }
        }
    }
    Ok(natives)
}

impl Client {
    pub(in super::super) fn describe_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        let mut natives = natives(resources, Settings::Asked)?;
        let count = natives.items.len();
        self.ask(
            "describing configurations",
            Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            options,
            // SAFETY: handle, objects, options and queue are alive; the objects are copied.
            |rk, options, queue| unsafe {
                rd::rd_kafka_DescribeConfigs(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeConfigs_result(event);
                results(
                    rd::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count),
                    count,
                )
            },
        )
    }

    pub(in super::super) fn alter_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        let mut natives = natives(resources, Settings::Replaced)?;
        let count = natives.items.len();
        self.ask(
            "altering configurations",
            Op::RD_KAFKA_ADMIN_OP_ALTERCONFIGS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_AlterConfigs(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_AlterConfigs_result(event);
                results(
                    rd::rd_kafka_AlterConfigs_result_resources(result, &raw mut count),
                    count,
                )
            },
        )
    }

    pub(in super::super) fn incremental_alter_configs(
        &self,
        resources: &[ConfigResource],
        options: &AdminOptions,
    ) -> Result<Answer<Vec<ConfigResult>>> {
        let mut natives = natives(resources, Settings::Altered)?;
        let count = natives.items.len();
        self.ask(
            "altering configurations",
            Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
            options,
            // SAFETY: as above.
            |rk, options, queue| unsafe {
                rd::rd_kafka_IncrementalAlterConfigs(rk, natives.pointer(), count, options, queue);
            },
            // SAFETY: an event of this kind.
            |event| unsafe {
                let mut count = 0;
                let result = rd::rd_kafka_event_IncrementalAlterConfigs_result(event);
                let all =
                    rd::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
                results(all, count)
            },
        )
    }
}

/// # Safety
///
/// So many resources of a live event.
unsafe fn results(
    first: *mut *const rd::rd_kafka_ConfigResource_t,
    count: usize,
) -> Vec<ConfigResult> {
    // SAFETY: by contract.
    unsafe {
        let one = |native: &*const rd::rd_kafka_ConfigResource_t| {
            let native = *native;
            let kind = rd::rd_kafka_ConfigResource_type(native) as i32;
            let kind = ResourceType::from_number(kind).unwrap_or(ResourceType::Unknown);
            let name = read::text(rd::rd_kafka_ConfigResource_name(native));
            let code = rd::rd_kafka_ConfigResource_error(native);
            let said = read::text(rd::rd_kafka_ConfigResource_error_string(native));
            let error: Option<Error> = read::error(code, said);
            let mut count = 0;
            let configs = rd::rd_kafka_ConfigResource_configs(native, &raw mut count);
            let outcome = error.map_or_else(|| Ok(entries(configs, count)), Err);
            (kind, name, outcome)
        };
        read::array(first, count).iter().map(one).collect()
    }
}

/// # Safety
///
/// So many entries of a live event.
unsafe fn entries(first: *mut *const rd::rd_kafka_ConfigEntry_t, count: usize) -> Vec<ConfigEntry> {
    // SAFETY: by contract; synonyms have no synonyms.
    unsafe {
        let one = |native: &*const rd::rd_kafka_ConfigEntry_t| {
            let native = *native;
            let mut count = 0;
            let synonyms = rd::rd_kafka_ConfigEntry_synonyms(native, &raw mut count);
            ConfigEntry {
                name: read::text(rd::rd_kafka_ConfigEntry_name(native)),
                value: read::maybe(rd::rd_kafka_ConfigEntry_value(native)),
                source: rd::rd_kafka_ConfigEntry_source(native) as i32,
                read_only: rd::rd_kafka_ConfigEntry_is_read_only(native) == 1,
                default: rd::rd_kafka_ConfigEntry_is_default(native) == 1,
                sensitive: rd::rd_kafka_ConfigEntry_is_sensitive(native) == 1,
                synonym: rd::rd_kafka_ConfigEntry_is_synonym(native) == 1,
                synonyms: entries(synonyms, count),
            }
        };
        read::array(first, count).iter().map(one).collect()
    }
}

//! The admin client: topics made, deleted and listed.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;

use tidegate::{Admin, NewTopic, Result, TopicInfo};

use crate::config::{self, tg_config};
use crate::error::{c_text, tg_status};
use crate::guard;
use crate::handle::{self, object};
use crate::input;
use crate::producer::{sender, tg_producer};

/// The cluster's default replication.
pub const TG_REPLICATION_DEFAULT: i32 = -1;

/// Creates, deletes and lists topics. Any thread may call everything; calls wait up to their timeout. In a forked child they answer
/// TG_ERROR_FORKED.
pub struct tg_admin {
    _private: [u8; 0],
}

object!(Admin, tg_admin, "admin", 9);

/// A name and a value, both NUL-terminated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_setting {
    /// The name, such as "retention.ms".
    pub name: *const c_char,
    /// The value.
    pub value: *const c_char,
}

/// A topic to create.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_new_topic {
    /// Its name, NUL-terminated.
    pub name: *const c_char,
    /// How many partitions; 1 or more.
    pub partitions: i32,
    /// On how many brokers each partition is; TG_REPLICATION_DEFAULT, or 1 or more.
    pub replication: i32,
    /// `setting_count` settings of the topic.
    pub settings: *const tg_setting,
    /// How many settings.
    pub setting_count: usize,
}

/// A topic of the cluster.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tg_topic {
    /// Its name, NUL-terminated.
    pub name: *const c_char,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A list of topics that the library made; tg_topics_free() ends it.
pub struct tg_topics {
    _private: [u8; 0],
}

/// What a [`tg_topics`] stands for.
pub(crate) struct Topics {
    rows: Vec<tg_topic>,
    _names: Vec<CString>,
}

object!(Topics, tg_topics, "topics", 8);

// SAFETY: the pointers of the rows lead into the names, which are immutable and go where the rows go.
unsafe impl Send for Topics {}
// SAFETY: as above; nothing is changed after it was made.
unsafe impl Sync for Topics {}

impl Topics {
    pub(crate) fn new(topics: &[TopicInfo]) -> Topics {
        let names: Vec<CString> = topics.iter().map(|topic| c_text(&topic.name)).collect();
        let rows = topics
            .iter()
            .zip(&names)
            .map(|(topic, name)| tg_topic {
                name: name.as_ptr(),
                partitions: topic.partitions,
            })
            .collect();
        Topics {
            rows,
            _names: names,
        }
    }
}

fn admin(admin: *const tg_admin) -> Result<Arc<Admin>> {
    handle::get::<Admin>(admin)
}

/// Each topic's own result, as Kafka's number, and the first failure as the call's.
///
/// # Safety
///
/// `kafka_codes` is NULL or leads to as many numbers as there are results.
unsafe fn tell(kafka_codes: *mut i32, results: Vec<(String, Result<()>)>) -> Result<()> {
    if !kafka_codes.is_null() {
        input::check_place("kafka_codes", kafka_codes)?;
        for (row, (_, result)) in results.iter().enumerate() {
            let code = result.as_ref().err().and_then(tidegate::Error::kafka_code);
            // SAFETY: by contract.
            unsafe {
                kafka_codes
                    .add(row)
                    .write(code.map_or(0, |code| code.number()))
            };
        }
    }
    results.into_iter().try_for_each(|(_, result)| result)
}

/// An admin client with this configuration; it connects in the background. tg_admin_free() ends it. Any thread.
///
/// @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
///         TG_ERROR_ARGUMENT for NULL and a freed configuration.
///
/// # Safety
///
/// `admin` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_admin_new(
    config: *const tg_config,
    admin: *mut *mut tg_admin,
) -> tg_status {
    guard::call(|| {
        let config = config::of(config)?;
        input::check_place("admin", admin)?;
        let made = handle::make(Admin::new(&config)?)?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("admin", admin, made) }
    })
}

/// Creates topics. One that cannot be created does not keep the others from it. The embedded broker cannot do this: use
/// tg_broker_create_topic() there. Any thread.
///
/// @param kafka_codes NULL, or an array of `count` numbers: 0 for each topic that was created, else Kafka's code (36 for one that exists).
///        Filled on TG_OK, and when the cluster has answered.
/// @return TG_ERROR_KAFKA for the first topic that was not created, and when the cluster did not answer; TG_ERROR_TIMED_OUT; TG_ERROR_ARGUMENT
///         for NULL, a freed client, no topic, a name twice, a negative time, and a topic that cannot be asked for (then none is created).
///
/// # Safety
///
/// `topics` leads to `count` topics whose pointers lead to what they say; `kafka_codes` is NULL or leads to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_admin_create_topics(
    admin: *mut tg_admin,
    topics: *const tg_new_topic,
    count: usize,
    timeout_ms: i64,
    kafka_codes: *mut i32,
) -> tg_status {
    guard::call(|| {
        let admin = self::admin(admin)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        // SAFETY: by contract.
        let rows = unsafe { input::slice("topics", topics, count)? };
        let topics: Vec<NewTopic> = rows
            .iter()
            // SAFETY: by contract.
            .map(|row| unsafe { new_topic(row) })
            .collect::<Result<_>>()?;
        let results = admin.create_topics(&topics, timeout)?;
        // SAFETY: by contract; there is a result for each topic.
        unsafe { tell(kafka_codes, results) }
    })
}

/// # Safety
///
/// As of tg_admin_create_topics().
unsafe fn new_topic(row: &tg_new_topic) -> Result<NewTopic> {
    // SAFETY: by contract.
    let (name, settings) = unsafe {
        (
            input::text("topics", row.name)?,
            input::slice("settings", row.settings, row.setting_count)?,
        )
    };
    let mut topic = NewTopic::new(name, row.partitions).replication(row.replication);
    for setting in settings {
        // SAFETY: by contract.
        let (name, value) = unsafe {
            (
                input::text("settings", setting.name)?,
                input::text("settings", setting.value)?,
            )
        };
        topic = topic.config(name, value);
    }
    Ok(topic)
}

/// Deletes topics and everything in them. Any thread.
///
/// @param kafka_codes as of tg_admin_create_topics().
/// @return as tg_admin_create_topics().
///
/// # Safety
///
/// `names` leads to `count` NUL-terminated texts; `kafka_codes` is NULL or leads to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_admin_delete_topics(
    admin: *mut tg_admin,
    names: *const *const c_char,
    count: usize,
    timeout_ms: i64,
    kafka_codes: *mut i32,
) -> tg_status {
    guard::call(|| {
        let admin = self::admin(admin)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        // SAFETY: by contract.
        let rows = unsafe { input::slice("names", names, count)? };
        let names: Vec<&str> = rows
            .iter()
            // SAFETY: by contract.
            .map(|name| unsafe { input::text("names", *name) })
            .collect::<Result<_>>()?;
        let results = admin.delete_topics(&names, timeout)?;
        // SAFETY: by contract; there is a result for each topic.
        unsafe { tell(kafka_codes, results) }
    })
}

/// The cluster's topics, Kafka's internal ones included, in the order of their names. tg_topics_free() ends the list. Any thread.
///
/// @return TG_ERROR_KAFKA when no broker answered in time; TG_ERROR_ARGUMENT for NULL, a freed client, and a negative time.
///
/// # Safety
///
/// `topics` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_admin_topics(
    admin: *mut tg_admin,
    timeout_ms: i64,
    topics: *mut *mut tg_topics,
) -> tg_status {
    guard::call(|| {
        let admin = self::admin(admin)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        input::check_place("topics", topics)?;
        let made = handle::make(Topics::new(&admin.topics(timeout)?))?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("topics", topics, made) }
    })
}

/// As tg_admin_topics(), for a producer. Any thread.
///
/// @return as tg_admin_topics().
///
/// # Safety
///
/// `topics` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_producer_topics(
    producer: *mut tg_producer,
    timeout_ms: i64,
    topics: *mut *mut tg_topics,
) -> tg_status {
    guard::call(|| {
        let sender = sender(producer)?;
        let timeout = input::duration("timeout_ms", timeout_ms)?;
        input::check_place("topics", topics)?;
        let made = handle::make(Topics::new(&sender.producer.topics(timeout)?))?;
        // SAFETY: checked above, and writable by contract.
        unsafe { input::put("topics", topics, made) }
    })
}

/// Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Any thread.
///
/// @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle.
///
/// # Safety
///
/// The texts are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_admin_set_sasl_credentials(
    admin: *mut tg_admin,
    username: *const c_char,
    password: *const c_char,
) -> tg_status {
    guard::call(|| {
        let admin = self::admin(admin)?;
        // SAFETY: by contract.
        let (username, password) = unsafe {
            (
                input::text("username", username)?,
                input::text("password", password)?,
            )
        };
        admin.set_sasl_credentials(username, password)
    })
}

/// Ends an admin client, within some five seconds. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_admin_free(admin: *mut tg_admin) -> tg_status {
    guard::call(|| handle::take::<Admin>(admin).map(drop))
}

/// How many topics are in the list; 0 for NULL and a freed list. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_topics_count(topics: *const tg_topics) -> usize {
    guard::value(0, || Ok(handle::get::<Topics>(topics)?.rows.len()))
}

/// The list as an array of tg_topics_count() elements, valid until it is freed; NULL for NULL, a freed list and an empty one. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_topics_data(topics: *const tg_topics) -> *const tg_topic {
    guard::value(ptr::null(), || {
        let topics = handle::get::<Topics>(topics)?;
        Ok(if topics.rows.is_empty() {
            ptr::null()
        } else {
            topics.rows.as_ptr()
        })
    })
}

/// Ends a list. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tg_topics_free(topics: *mut tg_topics) -> tg_status {
    guard::call(|| handle::take::<Topics>(topics).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tg_last_error;
    use crate::testing::{TestBroker, WAIT_MS, in_child, last_error, text, wrong_argument};
    use tg_status::{TG_ERROR_ARGUMENT, TG_ERROR_CONFIG, TG_ERROR_FORKED, TG_ERROR_KAFKA, TG_OK};

    fn client(broker: &TestBroker) -> *mut tg_admin {
        let config = broker.config(&[]);
        let mut admin = ptr::null_mut();
        // SAFETY: the address of a variable.
        let status = unsafe { tg_admin_new(config, &raw mut admin) };
        assert_eq!(status, TG_OK, "{}", last_error());
        admin
    }

    #[test]
    fn topics_are_listed() {
        let broker = TestBroker::new(&[(c"b", 3), (c"a", 1)]);
        let admin = client(&broker);
        let mut topics = ptr::null_mut();
        // SAFETY: the address of a variable, and the list's own array.
        unsafe {
            assert_eq!(tg_admin_topics(admin, WAIT_MS, &raw mut topics), TG_OK);
            let rows = std::slice::from_raw_parts(tg_topics_data(topics), tg_topics_count(topics));
            let shown: Vec<_> = rows
                .iter()
                .map(|row| (text(row.name), row.partitions))
                .collect();
            assert_eq!(shown, [("a".to_string(), 1), ("b".to_string(), 3)]);
        }
        assert_eq!(tg_topics_free(topics), TG_OK);
        assert_eq!(tg_topics_free(topics), TG_ERROR_ARGUMENT);
        assert_eq!(tg_topics_count(topics), 0);
        assert!(tg_topics_data(topics).is_null());
        assert_eq!(tg_admin_free(admin), TG_OK);
        assert_eq!(tg_admin_free(admin), TG_ERROR_ARGUMENT);
        // SAFETY: the address of a variable.
        let status = unsafe { tg_admin_topics(admin, WAIT_MS, &raw mut topics) };
        assert_eq!(status, TG_ERROR_ARGUMENT);
        assert_eq!(wrong_argument(), "admin");
    }

    #[test]
    fn a_producer_lists_them_too() {
        let broker = TestBroker::new(&[(c"a", 5)]);
        let producer = broker.producer(&[]);
        let mut topics = ptr::null_mut();
        // SAFETY: the address of a variable, and the list's own array.
        unsafe {
            assert_eq!(
                tg_producer_topics(producer, WAIT_MS, &raw mut topics),
                TG_OK
            );
            assert_eq!(tg_topics_count(topics), 1);
            assert_eq!((*tg_topics_data(topics)).partitions, 5);
        }
        tg_topics_free(topics);
        crate::producer::tg_producer_free(producer);
    }

    #[test]
    fn each_topic_has_its_own_result() {
        let exists = tidegate::Error::NotAssigned {
            topic: "b".into(),
            partition: 1,
        };
        let mut codes = [7; 2];
        let results = vec![("a".to_string(), Ok(())), ("b".to_string(), Err(exists))];
        // SAFETY: an array of two numbers.
        let told = unsafe { tell(codes.as_mut_ptr(), results) };
        assert!(matches!(told, Err(tidegate::Error::NotAssigned { .. })));
        assert_eq!(codes, [0, 0], "only what Kafka said has a code of Kafka's");
    }

    #[test]
    fn a_broker_that_cannot_do_it_is_an_error_and_not_a_hang() {
        let broker = TestBroker::new(&[]);
        let admin = client(&broker);
        let setting = tg_setting {
            name: c"retention.ms".as_ptr(),
            value: c"1000".as_ptr(),
        };
        let topic = tg_new_topic {
            name: c"t".as_ptr(),
            partitions: 1,
            replication: TG_REPLICATION_DEFAULT,
            settings: &raw const setting,
            setting_count: 1,
        };
        let mut code = 7;
        // SAFETY: one topic, and the address of a variable.
        let status =
            unsafe { tg_admin_create_topics(admin, &raw const topic, 1, 3_000, &raw mut code) };
        assert_eq!(status, TG_ERROR_KAFKA, "{}", last_error());
        // SAFETY: just failed on this thread.
        assert_ne!(unsafe { (*tg_last_error()).kafka_code }, 0);
        assert_eq!(code, 7, "nobody answered for this topic");
        tg_admin_free(admin);
    }

    #[test]
    fn bad_input_is_told_before_anything_is_asked() {
        let broker = TestBroker::new(&[]);
        let admin = client(&broker);
        let good = tg_new_topic {
            name: c"t".as_ptr(),
            partitions: 1,
            replication: 1,
            settings: ptr::null(),
            setting_count: 0,
        };
        let create = |topics: &[tg_new_topic], timeout_ms| {
            // SAFETY: an array with its length.
            let status = unsafe {
                let none = ptr::null_mut();
                tg_admin_create_topics(admin, topics.as_ptr(), topics.len(), timeout_ms, none)
            };
            assert_eq!(status, TG_ERROR_ARGUMENT);
            wrong_argument()
        };
        assert_eq!(create(&[], WAIT_MS), "topics");
        assert_eq!(create(&[good, good], WAIT_MS), "topics");
        assert_eq!(create(&[good], -1), "timeout_ms");
        let wrong = [
            (
                "topics",
                tg_new_topic {
                    name: ptr::null(),
                    ..good
                },
            ),
            (
                "partitions",
                tg_new_topic {
                    partitions: 0,
                    ..good
                },
            ),
            (
                "replication",
                tg_new_topic {
                    replication: 0,
                    ..good
                },
            ),
            (
                "settings",
                tg_new_topic {
                    setting_count: 1,
                    ..good
                },
            ),
        ];
        for (argument, topic) in wrong {
            assert_eq!(create(&[topic], WAIT_MS), argument);
        }
        // SAFETY: NULL, arrays with their lengths, and the address of a variable.
        unsafe {
            let none = ptr::null_mut();
            let names = [ptr::null()];
            let null = tg_admin_delete_topics(admin, names.as_ptr(), 1, WAIT_MS, none);
            assert_eq!(
                (null, wrong_argument().as_str()),
                (TG_ERROR_ARGUMENT, "names")
            );
            let empty = tg_admin_delete_topics(admin, names.as_ptr(), 0, WAIT_MS, none);
            assert_eq!(empty, TG_ERROR_ARGUMENT);
            let mut topics = ptr::null_mut();
            assert_eq!(
                tg_admin_topics(admin, -1, &raw mut topics),
                TG_ERROR_ARGUMENT
            );
            assert_eq!(
                tg_admin_topics(admin, 1, ptr::null_mut()),
                TG_ERROR_ARGUMENT
            );
            let mut made = ptr::null_mut();
            assert_eq!(tg_admin_new(ptr::null(), &raw mut made), TG_ERROR_ARGUMENT);
            let config = broker.config(&[(c"no.such.property", c"1")]);
            assert_eq!(tg_admin_new(config, &raw mut made), TG_ERROR_CONFIG);
            assert!(made.is_null());
        }
        tg_admin_free(admin);
        assert_eq!(tg_admin_free(ptr::null_mut()), TG_OK);
    }

    #[test]
    fn a_forked_child_is_told_and_does_not_wait() {
        let broker = TestBroker::new(&[]);
        let admin = client(&broker);
        assert!(in_child(|| {
            let mut topics = ptr::null_mut();
            // SAFETY: the address of a variable.
            let told = unsafe { tg_admin_topics(admin, WAIT_MS, &raw mut topics) };
            told == TG_ERROR_FORKED && tg_admin_free(admin) == TG_OK
        }));
        tg_admin_free(admin);
    }
}

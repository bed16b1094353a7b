/*
 * Tidegate for C: consume and produce at the engine's full speed, and lose nothing. Generated from ffi/src: do not edit.
 *
 * Conventions
 *
 * Results. A function that can fail returns a tg_status: TG_OK, TG_NOTHING (no error, and nothing came in time) or an error, all of
 *   which are >= 100. Results come through pointers, which are written on TG_OK only, unless a comment says more. A function that
 *   returns something else cannot fail, or says what it returns then.
 * Errors. tg_last_error() has the whole error of the call of this thread that failed last: code, Kafka's code, argument, text. It stays
 *   until the next call of this thread that fails.
 * Ownership. What a function made through a `tg_x **` is yours until tg_x_free(); pointers that lead into it end with it. What you
 *   pass in is copied during the call, unless a comment says more.
 * Handles are no addresses: never look into them. A handle that is NULL, was freed or is of another kind is TG_ERROR_ARGUMENT, and freeing
 *   twice is that error too; freeing NULL does nothing. An object that is freed while another thread is in a call with it ends when that
 *   call has returned.
 * Closing is not freeing: a closed consumer or producer answers TG_ERROR_CLOSED until it is freed. Closing twice is fine. Both always return.
 * Threads. Any function may be called by any thread at any time; only the polling calls of one consumer are for one thread at a time, and
 *   TG_ERROR_CONCURRENT_USE tells a second one. Callbacks run where their comment says, never under a lock.
 * fork(). The child gets TG_ERROR_FORKED for what its parent made, at once, and may free it; it makes its own.
 * Texts that you pass in are UTF-8 and end with a NUL. Texts and bytes that come out have a pointer and a length (tg_bytes); the texts of
 *   tg_error and tg_topic_partition end with a NUL. Keys and values are bytes; a NULL pointer is null, an empty value is not.
 * Units are in the names: _ms, _us, _bytes. Offsets of positions and commits are those of the record to be read next.
 * Signals. No function changes a signal's handler, and a broker that goes away raises no SIGPIPE.
 * Unloading. dlclose() leaves the library in memory: its threads live as long as a client does.
 *
 * A program checks at its start that tg_abi_version() == TG_ABI_VERSION.
 */


#ifndef TIDEGATE_H
#define TIDEGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The cluster's default replication.
 */
#define TG_REPLICATION_DEFAULT (-1)

/**
 * Every broker of the cluster.
 */
#define TG_ALL_BROKERS (-1)

/**
 * Waits without a limit, where a function's comment allows that.
 */
#define TG_FOREVER (-1)

/**
 * The first record that is there.
 */
#define TG_OFFSET_BEGINNING (-2)

/**
 * Behind the last record.
 */
#define TG_OFFSET_END (-1)

/**
 * Where the group has committed, or where `auto.offset.reset` leads.
 */
#define TG_OFFSET_STORED (-1000)

/**
 * No offset.
 */
#define TG_OFFSET_NONE (-1001)

/**
 * `TG_OFFSET_TAIL_BASE - n`: n records before the end.
 */
#define TG_OFFSET_TAIL_BASE (-2000)

/**
 * Any number, where a field says so.
 */
#define TG_NO_LIMIT UINT64_MAX

/**
 * The partitioner chooses: by key, else any.
 */
#define TG_PARTITION_ANY (-1)

/**
 * The time of the call.
 */
#define TG_TIMESTAMP_NOW (-1)

/**
 * So many polled reports of a producer may be asked for and not yet read; the sends beyond are refused with TG_ERROR_ARGUMENT.
 */
#define TG_MAX_UNREAD_REPORTS 1000000

/**
 * Grows by one whenever a program compiled against an older header would go wrong. A program checks at its start that
 * `tg_abi_version() == TG_ABI_VERSION`.
 */
#define TG_ABI_VERSION 0

/**
 * What a function answers. 0 is success, 1 is "nothing came in time", everything from 100 on is an error: the numbers are
 * those of the other languages' faces and are never reused.
 */
enum tg_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * It worked.
   */
  TG_OK = 0,
  /**
   * No error, and nothing to give: the time is over, or the wait was ended by tg_consumer_wake() or a close.
   */
  TG_NOTHING = 1,
  /**
   * The configuration has problems; tg_last_error() lists all of them.
   */
  TG_ERROR_CONFIG = 100,
  /**
   * An argument that cannot be used: NULL, a freed handle, a negative number, ...
   */
  TG_ERROR_ARGUMENT = 101,
  /**
   * The handle was closed.
   */
  TG_ERROR_CLOSED = 200,
  /**
   * Another thread is polling this consumer.
   */
  TG_ERROR_CONCURRENT_USE = 201,
  /**
   * The handle was made before fork() and is used in the child.
   */
  TG_ERROR_FORKED = 202,
  /**
   * A bounded wait ran out.
   */
  TG_ERROR_TIMED_OUT = 300,
  /**
   * The producer's queue stayed full; the record was not accepted.
   */
  TG_ERROR_QUEUE_FULL = 301,
  /**
   * The partition is not assigned to this consumer.
   */
  TG_ERROR_NOT_ASSIGNED = 400,
  /**
   * The records belong to an earlier assignment of their partition.
   */
  TG_ERROR_STALE = 401,
  /**
   * librdkafka or the broker refused: see tg_error.kafka_code.
   */
  TG_ERROR_KAFKA = 500,
  /**
   * A callback of the application failed.
   */
  TG_ERROR_CALLBACK = 600,
  /**
   * A defect of the library, caught before it could harm the caller. Please report its text.
   */
  TG_ERROR_INTERNAL = 700,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_status tg_status;
#else
typedef int32_t tg_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whose clock a timestamp is from.
 */
enum tg_timestamp_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * There is no timestamp.
   */
  TG_TIMESTAMP_NONE = 0,
  /**
   * The producer's.
   */
  TG_TIMESTAMP_CREATE_TIME = 1,
  /**
   * The broker's, at append.
   */
  TG_TIMESTAMP_LOG_APPEND_TIME = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_timestamp_type tg_timestamp_type;
#else
typedef int32_t tg_timestamp_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How much a log line matters.
 */
enum tg_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Something failed, and somebody has to know.
   */
  TG_LOG_ERROR = 1,
  /**
   * Something is wrong and is being worked around.
   */
  TG_LOG_WARN = 2,
  /**
   * Something that happens rarely: start, assignment, close.
   */
  TG_LOG_INFO = 3,
  /**
   * For looking for the cause of a problem.
   */
  TG_LOG_DEBUG = 4,
  /**
   * Everything.
   */
  TG_LOG_TRACE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_log_level tg_log_level;
#else
typedef int32_t tg_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a processing is over.
 */
enum tg_process_end
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * It is not.
   */
  TG_PROCESS_RUNS = 0,
  /**
   * tg_process_stop() or tg_process_free().
   */
  TG_PROCESS_STOPPED = 1,
  /**
   * The consumer was closed or freed.
   */
  TG_PROCESS_CONSUMER_CLOSED = 2,
  /**
   * An error, which tg_process_wait() and tg_process_stop() tell: a record that failed for good (TG_ERROR_CALLBACK), a fatal error, a
   * rebalance callback that failed.
   */
  TG_PROCESS_FAILED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_process_end tg_process_end;
#else
typedef int32_t tg_process_end;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which client a configuration is for.
 */
enum tg_client
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * tg_consumer.
   */
  TG_CLIENT_CONSUMER = 0,
  /**
   * tg_producer.
   */
  TG_CLIENT_PRODUCER = 1,
  /**
   * tg_admin.
   */
  TG_CLIENT_ADMIN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_client tg_client;
#else
typedef int32_t tg_client;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What becomes of a record that has failed for good.
 */
enum tg_on_failure
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Processing ends with the error; the record is not committed and comes again after a restart.
   */
  TG_ON_FAILURE_STOP = 0,
  /**
   * It is logged, counted as done, and committed: lost on purpose.
   */
  TG_ON_FAILURE_SKIP = 1,
  /**
   * A copy goes to `dead_letter_topic`, with the reason in headers `tidegate.dlq.*`; it is finished when the broker has confirmed the copy.
   */
  TG_ON_FAILURE_DEAD_LETTER = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_on_failure tg_on_failure;
#else
typedef int32_t tg_on_failure;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What happens when more would go to the dead-letter topic than `dead_letter_limit`.
 */
enum tg_on_limit
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Processing ends with an error; the record comes again after a restart.
   */
  TG_ON_LIMIT_STOP = 0,
  /**
   * Nothing more of the record's partition is handed out until it is assigned again; the record is the first to come then.
   */
  TG_ON_LIMIT_PAUSE_PARTITION = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_on_limit tg_on_limit;
#else
typedef int32_t tg_on_limit;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What is handled one after the other, in the order of its offsets.
 */
enum tg_order
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The records of one partition that have the same key. Records without a key have no order.
   */
  TG_ORDER_BY_KEY = 0,
  /**
   * The records of one partition.
   */
  TG_ORDER_BY_PARTITION = 1,
  /**
   * Nothing: any records side by side.
   */
  TG_ORDER_NONE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_order tg_order;
#else
typedef int32_t tg_order;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A request of the Kafka protocol that tg_broker_request_errors() can make fail.
 */
enum tg_request
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Producers sending records.
   */
  TG_REQUEST_PRODUCE = 0,
  /**
   * Consumers fetching records.
   */
  TG_REQUEST_FETCH = 1,
  /**
   * Looking up offsets by time, and the watermarks.
   */
  TG_REQUEST_LIST_OFFSETS = 2,
  /**
   * Looking up topics and leaders.
   */
  TG_REQUEST_METADATA = 3,
  /**
   * Committing offsets.
   */
  TG_REQUEST_OFFSET_COMMIT = 4,
  /**
   * Reading committed offsets.
   */
  TG_REQUEST_OFFSET_FETCH = 5,
  /**
   * Looking up a group's coordinator.
   */
  TG_REQUEST_FIND_COORDINATOR = 6,
  /**
   * Joining a group.
   */
  TG_REQUEST_JOIN_GROUP = 7,
  /**
   * Getting the assignment.
   */
  TG_REQUEST_SYNC_GROUP = 8,
  /**
   * Staying in the group.
   */
  TG_REQUEST_HEARTBEAT = 9,
  /**
   * Leaving the group.
   */
  TG_REQUEST_LEAVE_GROUP = 10,
  /**
   * An idempotent producer asking for its id.
   */
  TG_REQUEST_INIT_PRODUCER_ID = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum tg_request tg_request;
#else
typedef int32_t tg_request;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Arrow's `struct ArrowArray`; the Arrow C data interface has its definition, which a program brings with it (nanoarrow.h, arrow/c/abi.h).
 */
typedef struct ArrowArray ArrowArray;

/**
 * Arrow's `struct ArrowSchema`; see ArrowArray.
 */
typedef struct ArrowSchema ArrowSchema;

/**
 * Creates, deletes and lists topics. Any thread may call everything; calls wait up to their timeout. In a forked child they answer
 * TG_ERROR_FORKED.
 */
typedef struct tg_admin tg_admin;

/**
 * Records in columns: row `i` is the same record in every column. Immutable; any thread may read it, also when its consumer was
 * closed or freed. tg_batch_free() ends it and everything that its pointers lead to.
 */
typedef struct tg_batch tg_batch;

/**
 * A Kafka cluster inside of this process, on loopback ports, for tests and demonstrations. It keeps 5 MiB (100 000 records) per
 * partition, knows no transactions and no topic administration, and re-joins a group only after about one session timeout. A topic that
 * was not created comes into being, with 4 partitions, when a client first asks for it. Everything may be called by any thread; in a
 * forked child it answers TG_ERROR_FORKED.
 */
typedef struct tg_broker tg_broker;

/**
 * A configuration: names and values, as librdkafka or the Java client call them.
 */
typedef struct tg_config tg_config;

/**
 * What tg_config_check() found.
 */
typedef struct tg_config_report tg_config_report;

/**
 * Reads records of a group, or of partitions assigned by hand. The polling calls (poll, next_batch, fill_batch, lease_batch, run)
 * may be made by one thread at a time (TG_ERROR_CONCURRENT_USE otherwise), everything else by any thread, also meanwhile.
 *
 * A record is finished, and its offset may be committed, when the program asks for the next one (or batch), or acknowledges it; what
 * was leased, only when it is acknowledged. With `enable.auto.commit` (the default) what is finished is committed every
 * `auto.commit.interval.ms`, when partitions are taken away, and at close.
 *
 * After tg_consumer_close() every function but the free one, the statistics and a second close answers TG_ERROR_CLOSED; in a forked
 * child TG_ERROR_FORKED.
 */
typedef struct tg_consumer tg_consumer;

/**
 * A list of partitions that the library made; tg_partitions_free() ends it.
 */
typedef struct tg_partitions tg_partitions;

/**
 * Records of a consumer being handled; made by tg_process_start(). In a forked child everything but the free function answers
 * TG_ERROR_FORKED.
 */
typedef struct tg_process tg_process;

/**
 * Sends records. Everything may be called by any thread, also at once; one thread of the library's own, the delivery thread, makes the
 * callbacks. A record that was accepted is copied, and ends in exactly one report, at the latest at close.
 *
 * After tg_producer_close() every function but the free one, the statistics, the reports and a second close answers TG_ERROR_CLOSED;
 * in a forked child TG_ERROR_FORKED.
 */
typedef struct tg_producer tg_producer;

/**
 * A record that a handler has got: exactly one of tg_task_done(), tg_task_retry(), tg_task_fail() and tg_task_give_back() answers it, in the
 * handler or later, on any thread, and ends the task. Any other use after that, and a second answer, is TG_ERROR_ARGUMENT.
 *
 * A task that is never answered stays in flight: its record is not committed and neither is what follows it in its partition, its key (or
 * partition) waits, it takes one of `max_in_flight` places, and after a restart the record comes again. With `attempt_timeout_ms` the
 * attempt fails then ("TimedOut": the record is tried again, or ends as `on_failure` says), and the key and the place stay taken until the
 * task is answered all the same, whose answer is thrown away.
 */
typedef struct tg_task tg_task;

/**
 * A text that the library made; tg_text_free() ends it.
 */
typedef struct tg_text tg_text;

/**
 * A question for a token, alive during the callback that it is asked with.
 */
typedef struct tg_token_request tg_token_request;

/**
 * A list of topics that the library made; tg_topics_free() ends it.
 */
typedef struct tg_topics tg_topics;

/**
 * A name and a value, both NUL-terminated.
 */
typedef struct tg_setting {
  /**
   * The name, such as "retention.ms".
   */
  const char *name;
  /**
   * The value.
   */
  const char *value;
} tg_setting;

/**
 * A topic to create.
 */
typedef struct tg_new_topic {
  /**
   * Its name, NUL-terminated.
   */
  const char *name;
  /**
   * How many partitions; 1 or more.
   */
  int32_t partitions;
  /**
   * On how many brokers each partition is; TG_REPLICATION_DEFAULT, or 1 or more.
   */
  int32_t replication;
  /**
   * `setting_count` settings of the topic.
   */
  const struct tg_setting *settings;
  /**
   * How many settings.
   */
  size_t setting_count;
} tg_new_topic;

/**
 * A topic of the cluster.
 */
typedef struct tg_topic {
  /**
   * Its name, NUL-terminated.
   */
  const char *name;
  /**
   * How many partitions it has.
   */
  int32_t partitions;
} tg_topic;

/**
 * Bytes in the library's memory. They do not end with a NUL.
 */
typedef struct tg_bytes {
  /**
   * Where they begin; NULL means null: no key, a tombstone. Empty is not null.
   */
  const uint8_t *data;
  /**
   * How many.
   */
  size_t length;
} tg_bytes;

/**
 * Consecutive rows of one partition, assignment and arena: what is the same for all of them is told once.
 */
typedef struct tg_run {
  /**
   * The topic's name, UTF-8.
   */
  struct tg_bytes topic;
  /**
   * The partition.
   */
  int32_t partition;
  /**
   * The leader epoch that the records were written under; -1 when not known.
   */
  int32_t leader_epoch;
  /**
   * The assignment that the rows belong to.
   */
  uint64_t generation;
  /**
   * The first row.
   */
  size_t first;
  /**
   * How many rows.
   */
  size_t count;
  /**
   * The memory that keys and values of these rows lie in: row `i` has its value at `arena.data + value_starts[i]`.
   */
  struct tg_bytes arena;
  /**
   * Whose clock the rows' timestamps are from.
   */
  tg_timestamp_type timestamp_type;
} tg_run;

/**
 * The columns of a batch; each array has `count` elements (`runs` has `run_count`). Valid until tg_batch_free().
 */
typedef struct tg_columns {
  /**
   * How many records.
   */
  size_t count;
  /**
   * Each record's partition.
   */
  const int32_t *partitions;
  /**
   * Each record's offset.
   */
  const int64_t *offsets;
  /**
   * Milliseconds since 1970, -1 for none.
   */
  const int64_t *timestamps_ms;
  /**
   * Where each key begins in its run's arena, in bytes.
   */
  const uint32_t *key_starts;
  /**
   * How long each key is in bytes, -1 for none.
   */
  const int32_t *key_lengths;
  /**
   * Where each value begins in its run's arena, in bytes.
   */
  const uint32_t *value_starts;
  /**
   * How long each value is in bytes, -1 for a tombstone.
   */
  const int32_t *value_lengths;
  /**
   * The runs, in the order of their rows; together they cover every row.
   */
  const struct tg_run *runs;
  /**
   * How many runs.
   */
  size_t run_count;
} tg_columns;

/**
 * A record. The pointers lead into its batch and are valid as long as that: until tg_batch_free() for a record of a batch, until
 * the next polling call or tg_consumer_free() for one of tg_consumer_poll().
 */
typedef struct tg_record {
  /**
   * The topic's name, UTF-8.
   */
  struct tg_bytes topic;
  /**
   * The partition.
   */
  int32_t partition;
  /**
   * The leader epoch that it was written under; -1 when not known.
   */
  int32_t leader_epoch;
  /**
   * Its own offset.
   */
  int64_t offset;
  /**
   * Milliseconds since 1970; -1 when there is no timestamp.
   */
  int64_t timestamp_ms;
  /**
   * Whose clock the timestamp is from.
   */
  tg_timestamp_type timestamp_type;
  /**
   * The key; `data` is NULL when there is none.
   */
  struct tg_bytes key;
  /**
   * The value; `data` is NULL for a tombstone.
   */
  struct tg_bytes value;
  /**
   * The headers, to be read with tg_header_next().
   */
  struct tg_bytes headers;
  /**
   * The assignment that it belongs to.
   */
  uint64_t generation;
} tg_record;

/**
 * One problem of a configuration. The texts live as long as what they were read from.
 */
typedef struct tg_config_problem {
  /**
   * The property, as it was written.
   */
  const char *property;
  /**
   * Its value, as it was written; secrets are replaced.
   */
  const char *value;
  /**
   * What is wrong.
   */
  const char *reason;
  /**
   * What to write instead.
   */
  const char *remedy;
  /**
   * True for a problem that keeps a client from starting, false for a warning.
   */
  bool is_error;
} tg_config_problem;

/**
 * A partition and, where that has a meaning, an offset: always that of the record to be read *next*.
 */
typedef struct tg_topic_partition {
  /**
   * The topic, NUL-terminated.
   */
  const char *topic;
  /**
   * The partition, 0 or more.
   */
  int32_t partition;
  /**
   * An offset (0 or more), or one of the TG_OFFSET_ numbers.
   */
  int64_t offset;
} tg_topic_partition;

/**
 * Called with partitions; they are the library's and end with the call. A result other than 0 makes the polling call fail with
 * TG_ERROR_CALLBACK; the rebalance goes on.
 */
typedef int (*tg_partitions_callback)(struct tg_consumer *consumer,
                                      const struct tg_topic_partition *partitions,
                                      size_t count,
                                      void *user_data);

/**
 * Called once when the library needs `user_data` no more.
 */
typedef void (*tg_free_callback)(void *user_data);

/**
 * What to call at rebalances; each may be NULL. They run on the thread that polls or closes the consumer, never under a lock, and may
 * call the library, except for this consumer's polling calls, which answer TG_ERROR_CONCURRENT_USE.
 */
typedef struct tg_rebalance_callbacks {
  /**
   * Partitions were added. A seek in here takes effect before any record of them is handed out.
   */
  tg_partitions_callback on_assign;
  /**
   * Partitions are about to be taken away; commits for them still work.
   */
  tg_partitions_callback on_revoke;
  /**
   * Partitions are gone, and may have a new owner; commits for them fail.
   */
  tg_partitions_callback on_lost;
  /**
   * The end of a partition was fetched (only with `enable.partition.eof`); the offset is that of the next record to be written.
   */
  tg_partitions_callback on_partition_eof;
  /**
   * Given to each callback.
   */
  void *user_data;
  /**
   * Called when the callbacks were replaced or the consumer has ended; may be NULL.
   */
  tg_free_callback free_user_data;
} tg_rebalance_callbacks;

/**
 * An error, whole. All texts are UTF-8 and end with a NUL.
 */
typedef struct tg_error {
  /**
   * What kind of error.
   */
  tg_status status;
  /**
   * Kafka's own code as librdkafka numbers it (negative: librdkafka's own); 0 where there is none.
   */
  int32_t kafka_code;
  /**
   * The same call may succeed later without a change.
   */
  bool is_retriable;
  /**
   * The handle is of no more use: close it and make a new one.
   */
  bool is_fatal;
  /**
   * Kafka's name of the code, such as "_TIMED_OUT"; NULL where there is none.
   */
  const char *kafka_name;
  /**
   * The argument that was wrong, or the first wrong property of a configuration; NULL where there is none.
   */
  const char *argument;
  /**
   * What went wrong and what to do instead; never NULL.
   */
  const char *message;
  /**
   * Every problem of a configuration; `problem_count` of them.
   */
  const struct tg_config_problem *problems;
  /**
   * How many problems.
   */
  size_t problem_count;
} tg_error;

/**
 * Called with each log line, on whichever thread logs, also on several at once, under no lock. It may call the library, this function's
 * own setter included. What it logs itself by that comes back to it: it must not log without end.
 *
 * @param target "tidegate" or "librdkafka"; NUL-terminated and valid during the call, as is the message.
 * @param message the line, UTF-8, without a line feed at its end.
 */
typedef void (*tg_log_callback)(tg_log_level level, const char *target, const char *message, void *user_data);

/**
 * How records are handled. tg_process_default_options() fills it in; change what you like then.
 */
typedef struct tg_process_options {
  /**
   * How many threads of the library call the handler, up to 1024; 0: as many as `max_in_flight`, and not more than 16. A handler that
   * answers before it returns is run so many times at once; one that leaves the answer to others needs few.
   */
  size_t workers;
  /**
   * The most records that were given to handlers and not answered; 16 by default.
   */
  size_t max_in_flight;
  /**
   * Adapts that number between this and `max_in_flight`: more while answers stay quick, fewer when they become slow or fail. 0: fixed.
   */
  size_t min_in_flight;
  /**
   * The most records that wait for a handler; 10000.
   */
  size_t max_queued;
  /**
   * The most bytes of batches that have unfinished records; 64 MiB.
   */
  size_t max_bytes;
  /**
   * A tg_order; by key.
   */
  int32_t order;
  /**
   * A tg_on_failure; stop. TG_ON_FAILURE_DEAD_LETTER needs `dead_letter_topic`, and nothing else takes one.
   */
  int32_t on_failure;
  /**
   * Where copies of failed records go; not a topic that is consumed. NULL.
   */
  const char *dead_letter_topic;
  /**
   * Who sends the copies; it must be open as long as the processing runs. NULL: a producer of its own, with `acks=all`.
   */
  struct tg_producer *dead_letter_producer;
  /**
   * The most records that may go there, TG_NO_LIMIT for any number.
   */
  uint64_t dead_letter_limit;
  /**
   * A tg_on_limit; stop.
   */
  int32_t on_limit;
  /**
   * How often a record is with a handler before it has failed for good; 1. 0: until it succeeds.
   */
  uint32_t max_attempts;
  /**
   * The pause before the second attempt, doubled for each further one, and varied by a quarter; 100 ms.
   */
  int64_t backoff_ms;
  /**
   * The longest of these pauses; 30 s.
   */
  int64_t max_backoff_ms;
  /**
   * What a handler may take for one attempt; 0: any time. After that the attempt has failed ("TimedOut"); its key goes on when the task
   * is answered all the same, and that answer is thrown away.
   */
  int64_t attempt_timeout_ms;
  /**
   * Records begun per second, or what they cost (tg_task_charge()); 0: no limit.
   */
  double rate_limit;
  /**
   * How many records tg_process_start_batches() gives at a time; 1.
   */
  size_t batch_size;
  /**
   * The longest that a record waits for others to be handled with; 100 ms.
   */
  int64_t batch_timeout_ms;
  /**
   * The most bytes of metadata that a commit carries about what is done beyond the committed offset, so that a restart does not repeat it;
   * 4096, the broker's default `offset.metadata.max.bytes`. 0: none.
   */
  size_t offset_map_bytes;
  /**
   * All records of a batch are of one partition.
   */
  bool batch_of_one_partition;
  /**
   * Lets the others of its key (or partition) go on while a record waits for its next attempt: it loses its place in the order.
   */
  bool park_retries;
  /**
   * `after_ms` of tg_task_retry() holds up all records, not only its own.
   */
  bool retry_after_holds_all;
} tg_process_options;

/**
 * Called with each record, on a thread of the library's, by several at once. The record is in the callback's hands until `task` is
 * answered, here or later, on any thread: see tg_task. The record's pointers are good until then; `record` itself ends with the call.
 * The handler may call everything of the library. It must return: tg_process_stop() waits for it as long as it may, and a thread whose
 * handler has been quick has taken up to 256 records, which wait for it, with the answers given in that hand, when it hangs (not with
 * `attempt_timeout_ms`, `min_in_flight` or `rate_limit`: then each record is taken for itself). Nothing may be thrown out of it.
 */
typedef void (*tg_task_handler)(struct tg_task *task, const struct tg_record *record, void *user_data);

/**
 * As tg_task_handler, with `count` records that are handled together; each task is answered for itself (tg_tasks_done() answers many).
 * Both arrays end with the call.
 */
typedef void (*tg_tasks_handler)(struct tg_task *const *tasks,
                                 const struct tg_record *records,
                                 size_t count,
                                 void *user_data);

/**
 * What became of every record: `received` is the sum of the next nine.
 */
typedef struct tg_ledger {
  /**
   * Received for handling.
   */
  uint64_t received;
  /**
   * Handled, or skipped as TG_ON_FAILURE_SKIP says, and acknowledged.
   */
  uint64_t done;
  /**
   * Confirmed by the dead-letter topic and acknowledged.
   */
  uint64_t dead_lettered;
  /**
   * Done before this assignment, as the committed offset's map says: not handled again.
   */
  uint64_t skipped;
  /**
   * Given back because their partition was revoked, lost or sought before they were done, or answered too late for it.
   */
  uint64_t stale;
  /**
   * Given back unfinished.
   */
  uint64_t returned;
  /**
   * Waiting for a handler now.
   */
  uint64_t queued;
  /**
   * Tasks without an answer now.
   */
  uint64_t in_flight;
  /**
   * Waiting for their next attempt now.
   */
  uint64_t retry_wait;
  /**
   * On their way to the dead-letter topic now.
   */
  uint64_t dead_letters_pending;
  /**
   * Beside the account: attempts that have run over their time, all in all.
   */
  uint64_t timed_out;
  /**
   * Beside the account: those of them whose task has no answer yet.
   */
  uint64_t overdue;
  /**
   * Records in no state: not 0 means a defect.
   */
  int64_t missing;
} tg_ledger;

/**
 * How a processing does.
 */
typedef struct tg_process_report {
  /**
   * What became of every record.
   */
  struct tg_ledger ledger;
  /**
   * How many records may be in flight now: `max_in_flight`, unless `min_in_flight` has it adapted.
   */
  size_t in_flight_limit;
  /**
   * Threads that are in a handler now. Once it is over and this is 0 no handler is called any more.
   */
  size_t handlers_running;
  /**
   * Why it is over, if it is.
   */
  tg_process_end end;
  /**
   * No task is without an answer, and every dead letter is confirmed.
   */
  bool is_drained;
} tg_process_report;

/**
 * A header of a record; valid as long as the record.
 */
typedef struct tg_header {
  /**
   * The name as sent; Kafka asks for UTF-8, brokers do not check.
   */
  struct tg_bytes name;
  /**
   * The value; `data` is NULL for null.
   */
  struct tg_bytes value;
} tg_header;

/**
 * A record to send. Everything stays the caller's and is copied during the call.
 */
typedef struct tg_producer_record {
  /**
   * The topic, NUL-terminated.
   */
  const char *topic;
  /**
   * The partition, or TG_PARTITION_ANY.
   */
  int32_t partition;
  /**
   * The key; `data` NULL for none. Empty is not null.
   */
  struct tg_bytes key;
  /**
   * The value; `data` NULL for a tombstone. Empty is not null.
   */
  struct tg_bytes value;
  /**
   * `header_count` headers, as tg_header_next() gives them; their names are UTF-8.
   */
  const struct tg_header *headers;
  /**
   * How many headers.
   */
  size_t header_count;
  /**
   * Milliseconds since 1970; TG_TIMESTAMP_NOW and 0 are the time of the call.
   */
  int64_t timestamp_ms;
} tg_producer_record;

/**
 * What became of a record that was accepted.
 */
typedef struct tg_delivery_report {
  /**
   * The topic's name, UTF-8; empty when the producer ended before librdkafka told what became of the record.
   */
  struct tg_bytes topic;
  /**
   * The partition; -1 when the record failed before it had one.
   */
  int32_t partition;
  /**
   * TG_OK when it was delivered.
   */
  tg_status status;
  /**
   * Its offset; -1 when it was not delivered, and with `acks=0`, where the broker does not tell.
   */
  int64_t offset;
  /**
   * Its timestamp in milliseconds since 1970; -1 when there is none.
   */
  int64_t timestamp_ms;
  /**
   * Microseconds from the call to the report.
   */
  uint64_t latency_us;
  /**
   * Why it was not delivered; NULL when it was.
   */
  const struct tg_error *error;
  /**
   * tg_on_delivery.user_data of the call that sent it.
   */
  void *opaque;
} tg_delivery_report;

/**
 * Called once with what became of a record, on the producer's delivery thread and under no lock. Every other report waits for it, so it
 * should be short. It may send, close and free (both return at once and are done when it has returned), and call everything else but
 * tg_producer_flush() of this producer, which answers TG_ERROR_ARGUMENT. The report and its texts end with the call.
 */
typedef void (*tg_delivery_callback)(const struct tg_delivery_report *report, void *user_data);

/**
 * Who hears what becomes of a record.
 */
typedef struct tg_on_delivery {
  /**
   * What to call; NULL lets the report wait for tg_producer_next_report().
   */
  tg_delivery_callback callback;
  /**
   * Given to the callback, and in tg_delivery_report.opaque. Neither used nor freed when the send is refused.
   */
  void *user_data;
} tg_on_delivery;

/**
 * Called with each record; it and what it points to end with the call.
 *
 * @return 0 when the record is finished; another number stops, and the record is handed out again.
 */
typedef int (*tg_record_handler)(const struct tg_record *record, void *user_data);

/**
 * Called with each batch, which is the library's and ends with the call; tg_batch_slice() keeps rows of it.
 *
 * @return 0 when all of its records are finished; another number stops, and the batch is handed out again.
 */
typedef int (*tg_batch_handler)(const struct tg_batch *batch, void *user_data);

/**
 * Records in columns, as tg_columns and tg_run have them: row `i` has its value at `arena.data + value_starts[i]`. The rows of a run are
 * sent on with the run's arena, its count, and the batch's columns from the run's first row on. Everything stays the caller's and is
 * copied during the call.
 */
typedef struct tg_producer_columns {
  /**
   * How many records.
   */
  size_t count;
  /**
   * The memory that keys and values lie in.
   */
  struct tg_bytes arena;
  /**
   * Where each key begins in the arena, in bytes; NULL, with the lengths, when no record has a key.
   */
  const uint32_t *key_starts;
  /**
   * How long each key is in bytes, -1 for none.
   */
  const int32_t *key_lengths;
  /**
   * Where each value begins in the arena, in bytes.
   */
  const uint32_t *value_starts;
  /**
   * How long each value is in bytes, -1 for a tombstone.
   */
  const int32_t *value_lengths;
  /**
   * Each record's time in milliseconds since 1970, TG_TIMESTAMP_NOW and 0 for the time of the call; NULL for that in all rows.
   */
  const int64_t *timestamps_ms;
  /**
   * Each record's partition, TG_PARTITION_ANY for the partitioner's choice; NULL for the call's in all rows.
   */
  const int32_t *partitions;
  /**
   * How many headers each record has; NULL, with the headers, when none has any.
   */
  const uint32_t *header_counts;
  /**
   * The headers of all rows, one row's behind the other's; their names are UTF-8.
   */
  const struct tg_header *headers;
} tg_producer_columns;

/**
 * Called for a token; answers with tg_token_request_give() or tg_token_request_refuse() before it returns. It runs on a thread of the client
 * that the token is for, never on the caller's, at once and again after 80 % of each token's life, and may take its time: closing does not wait
 * for it. `config` is the property `sasl.oauthbearer.config`, empty where it is not set, and ends with the call. Several clients of one
 * configuration ask at once, each on its own thread.
 */
typedef void (*tg_token_callback)(struct tg_token_request *request, const char *config, void *user_data);

/**
 * An extension of SASL (RFC 7628), both NUL-terminated.
 */
typedef struct tg_token_extension {
  /**
   * Letters A-Z and a-z, not "auth".
   */
  const char *name;
  /**
   * Visible ASCII characters and spaces.
   */
  const char *value;
} tg_token_extension;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI version of the library that runs, as a symbol for tools that do not call it; see TG_ABI_VERSION.
 */
extern const uint32_t tg_abi;

/**
 * An admin client with this configuration; it connects in the background. tg_admin_free() ends it. Any thread.
 *
 * @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
 *         TG_ERROR_ARGUMENT for NULL and a freed configuration.
 */
tg_status tg_admin_new(const struct tg_config *config, struct tg_admin **admin);

/**
 * Creates topics. One that cannot be created does not keep the others from it. The embedded broker cannot do this: use
 * tg_broker_create_topic() there. Any thread.
 *
 * @param kafka_codes NULL, or an array of `count` numbers: 0 for each topic that was created, else Kafka's code (36 for one that exists).
 *        Filled on TG_OK, and when the cluster has answered.
 * @return TG_ERROR_KAFKA for the first topic that was not created, and when the cluster did not answer; TG_ERROR_TIMED_OUT; TG_ERROR_ARGUMENT
 *         for NULL, a freed client, no topic, a name twice, a negative time, and a topic that cannot be asked for (then none is created).
 */
tg_status tg_admin_create_topics(struct tg_admin *admin,
                                 const struct tg_new_topic *topics,
                                 size_t count,
                                 int64_t timeout_ms,
                                 int32_t *kafka_codes);

/**
 * Deletes topics and everything in them. Any thread.
 *
 * @param kafka_codes as of tg_admin_create_topics().
 * @return as tg_admin_create_topics().
 */
tg_status tg_admin_delete_topics(struct tg_admin *admin,
                                 const char *const *names,
                                 size_t count,
                                 int64_t timeout_ms,
                                 int32_t *kafka_codes);

/**
 * The cluster's topics, Kafka's internal ones included, in the order of their names. tg_topics_free() ends the list. Any thread.
 *
 * @return TG_ERROR_KAFKA when no broker answered in time; TG_ERROR_ARGUMENT for NULL, a freed client, and a negative time.
 */
tg_status tg_admin_topics(struct tg_admin *admin,
                          int64_t timeout_ms,
                          struct tg_topics **topics);

/**
 * As tg_admin_topics(), for a producer. Any thread.
 *
 * @return as tg_admin_topics().
 */
tg_status tg_producer_topics(struct tg_producer *producer, int64_t timeout_ms, struct tg_topics **topics);

/**
 * Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle.
 */
tg_status tg_admin_set_sasl_credentials(struct tg_admin *admin,
                                        const char *username,
                                        const char *password);

/**
 * Ends an admin client, within some five seconds. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_admin_free(struct tg_admin *admin);

/**
 * How many topics are in the list; 0 for NULL and a freed list. Any thread.
 */
size_t tg_topics_count(const struct tg_topics *topics);

/**
 * The list as an array of tg_topics_count() elements, valid until it is freed; NULL for NULL, a freed list and an empty one. Any thread.
 */
const struct tg_topic *tg_topics_data(const struct tg_topics *topics);

/**
 * Ends a list. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_topics_free(struct tg_topics *topics);

/**
 * Exports the batch as an Arrow struct array: topic (dictionary of int32 to utf8), partition (int32), offset (int64), timestamp (ms, UTC),
 * key and value (binary view), headers (list of struct of name and value). Numbers, keys and values are not copied: the array
 * keeps the batch's memory, also after tg_batch_free(), until its `release` is called. Any thread.
 *
 * @param array NULL, or where a released or uninitialised ArrowArray is; what is there is overwritten.
 * @param schema NULL, or where a released or uninitialised ArrowSchema is; what is there is overwritten.
 * @return TG_ERROR_ARGUMENT for a NULL or freed batch, for both NULL, and for headers of 2 GiB and more.
 */
tg_status tg_batch_export_arrow(const struct tg_batch *batch,
                                struct ArrowArray *array,
                                struct ArrowSchema *schema);

/**
 * How many records; 0 for NULL and a freed batch. Any thread.
 */
size_t tg_batch_count(const struct tg_batch *batch);

/**
 * The memory that the batch holds on to, in bytes; 0 for NULL and a freed batch. Any thread.
 */
size_t tg_batch_size_bytes(const struct tg_batch *batch);

/**
 * The columns, without a copy. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed batch.
 */
tg_status tg_batch_columns(const struct tg_batch *batch, struct tg_columns *columns);

/**
 * The record in row `row`. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed batch, and a row beyond the end.
 */
tg_status tg_batch_record(const struct tg_batch *batch, size_t row, struct tg_record *record);

/**
 * A batch of some of the rows, which shares the memory and is freed for itself. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed batch, and rows beyond the end.
 */
tg_status tg_batch_slice(const struct tg_batch *batch, size_t first, size_t count, struct tg_batch **slice);

/**
 * Notes that `count` records from row `first` on are finished, so that they may be committed: in any order, by any thread, also
 * twice. Only batches of tg_consumer_lease_batch() need it; others are finished by asking for the next one.
 *
 * @return TG_ERROR_STALE when a partition was revoked, lost or sought meanwhile (the others are noted); TG_ERROR_ARGUMENT
 *         for NULL, a freed batch, and rows beyond the end.
 */
tg_status tg_batch_acknowledge(const struct tg_batch *batch,
                               size_t first,
                               size_t count);

/**
 * Gives back leased records that will not be finished here because their partition is being revoked (tg_batch_is_stale()):
 * the revoke then need not wait for them, and the partition's next owner handles them. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed batch, and rows beyond the end.
 */
tg_status tg_batch_release(const struct tg_batch *batch,
                           size_t first,
                           size_t count);

/**
 * True when the partition of row `row` was revoked, lost or sought since the batch was fetched: whoever owns it now handles the
 * record. Also true for NULL, a freed batch and a row beyond the end. Any thread.
 */
bool tg_batch_is_stale(const struct tg_batch *batch,
                       size_t row);

/**
 * Ends a batch: the pointers of its columns, records and headers lead nowhere any more. Its consumer need not live. A batch that
 * was not leased stays in hand: only asking for the next one, or a commit, finishes it. NULL does nothing; freeing twice is
 * TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_batch_free(struct tg_batch *batch);

/**
 * Starts a cluster; tg_broker_free() ends it. Any thread.
 *
 * @param brokers how many, 1 to 100; they are numbered from 1.
 * @return TG_ERROR_ARGUMENT for NULL and another number of brokers; TG_ERROR_KAFKA when librdkafka cannot start it.
 */
tg_status tg_broker_new(int32_t brokers, struct tg_broker **broker);

/**
 * What clients set as `bootstrap.servers`, NUL-terminated and valid until tg_broker_free(); NULL for NULL and a freed broker. Any thread.
 */
const char *tg_broker_bootstrap_servers(const struct tg_broker *broker);

/**
 * Creates a topic, replicated over up to three brokers. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed broker, a name that Kafka does not allow, fewer than one partition, and a topic that exists.
 */
tg_status tg_broker_create_topic(struct tg_broker *broker,
                                 const char *topic,
                                 int32_t partitions);

/**
 * Disconnects a broker, or TG_ALL_BROKERS, and refuses new connections until tg_broker_up(). Leaders stay. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
 */
tg_status tg_broker_down(struct tg_broker *broker, int32_t number);

/**
 * Lets a broker, or TG_ALL_BROKERS, accept connections again. Any thread.
 *
 * @return as tg_broker_down().
 */
tg_status tg_broker_up(struct tg_broker *broker, int32_t number);

/**
 * Makes a broker, or TG_ALL_BROKERS, answer no sooner than after `delay_ms`. Any thread.
 *
 * @return as tg_broker_down(); TG_ERROR_ARGUMENT also for a negative time.
 */
tg_status tg_broker_round_trip_time(struct tg_broker *broker, int32_t number, int64_t delay_ms);

/**
 * Makes the next `count` requests of a kind fail with these Kafka codes, one each, in this order; -195 (_TRANSPORT) drops the
 * connection instead. Any thread.
 *
 * @param request a tg_request number.
 * @return TG_ERROR_ARGUMENT for NULL, a freed broker, an unknown request, and a number that is no Kafka code.
 */
tg_status tg_broker_request_errors(struct tg_broker *broker,
                                   int32_t request,
                                   const int32_t *kafka_codes,
                                   size_t count);

/**
 * Forgets the errors that tg_broker_request_errors() left for requests of a kind. Any thread.
 *
 * @param request a tg_request number.
 * @return TG_ERROR_ARGUMENT for NULL, a freed broker, and an unknown request.
 */
tg_status tg_broker_clear_request_errors(struct tg_broker *broker, int32_t request);

/**
 * Makes a broker the leader of a partition. Any thread.
 *
 * @param number the broker; 0 leaves the partition without a leader.
 * @return TG_ERROR_KAFKA for an unknown partition; TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
 */
tg_status tg_broker_set_leader(struct tg_broker *broker,
                               const char *topic,
                               int32_t partition,
                               int32_t number);

/**
 * Makes a broker the coordinator of a consumer group. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed handle, and a broker that does not exist.
 */
tg_status tg_broker_set_group_coordinator(struct tg_broker *broker, const char *group, int32_t number);

/**
 * Ends a cluster and everything in it; clients that use it go on without. Takes at most five seconds. NULL does nothing; freeing twice is
 * TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_broker_free(struct tg_broker *broker);

/**
 * A new, empty configuration; tg_config_free() ends it. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for `config` NULL.
 */
tg_status tg_config_new(struct tg_config **config);

/**
 * Sets a property; a value set before is replaced. Nothing is checked here: tg_config_check() and the clients do, and tell
 * all problems together. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle.
 */
tg_status tg_config_set(struct tg_config *config,
                        const char *name,
                        const char *value);

/**
 * Looks for everything that is wrong or doubtful, without connecting; tg_config_report_free() ends the report. Any thread.
 *
 * @param client a tg_client number.
 * @return TG_OK also when there are problems: look at the report. TG_ERROR_ARGUMENT for NULL, a freed handle and an unknown
 *         client.
 */
tg_status tg_config_check(const struct tg_config *config,
                          int32_t client,
                          struct tg_config_report **report);

/**
 * How many problems a report holds, errors first; 0 for NULL and a freed report. Any thread.
 */
size_t tg_config_report_count(const struct tg_config_report *report);

/**
 * The problems as an array of tg_config_report_count() elements, valid until the report is freed; NULL for NULL, a freed
 * report and one without problems. Any thread.
 */
const struct tg_config_problem *tg_config_report_data(const struct tg_config_report *report);

/**
 * Ends a report. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_config_report_free(struct tg_config_report *report);

/**
 * Ends a configuration; clients made with it keep their copy. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any
 * thread.
 */
tg_status tg_config_free(struct tg_config *config);

/**
 * A consumer with this configuration; it connects in the background, so a broker that is away is no error here.
 * tg_consumer_free() ends it. Any thread.
 *
 * @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
 *         TG_ERROR_ARGUMENT for NULL and a freed configuration.
 */
tg_status tg_consumer_new(const struct tg_config *config, struct tg_consumer **consumer);

/**
 * Joins the group for these topics; a name that begins with '^' is a regular expression. What was subscribed to before is
 * replaced. A topic that does not exist is waited for, with a warning in the log. Any thread.
 *
 * @param callbacks what to call at rebalances, copied; NULL for nothing.
 * @return TG_ERROR_ARGUMENT for NULL, a freed consumer, no topic, an empty name, or a configuration without `group.id`; then
 *         `free_user_data` is not called.
 */
tg_status tg_consumer_subscribe(struct tg_consumer *consumer,
                                const char *const *topics,
                                size_t count,
                                const struct tg_rebalance_callbacks *callbacks);

/**
 * Leaves the group and stops reading. What is finished is committed first. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_unsubscribe(struct tg_consumer *consumer);

/**
 * The next record. Asking for it finishes the one handed out before.
 *
 * @param timeout_ms 0 or more; TG_FOREVER waits until there is a record or the consumer is closed.
 * @param record is filled on TG_OK; its pointers are good until the next polling call or tg_consumer_free().
 * @return TG_NOTHING when the time is over, and after tg_consumer_wake() or a close; TG_ERROR_CONCURRENT_USE;
 *         TG_ERROR_CALLBACK; TG_ERROR_KAFKA for what only the program can mend (no permission, a fatal error);
 *         TG_ERROR_ARGUMENT for NULL, a freed consumer, and another negative time.
 */
tg_status tg_consumer_poll(struct tg_consumer *consumer, int64_t timeout_ms, struct tg_record *record);

/**
 * Keeps the record that tg_consumer_poll() gave last beyond the next call, as a batch of one row. Same thread as the poll.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed consumer, and when no record was polled.
 */
tg_status tg_consumer_keep_polled(struct tg_consumer *consumer,
                                  struct tg_batch **kept);

/**
 * The next batch: returns as soon as there are records. Asking for it finishes the batch handed out before. tg_batch_free() ends the
 * batch.
 *
 * @param timeout_ms as for tg_consumer_poll().
 * @param max_records the most records, 0 for no limit; never more than `max.poll.records`.
 * @param batch is filled on TG_OK, and NULL on TG_NOTHING.
 * @return as tg_consumer_poll().
 */
tg_status tg_consumer_next_batch(struct tg_consumer *consumer,
                                 int64_t timeout_ms,
                                 size_t max_records,
                                 struct tg_batch **batch);

/**
 * Up to `records` records: waits until there are so many, or until the time is over, and then gives what there is.
 *
 * @param timeout_ms 0 or more.
 * @param records 1 or more.
 * @return as tg_consumer_next_batch(); TG_ERROR_ARGUMENT for 0 records.
 */
tg_status tg_consumer_fill_batch(struct tg_consumer *consumer,
                                 int64_t timeout_ms,
                                 size_t records,
                                 struct tg_batch **batch);

/**
 * As tg_consumer_next_batch(), but the records are finished only by tg_batch_acknowledge() (in any order, by any thread), never by
 * asking for more.
 *
 * @return as tg_consumer_next_batch().
 */
tg_status tg_consumer_lease_batch(struct tg_consumer *consumer,
                                  int64_t timeout_ms,
                                  size_t max_records,
                                  struct tg_batch **batch);

/**
 * Everything that was handed out and not leased counts as finished, without asking for more. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_finish_in_hand(struct tg_consumer *consumer);

/**
 * Makes a waiting polling call, or the next one, return TG_NOTHING at once. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_wake(struct tg_consumer *consumer);

/**
 * What an event loop waits for: a file descriptor that is readable while a polling call with a timeout of 0 would give something
 * (on Windows an event handle that is signalled then). After it became readable, poll until TG_NOTHING: that makes it unreadable
 * again. Never read from it or close it; it ends with tg_consumer_free(). Any thread; the same one at each call.
 *
 * @return -1 when the system has no descriptor left, and for NULL and a freed consumer; see tg_last_error().
 */
ptrdiff_t tg_consumer_ready_fd(struct tg_consumer *consumer);

/**
 * The numbers so far as one JSON object; also of a closed consumer. tg_text_free() ends the text. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_stats_json(const struct tg_consumer *consumer, struct tg_text **json);

/**
 * Commits what is finished, leaves the group and ends the background thread. Records handed out and not finished are not committed:
 * call tg_consumer_finish_in_hand() or tg_consumer_commit() before, if they are done. Always returns within `timeout_ms` and a little;
 * closing twice is fine; a waiting polling call of another thread returns. Batches stay valid. Any thread.
 *
 * @return TG_ERROR_TIMED_OUT when the group could not be left in time: it is left in the background then. TG_ERROR_ARGUMENT for NULL,
 *         a freed consumer, and a negative time.
 */
tg_status tg_consumer_close(struct tg_consumer *consumer,
                            int64_t timeout_ms);

/**
 * Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle; TG_ERROR_CLOSED.
 */
tg_status tg_consumer_set_sasl_credentials(struct tg_consumer *consumer,
                                           const char *username,
                                           const char *password);

/**
 * Ends a consumer; one that was not closed is closed, for at most five seconds. A polling call of another thread ends with TG_NOTHING,
 * batches stay valid. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_consumer_free(struct tg_consumer *consumer);

/**
 * The error of the call of this thread that failed last, or NULL when none has. It is valid until the next call of this
 * thread that fails, or tg_clear_error(); a call that succeeds leaves it alone. Cannot fail.
 */
const struct tg_error *tg_last_error(void);

/**
 * Forgets the error of this thread. Cannot fail.
 */
void tg_clear_error(void);

/**
 * The name of a status, such as "ARGUMENT"; static, "UNKNOWN" for a number that is none. Any thread; cannot fail.
 */
const char *tg_status_name(int32_t status);

/**
 * Sends the log lines of the whole process to a callback from now on; without one they go nowhere. A callback that was set before is
 * replaced; a line that another thread is writing may still reach it, and `free_user_data` is called when that is done. Any thread.
 *
 * @param level the least important tg_log_level to be told of.
 * @param callback NULL ends it; the other arguments are not looked at then.
 * @param user_data given to the callback.
 * @param free_user_data called once when the callback was replaced or ended; may be NULL.
 * @return TG_ERROR_ARGUMENT for an unknown level; then `free_user_data` is not called.
 */
tg_status tg_set_log_callback(int32_t level,
                              tg_log_callback callback,
                              void *user_data,
                              tg_free_callback free_user_data);

/**
 * Reads these partitions from their offsets (0 or more, or a TG_OFFSET_ number) without joining a group; replaces what was assigned.
 * A count of 0 stops reading. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed consumer, a negative partition, an offset that is none, and a consumer that is subscribed.
 */
tg_status tg_consumer_assign(struct tg_consumer *consumer,
                             const struct tg_topic_partition *partitions,
                             size_t count);

/**
 * The partitions that this consumer reads, without offsets. tg_partitions_free() ends the list. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_assignment(const struct tg_consumer *consumer, struct tg_partitions **partitions);

/**
 * Goes on from another place in an assigned partition. Records fetched before are not handed out any more, and acknowledging them
 * changes nothing. Any thread.
 *
 * @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL, a freed consumer, and an offset that is none.
 */
tg_status tg_consumer_seek(struct tg_consumer *consumer,
                           const char *topic,
                           int32_t partition,
                           int64_t offset);

/**
 * Hands out nothing more of these partitions until tg_consumer_resume(). What is fetched already is kept. Any thread.
 *
 * @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_pause(struct tg_consumer *consumer, const struct tg_topic_partition *partitions, size_t count);

/**
 * Hands out records of these partitions again. Any thread.
 *
 * @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_resume(struct tg_consumer *consumer, const struct tg_topic_partition *partitions, size_t count);

/**
 * The partitions that are paused, without offsets. tg_partitions_free() ends the list. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_paused(const struct tg_consumer *consumer, struct tg_partitions **partitions);

/**
 * Commits everything that is finished and everything that was handed out and not leased, and waits for the broker's answer. Any
 * thread.
 *
 * @param committed NULL, or where a list of what was committed goes (empty when nothing new is finished); tg_partitions_free() ends it.
 * @return TG_ERROR_TIMED_OUT; TG_ERROR_KAFKA when the broker refuses (what was finished stays to be committed); TG_ERROR_ARGUMENT for a
 *         NULL or freed consumer, a negative time, and a configuration without `group.id`.
 */
tg_status tg_consumer_commit(struct tg_consumer *consumer,
                             int64_t timeout_ms,
                             struct tg_partitions **committed);

/**
 * As tg_consumer_commit(), without waiting; a failure is logged, and what was finished is committed again later. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a freed consumer, and a configuration without `group.id`.
 */
tg_status tg_consumer_commit_async(struct tg_consumer *consumer);

/**
 * Commits these offsets, each that of the record to be read next, whatever is finished, and waits for the broker's answer. Any thread.
 *
 * @return as tg_consumer_commit(); TG_ERROR_ARGUMENT also for a count of 0 and a negative offset.
 */
tg_status tg_consumer_commit_offsets(struct tg_consumer *consumer,
                                     const struct tg_topic_partition *partitions,
                                     size_t count,
                                     int64_t timeout_ms);

/**
 * The offset of the record that is handed out next; TG_OFFSET_NONE while it is not known, because the partition starts at a logical
 * offset and nothing has arrived yet. Asks nobody. Any thread.
 *
 * @return TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_position(const struct tg_consumer *consumer,
                               const char *topic,
                               int32_t partition,
                               int64_t *offset);

/**
 * What the group has committed for these partitions, TG_OFFSET_NONE for nothing. Asks the broker. tg_partitions_free() ends the list.
 * Any thread.
 *
 * @return TG_ERROR_KAFKA when the broker cannot be asked in time or refuses; TG_ERROR_ARGUMENT for NULL, a freed consumer, a negative
 *         time, and a configuration without `group.id`.
 */
tg_status tg_consumer_committed(const struct tg_consumer *consumer,
                                const struct tg_topic_partition *partitions,
                                size_t count,
                                int64_t timeout_ms,
                                struct tg_partitions **committed);

/**
 * The low and the high watermark: the offsets of the first record and of the next one to be written. Any thread.
 *
 * @param timeout_ms how long to wait for the broker's answer; 0 asks nobody and tells what the latest fetch reported.
 * @return TG_NOTHING when nobody was asked and no fetch has reported yet; TG_ERROR_KAFKA when the broker cannot be asked in time or
 *         knows no such partition; TG_ERROR_ARGUMENT for NULL, a freed consumer, and a negative time.
 */
tg_status tg_consumer_watermarks(const struct tg_consumer *consumer,
                                 const char *topic,
                                 int32_t partition,
                                 int64_t timeout_ms,
                                 int64_t *low,
                                 int64_t *high);

/**
 * How many records lie between the position and the high watermark. Asks nobody. Any thread.
 *
 * @return TG_NOTHING while either is unknown; TG_ERROR_NOT_ASSIGNED; TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_lag(const struct tg_consumer *consumer, const char *topic, int32_t partition, int64_t *lag);

/**
 * The first offset at or after each time: `offset` of the elements is in milliseconds since 1970, and in the list it is the offset, or
 * TG_OFFSET_END where there is no such record. Asks the broker. tg_partitions_free() ends the list. Any thread.
 *
 * @return TG_ERROR_KAFKA when the broker cannot be asked in time; TG_ERROR_ARGUMENT for NULL, a freed consumer, and a negative time.
 */
tg_status tg_consumer_offsets_for_times(const struct tg_consumer *consumer,
                                        const struct tg_topic_partition *times,
                                        size_t count,
                                        int64_t timeout_ms,
                                        struct tg_partitions **offsets);

/**
 * How many partitions are in the list; 0 for NULL and a freed list. Any thread.
 */
size_t tg_partitions_count(const struct tg_partitions *partitions);

/**
 * The list as an array of tg_partitions_count() elements, valid until it is freed; NULL for NULL, a freed list and an empty
 * one. Any thread.
 */
const struct tg_topic_partition *tg_partitions_data(const struct tg_partitions *partitions);

/**
 * Ends a list. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_partitions_free(struct tg_partitions *partitions);

/**
 * Handles the consumer's records on threads of the library: many at once, in order by key, by partition or not at all, with retries and dead
 * letters, and with commits that never pass a record without an answer. Runs in the background until tg_process_stop(), until the consumer
 * is closed, or until an error; tg_process_free() ends it. The consumer must be subscribed or assigned, now or later, and must not be polled
 * by anybody else meanwhile; its rebalance callbacks run on a thread of the library's. When partitions are revoked, records that wait are
 * given back, and those in flight have `tidegate.revoke.drain.ms` to be answered. Any thread.
 *
 * @param options NULL for tg_process_default_options().
 * @param free_user_data called once when no handler needs `user_data` any more, on any thread, while or after the processing is freed; may
 *        be NULL.
 * @return TG_ERROR_ARGUMENT for NULL, a freed consumer or producer, and options that cannot be or contradict each other, with the option as
 *         the argument; TG_ERROR_CONCURRENT_USE while it is being processed already; TG_ERROR_CLOSED; TG_ERROR_FORKED; as tg_producer_new()
 *         for the dead letters. Whatever the error, `free_user_data` is not called.
 */
tg_status tg_process_start(struct tg_consumer *consumer,
                           const struct tg_process_options *options,
                           tg_task_handler handler,
                           void *user_data,
                           tg_free_callback free_user_data,
                           struct tg_process **process);

/**
 * As tg_process_start(), with `batch_size` records at a time, or fewer when `batch_timeout_ms` is over. Those of one key follow each other
 * in order.
 *
 * @return as tg_process_start().
 */
tg_status tg_process_start_batches(struct tg_consumer *consumer,
                                   const struct tg_process_options *options,
                                   tg_tasks_handler handler,
                                   void *user_data,
                                   tg_free_callback free_user_data,
                                   struct tg_process **process);

/**
 * How it does. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed processing; TG_ERROR_FORKED.
 */
tg_status tg_process_progress(const struct tg_process *process, struct tg_process_report *report);

/**
 * Waits until it is over: stopped, by a closed consumer, or by an error. Handlers may still have records then: tg_process_stop() waits for
 * them. Any thread.
 *
 * @param timeout_ms 0 or more, or TG_FOREVER.
 * @return TG_OK when it is over, TG_NOTHING when the time is; what ended it, if that was an error: TG_ERROR_CALLBACK for a record that
 *         failed for good; TG_ERROR_ARGUMENT for NULL, a freed processing, and another negative time; TG_ERROR_FORKED.
 */
tg_status tg_process_wait(struct tg_process *process,
                          int64_t timeout_ms);

/**
 * Begins no other record, gives back what waits, waits for tasks in flight and for handlers to return, and commits what is done (with
 * `enable.auto.commit`). Returns within `drain_ms` and a second for the commit, whatever handlers do; a task that is answered later still
 * counts while its consumer is open. The consumer stays open. Stopping again waits again. Any thread; a handler that calls it has answered its
 * own task before, or waits for itself until the time is over.
 *
 * @param drain_ms 0 or more.
 * @param report NULL, or where the report goes, also with an error that had ended it before.
 * @return TG_OK also when not everything was drained: see the report. What had ended it before, if that was an error; TG_ERROR_ARGUMENT for
 *         NULL, a freed processing, and a negative time; TG_ERROR_FORKED.
 */
tg_status tg_process_stop(struct tg_process *process,
                          int64_t drain_ms,
                          struct tg_process_report *report);

/**
 * Ends a processing; one that was not stopped is stopped, for at most five seconds. Tasks without an answer stay good. NULL does nothing;
 * freeing twice is TG_ERROR_ARGUMENT. Any thread, also a handler.
 */
tg_status tg_process_free(struct tg_process *process);

/**
 * Fills in what is used when nothing is said. Cannot fail but for NULL. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL.
 */
tg_status tg_process_default_options(struct tg_process_options *options);

/**
 * A producer with this configuration; it connects in the background, so a broker that is away is no error here.
 * tg_producer_free() ends it. Any thread.
 *
 * @return TG_ERROR_CONFIG with every problem of the configuration; TG_ERROR_KAFKA when librdkafka cannot start;
 *         TG_ERROR_ARGUMENT for NULL and a freed configuration.
 */
tg_status tg_producer_new(const struct tg_config *config, struct tg_producer **producer);

/**
 * Sends a record. Waits up to `tidegate.queue.full.timeout.ms` when the queue is full (not in a delivery callback, where nobody would
 * make room). TG_OK means accepted: what becomes of the record is told to `on_delivery`; without it, delivery and failure are counted
 * in the statistics, and failures are logged. Any thread.
 *
 * @param on_delivery copied; NULL for no report.
 * @return TG_ERROR_QUEUE_FULL when there was no room in time; TG_ERROR_KAFKA when librdkafka refuses the record (too large, unknown
 *         partition); TG_ERROR_ARGUMENT for NULL, a freed producer, an empty topic, another negative partition or timestamp, bytes that
 *         are NULL with a length or longer than memory, a header's name that is NULL or not UTF-8, and too many unread reports. Whatever
 *         the error, the record was not accepted and there is no report.
 */
tg_status tg_producer_send(struct tg_producer *producer,
                           const struct tg_producer_record *record,
                           const struct tg_on_delivery *on_delivery);

/**
 * As tg_producer_send(), but never waits: TG_ERROR_QUEUE_FULL at once. Any thread.
 *
 * @return as tg_producer_send().
 */
tg_status tg_producer_try_send(struct tg_producer *producer,
                               const struct tg_producer_record *record,
                               const struct tg_on_delivery *on_delivery);

/**
 * Waits until every record sent so far, by any thread, has its report, and its callback has run. Any thread.
 *
 * @param timeout_ms 0 or more.
 * @return TG_ERROR_TIMED_OUT with the number of records that are still in flight (they stay so) in the text; TG_ERROR_ARGUMENT for NULL,
 *         a freed producer, a negative time, and in a delivery callback of this producer.
 */
tg_status tg_producer_flush(struct tg_producer *producer,
                            int64_t timeout_ms);

/**
 * How many records were accepted and have no report yet; also of a closed producer. 0 for NULL and a freed producer. Any thread.
 */
size_t tg_producer_in_flight(const struct tg_producer *producer);

/**
 * Gives up every record in flight: each is reported as failed, with the Kafka name "_PURGE_QUEUE", or "_PURGE_INFLIGHT" where the
 * broker may have it all the same. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed producer.
 */
tg_status tg_producer_purge(struct tg_producer *producer);

/**
 * The numbers so far as one JSON object; also of a closed producer. tg_text_free() ends the text. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and a freed producer.
 */
tg_status tg_producer_stats_json(const struct tg_producer *producer, struct tg_text **json);

/**
 * Stops accepting records, waits up to `timeout_ms` for those in flight, gives up the rest (they are reported as failed and counted) and
 * ends the producer's threads. Takes at most some five seconds longer than `timeout_ms`. Closing twice is fine. In a delivery callback
 * it returns at once, and the producer closes when the callback has returned. Polled reports can still be read. Any thread.
 *
 * @return TG_ERROR_TIMED_OUT with the number of records that were given up in the text; TG_ERROR_ARGUMENT for NULL, a freed producer,
 *         and a negative time.
 */
tg_status tg_producer_close(struct tg_producer *producer,
                            int64_t timeout_ms);

/**
 * Replaces user name and password of SASL PLAIN or SCRAM, for the next connections; those that are up stay as they are. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a freed handle; TG_ERROR_CLOSED.
 */
tg_status tg_producer_set_sasl_credentials(struct tg_producer *producer,
                                           const char *username,
                                           const char *password);

/**
 * Ends a producer; one that was not closed is closed, with five seconds for the records in flight. A call of another thread ends with
 * TG_ERROR_CLOSED, one that waits for a report with TG_NOTHING; reports that were not read are gone. NULL does nothing; freeing twice is
 * TG_ERROR_ARGUMENT. Any thread.
 *
 * @return TG_ERROR_TIMED_OUT when records had to be given up; the producer is freed all the same.
 */
tg_status tg_producer_free(struct tg_producer *producer);

/**
 * Takes the first header off `headers`, which is a copy of tg_record.headers and then holds the others. Any thread.
 *
 * @return false when there is none left, and for NULL.
 */
bool tg_header_next(struct tg_bytes *headers,
                    struct tg_header *header);

/**
 * The next report of a record that was sent with a tg_on_delivery without a callback, in the order in which the reports came. At most
 * TG_MAX_UNREAD_REPORTS wait. Also after tg_producer_close(), which leaves none out. Any thread, but the texts of a report end with the
 * next call, also another thread's.
 *
 * @param timeout_ms 0 or more; TG_FOREVER waits until there is a report or the producer is closed.
 * @param report is filled on TG_OK; its texts are good until the next call of this function and tg_producer_free().
 * @return TG_NOTHING when the time is over, and when the producer was closed and every report was read; TG_ERROR_FORKED;
 *         TG_ERROR_ARGUMENT for NULL, a freed producer, and another negative time.
 */
tg_status tg_producer_next_report(struct tg_producer *producer,
                                  int64_t timeout_ms,
                                  struct tg_delivery_report *report);

/**
 * Calls the handler with one record after the other, on this thread, until the consumer is woken or closed. A record is finished when the
 * handler has answered 0 and the next one is asked for, also by another call; a commit in the handler includes the record in it.
 * This is a polling call, and so it runs the rebalance callbacks. The handler may call everything of the library; polling this
 * consumer in it finishes its record, as everywhere, and closing it leaves its record uncommitted (tg_consumer_wake() does not).
 *
 * @return TG_OK after tg_consumer_wake(), tg_consumer_close() and tg_consumer_free(), whoever called it. TG_ERROR_CALLBACK when the handler
 *         answered something else than 0 (the text says what and for which record; calling again hands that record out again) and when
 *         a rebalance callback did; TG_ERROR_CONCURRENT_USE; TG_ERROR_CLOSED when it was closed before; TG_ERROR_KAFKA as of
 *         tg_consumer_poll(); TG_ERROR_ARGUMENT for NULL and a freed consumer.
 */
tg_status tg_consumer_run(struct tg_consumer *consumer,
                          tg_record_handler handler,
                          void *user_data);

/**
 * As tg_consumer_run(), with a batch at a time.
 *
 * @param max_records the most records of a batch, 0 for no limit; never more than `max.poll.records`.
 * @return as tg_consumer_run().
 */
tg_status tg_consumer_run_batches(struct tg_consumer *consumer,
                                  size_t max_records,
                                  tg_batch_handler handler,
                                  void *user_data);

/**
 * Sends records of one topic in their order, each as tg_producer_send() does without a report: what becomes of them is counted in the
 * statistics, and failures are logged. A record that is refused by librdkafka (too large, for example) is left out; when the queue stayed
 * full for one record's whole wait, or the producer was closed, the rest is refused at once, so that what was accepted is in order.
 * Any thread.
 *
 * Rows with timestamps, partitions or headers cost about what as many calls of tg_producer_send() do; without them much less.
 *
 * @param partition for all of them, or TG_PARTITION_ANY.
 * @param statuses NULL, or an array of `columns->count` numbers: each row's tg_status, TG_OK for what was accepted.
 * @param accepted NULL, or where the number of accepted records goes.
 * @return TG_OK when all were accepted, else the status of the first row that was not, whose error tg_last_error() tells.
 *         TG_ERROR_ARGUMENT for NULL, a freed producer, an empty topic, another negative partition or timestamp, a length below -1, a key or
 *         value outside of the arena, and a header's name that is NULL or not UTF-8, in whatever row, which the text names: nothing was
 *         sent then, and the statuses say nothing.
 */
tg_status tg_producer_send_columns(struct tg_producer *producer,
                                   const char *topic,
                                   int32_t partition,
                                   const struct tg_producer_columns *columns,
                                   int32_t *statuses,
                                   size_t *accepted);

/**
 * As tg_producer_send_columns(), with keys and values that lie anywhere.
 *
 * @param keys NULL when no record has a key, or `count` of them; `data` NULL for none.
 * @param values `count` of them; `data` NULL for a tombstone.
 * @param count how many records.
 * @return as tg_producer_send_columns(); TG_ERROR_ARGUMENT also for bytes that are NULL with a length or longer than memory.
 */
tg_status tg_producer_send_batch(struct tg_producer *producer,
                                 const char *topic,
                                 int32_t partition,
                                 const struct tg_bytes *keys,
                                 const struct tg_bytes *values,
                                 size_t count,
                                 int32_t *statuses,
                                 size_t *accepted);

/**
 * As tg_producer_send_columns(), with whole records: each has its topic, partition, headers and timestamp.
 *
 * @param records `count` of them, as tg_producer_send() takes them.
 * @return as tg_producer_send_columns(); TG_ERROR_ARGUMENT for what tg_producer_send() does not take, in whatever row, which the text
 *         names: nothing was sent then.
 */
tg_status tg_producer_send_records(struct tg_producer *producer,
                                   const struct tg_producer_record *records,
                                   size_t count,
                                   int32_t *statuses,
                                   size_t *accepted);

/**
 * The record. Its pointers are good until the task is answered. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
 */
tg_status tg_task_record(const struct tg_task *task, struct tg_record *record);

/**
 * Which attempt this is: 1 for the first. 0 for NULL and an answered task. Any thread.
 */
uint32_t tg_task_attempt(const struct tg_task *task);

/**
 * True when the record's partition was revoked, lost or sought since: whoever owns it now handles the record, and the answer, which is
 * still due, changes nothing. Also true for NULL and an answered task. Any thread.
 */
bool tg_task_is_stale(const struct tg_task *task);

/**
 * Says what the record costs, for `rate_limit` of tg_process_options; it costs 1 until then. Before the answer. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, an answered task, and a cost that is negative or no number; TG_ERROR_FORKED.
 */
tg_status tg_task_charge(struct tg_task *task,
                         double cost);

/**
 * Answers: the record is handled. Any thread; given in a handler, the answer counts when the handler has returned.
 *
 * @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED. A task whose partition is gone (tg_task_is_stale()) or whose
 *         consumer is closed is TG_OK: the record is not committed here, and comes again.
 */
tg_status tg_task_done(struct tg_task *task);

/**
 * Answers all of these tasks, as tg_task_done() does, at a smaller cost. Any thread.
 *
 * @return TG_ERROR_ARGUMENT for NULL, and when one or more of them are NULL or were answered: the others are answered all the same, and the
 *         error is that of the first one; TG_ERROR_FORKED.
 */
tg_status tg_tasks_done(struct tg_task *const *tasks,
                        size_t count);

/**
 * Answers: the attempt failed, and another one is worth it. The record comes to the handler again after the pause that the options say,
 * unless this was attempt number `max_attempts`: then it has failed for good, as with tg_task_fail(). Any thread; as tg_task_done() in a
 * handler.
 *
 * @param after_ms not before so many milliseconds, whatever the options say (a server's Retry-After); 0 or more.
 * @param kind what kind of error, such as "Timeout", for logs and dead letters; NULL for none.
 * @param reason what went wrong; NULL for nothing. Beyond 1000 characters it is cut, and bytes that are no UTF-8 are replaced.
 * @return TG_ERROR_ARGUMENT for NULL, an answered task, and a negative time, with which the task still waits for its answer;
 *         TG_ERROR_FORKED.
 */
tg_status tg_task_retry(struct tg_task *task,
                        int64_t after_ms,
                        const char *kind,
                        const char *reason);

/**
 * Answers: the record has failed for good, and `on_failure` says what becomes of it: processing ends with this error, or the record is
 * skipped, or a copy goes to the dead-letter topic. Any thread; as tg_task_done() in a handler.
 *
 * @param kind as of tg_task_retry().
 * @param reason as of tg_task_retry().
 * @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
 */
tg_status tg_task_fail(struct tg_task *task,
                       const char *kind,
                       const char *reason);

/**
 * Answers: neither done nor failed, because the program is ending. The record is not committed and comes again after a restart, or to the
 * partition's next owner; until then what is in order behind it waits, and counts as queued. Any thread; as tg_task_done() in a handler.
 *
 * @return TG_ERROR_ARGUMENT for NULL and an answered task; TG_ERROR_FORKED.
 */
tg_status tg_task_give_back(struct tg_task *task);

/**
 * The text, UTF-8, with a NUL behind its last byte; valid until it is freed. `data` is NULL for NULL and a freed text. Any thread.
 */
struct tg_bytes tg_text_data(const struct tg_text *text);

/**
 * Ends a text. NULL does nothing; freeing twice is TG_ERROR_ARGUMENT. Any thread.
 */
tg_status tg_text_free(struct tg_text *text);

/**
 * Sets who gives the tokens of SASL OAUTHBEARER to the clients made with this configuration from here on; until the first token is there a
 * client does not connect. Any thread.
 *
 * @param callback NULL for nobody.
 * @param free_user_data called once when neither the configuration nor a client needs `user_data` any more, on any thread; may be NULL.
 * @return TG_ERROR_ARGUMENT for NULL and a freed configuration; then `free_user_data` is not called.
 */
tg_status tg_config_set_token_provider(struct tg_config *config,
                                       tg_token_callback callback,
                                       void *user_data,
                                       tg_free_callback free_user_data);

/**
 * Answers with a token; a second answer replaces the first. Everything is copied.
 *
 * @param value what is sent to the broker, often a JWT.
 * @param expires_at_ms when it expires, in milliseconds since 1970.
 * @param principal whom it is for; NULL or "" where the broker reads that from the token.
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a request whose callback has returned. What else is wrong with a token is
 *         logged, and it is asked for again.
 */
tg_status tg_token_request_give(struct tg_token_request *request,
                                const char *value,
                                int64_t expires_at_ms,
                                const char *principal,
                                const struct tg_token_extension *extensions,
                                size_t extension_count);

/**
 * Answers that there is no token now; it is asked for again after 1, 2, 4, 8 and then every 10 seconds.
 *
 * @param reason a text for the log.
 * @return TG_ERROR_ARGUMENT for NULL, a text that is not UTF-8, and a request whose callback has returned.
 */
tg_status tg_token_request_refuse(struct tg_token_request *request, const char *reason);

/**
 * The ABI version of the library that runs. Any thread; cannot fail.
 */
uint32_t tg_abi_version(void);

/**
 * The library's version, such as "0.1.0"; static. Any thread; cannot fail.
 */
const char *tg_version(void);

/**
 * The version of the librdkafka inside, such as "2.12.1"; static. Any thread; cannot fail.
 */
const char *tg_librdkafka_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TIDEGATE_H */

#ifndef TIDEGATE_INLINE_H
#define TIDEGATE_INLINE_H

/* What is too small for a call. */

/** The value in row `row`, which lies in `run`. */
static inline tg_bytes tg_value_at(const tg_columns *columns, const tg_run *run, size_t row) {
  tg_bytes value = {NULL, 0};
  if (columns->value_lengths[row] >= 0) {
    value.data = run->arena.data + columns->value_starts[row];
    value.length = (size_t)columns->value_lengths[row];
  }
  return value;
}

/** The key in row `row`, which lies in `run`. */
static inline tg_bytes tg_key_at(const tg_columns *columns, const tg_run *run, size_t row) {
  tg_bytes key = {NULL, 0};
  if (columns->key_lengths[row] >= 0) {
    key.data = run->arena.data + columns->key_starts[row];
    key.length = (size_t)columns->key_lengths[row];
  }
  return key;
}

#endif  /* TIDEGATE_INLINE_H */

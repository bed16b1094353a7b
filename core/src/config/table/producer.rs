//! Properties of producers, Tidegate's own at the end.

use super::{Property, boolean, callback, float, integer, one_of, text};

#[rustfmt::skip]
pub(super) const ROWS: &[Property] = &[
    text("transactional.id", "", "Makes the producer transactional; the same id fences an earlier instance.").producer(),
    integer("transaction.timeout.ms", 1000, 2_147_483_647, "60000", "The coordinator aborts a transaction that is silent for this long.").producer(),
    boolean("enable.idempotence", "false", "Each record exactly once and in order, over retries; needs acks=all, retries above 0 and at most 5 requests in flight.").producer(),
    boolean("enable.gapless.guarantee", "false", "A gap in the produced series is fatal; needs enable.idempotence.").producer(),
    integer("queue.buffering.max.messages", 0, 2_147_483_647, "100000", "Records in the producer's queue; 0 means no limit.").producer(),
    integer("queue.buffering.max.kbytes", 1, 2_147_483_647, "1048576", "Size of the producer's queue.").producer(),
    float("linger.ms", 0.0, 900_000.0, "5", "How long a record waits for others to share its batch.").alias("queue.buffering.max.ms").producer(),
    integer("retries", 0, 2_147_483_647, "2147483647", "How often a failed record is sent again, within delivery.timeout.ms.").alias("message.send.max.retries").producer(),
    integer("queue.buffering.backpressure.threshold", 1, 1_000_000, "1", "Unsent requests to a broker from which new batches wait; 1 with idempotence.").producer(),
    one_of("compression.type", &["none", "gzip", "snappy", "lz4", "zstd"], "none", "Compression of batches.").alias("compression.codec").producer(),
    integer("batch.num.messages", 1, 1_000_000, "10000", "Most records in a batch.").producer(),
    integer("batch.size", 1, 2_147_483_647, "1000000", "Most bytes in a batch.").producer(),
    boolean("delivery.report.only.error", "false", "Reports failed deliveries only.").producer().kept("false", "every record gets its delivery report"),
    callback("dr_cb", "use send_with or send_future", "Delivery report callback.").producer(),
    callback("dr_msg_cb", "use send_with or send_future", "Delivery report callback.").producer(),
    integer("sticky.partitioning.linger.ms", 0, 900_000, "10", "How long records without a key stay with one partition; by default twice linger.ms, 0 switches it off.").producer(),
    integer("acks", -1, 1000, "-1", "Replicas that confirm a record: 0, 1, or all (-1).").words(&[("all", -1)]).alias("request.required.acks").producer().topic(),
    integer("request.timeout.ms", 1, 900_000, "30000", "How long the broker may wait for acks.").producer().topic(),
    integer("delivery.timeout.ms", 0, 2_147_483_647, "300000", "How long a record may take to be delivered, retries included; 0 means for ever. Must be above linger.ms.").alias("message.timeout.ms").producer().topic(),
    one_of("queuing.strategy", &["fifo", "lifo"], "fifo", "Order of the producer's queue.").producer().topic().deprecated(),
    boolean("produce.offset.report", "false", "No longer used.").producer().topic().deprecated(),
    one_of("partitioner", &["random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"], "consistent_random", "How records without a partition get one; murmur2_random is what the Java client does.").producer().topic(),
    callback("partitioner_cb", "set the partition of the record, or the property partitioner", "Custom partitioner callback.").producer().topic(),
    callback("msg_order_cmp", "records keep the order of send", "Message queue ordering comparator.").producer().topic().deprecated(),
    integer("compression.level", -1, 12, "-1", "Level of compression.type: gzip 0 to 9, lz4 0 to 12, snappy 0, -1 the default of the codec.").producer().topic(),
    integer("tidegate.queue.full.timeout.ms", 0, 2_147_483_647, "10000", "How long send waits for room in a full queue before QueueFull; 0 does not wait.").producer().own(),
];

/// Tidegate for C++17 and newer: a thin, header-only layer over tidegate.h, with which this may be mixed freely.
///
///     tidegate::Consumer consumer({{"bootstrap.servers", "localhost:9092"}, {"group.id", "billing"}});
///     consumer.subscribe({"orders"});
///     for (const tidegate::Batch& batch : consumer.batches()) {
///         for (const tidegate::Record& record : batch) {
///             use(record.key(), record.value());
///         }
///     }
///
/// **Ownership.** Config and TopicPartition are values. Consumer, Producer, Admin, Broker and Batch own a handle of C's: they move and are
/// not copied, and their destructors free it. Record, Header, Columns and DeliveryReport are views, valid as long as their comment says.
/// After a move, a call is an error (TG_ERROR_ARGUMENT).
///
/// **Errors** are exceptions of the type tidegate::Error. With TIDEGATE_NO_EXCEPTIONS defined before the inclusion, or the compiler told to
/// have none, each function that may fail returns tidegate::Result<T> instead, and clients are made by `create()`. Both kinds may be linked
/// into one program.
///
/// **Callbacks** are callables that return nothing, or an int (0 for success). What one throws never goes through the library: it is kept and
/// comes out of the call that ran it, on the thread that made that call; of a delivery callback, out of the next flush() or close().
///
/// **Threads.** As in C: the polling calls of a consumer by one thread at a time, everything else by any. Moving and destroying an object
/// while another thread uses it is the program's own race, as with any other object; ConsumerRef is there for other threads.
///
/// **Cost.** Iterating a batch reads its columns in place and inline; there is no call into the library per record.
#ifndef TIDEGATE_HPP
#define TIDEGATE_HPP

#include "tidegate/batch.hpp"
#include "tidegate/cluster.hpp"
#include "tidegate/config.hpp"
#include "tidegate/consumer.hpp"
#include "tidegate/error.hpp"
#include "tidegate/log.hpp"
#include "tidegate/process.hpp"
#include "tidegate/producer.hpp"

#endif

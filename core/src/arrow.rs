//! Batches as Arrow record batches, for arrow-rs and, through the C data interface, for everything else.
//!
//! L1; any thread. Numbers, keys and values are not copied: the arrays point into the batch's own columns and arenas and keep
//! them, so what was exported stays valid after the batch and its consumer are gone. New are 16 bytes for each key and each
//! value (their views, with values of up to 12 bytes inside), 4 for each topic and for each list of headers, and the headers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBufferBuilder, StringBuilder, make_view,
};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryViewArray, DictionaryArray, Int32Array, Int64Array, ListArray, PrimitiveArray,
    RecordBatch as ArrowBatch, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, ToByteSlice,
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

use crate::batch::{RecordBatch, TimestampType};
use crate::error::{Error, Result};

/// The columns of [`RecordBatch::to_arrow`]:
///
/// | column | type | null |
/// |---|---|---|
/// | `topic` | dictionary of int32 to utf8 | |
/// | `partition` | int32 | |
/// | `offset` | int64 | |
/// | `timestamp` | timestamp in milliseconds, UTC | the record has none |
/// | `key` | binary view | the record has none |
/// | `value` | binary view | a tombstone |
/// | `headers` | list of struct of `name` (utf8) and `value` (binary) | a header's value may be; the list may be empty |
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let topic = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("topic", topic, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            true,
        ),
        Field::new("key", DataType::BinaryView, true),
        Field::new("value", DataType::BinaryView, true),
        Field::new("headers", DataType::List(Arc::clone(&HEADER)), false),
    ]))
});

static HEADER: LazyLock<FieldRef> = LazyLock::new(|| {
    let header = DataType::Struct(HEADER_FIELDS.clone());
    Arc::new(Field::new("item", header, false))
});

static HEADER_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
});

const UTC: &str = "UTC";

impl RecordBatch {
    /// The batch as an Arrow record batch with the columns of [`schema`](crate::arrow::schema), of this batch's rows only.
    ///
    /// Partitions, offsets, timestamps, keys and values are not copied: the arrays share this batch's memory
    /// ([`RecordBatch::size_bytes`]) and keep all of it, also after its consumer was closed. Names of headers that are not UTF-8
    /// have U+FFFD in place of what is not.
    ///
    /// ```
    /// # fn main() -> tidegate::Result<()> {
    /// # let broker = tidegate::embedded::Broker::with_topics(&[("t", 1)])?;
    /// # let config = tidegate::Config::new().with("bootstrap.servers", broker.bootstrap_servers());
    /// # let producer = tidegate::Producer::new(&config)?;
    /// # producer.send(&tidegate::ProducerRecord::new("t").value(b"hello"))?;
    /// # producer.flush(std::time::Duration::from_secs(10))?;
    /// # let config = config.with("group.id", "g").with("auto.offset.reset", "earliest");
    /// # let consumer = tidegate::Consumer::new(&config)?;
    /// # consumer.subscribe(&["t"])?;
    /// if let Some(batch) = consumer.next_batch(Some(std::time::Duration::from_secs(30)), None)? {
    ///     let arrow = batch.to_arrow()?;
    ///     assert_eq!(arrow.num_rows(), batch.len());
    ///     assert_eq!(arrow.schema(), tidegate::arrow::schema());
    /// # } else {
    /// #   panic!("no record");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when the headers take 2 GiB or more, which one Arrow list cannot hold: slice the batch.
    pub fn to_arrow(&self) -> Result<ArrowBatch> {
        let arenas = Arenas::of(self);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(topics(self)?),
            Arc::new(Int32Array::new(shared(self, RecordBatch::partitions), None)),
            Arc::new(Int64Array::new(shared(self, RecordBatch::offsets), None)),
            Arc::new(timestamps(self)?),
            Arc::new(arenas.views(self, self.key_columns())?),
            Arc::new(arenas.views(self, self.value_columns())?),
            Arc::new(headers(self)?),
        ];
        ArrowBatch::try_new(schema(), columns).map_err(unfit)
    }
}

/// What Arrow cannot take.
fn unfit(error: ArrowError) -> Error {
    Error::argument(
        "batch",
        format!("it does not fit into Arrow arrays: {error}"),
        "cut it into slices",
    )
}

/// A column of a batch as bytes, together with the batch that keeps it.
struct Shared<T: 'static> {
    batch: RecordBatch,
    column: fn(&RecordBatch) -> &[T],
}

impl<T: ArrowNativeType> AsRef<[u8]> for Shared<T> {
    fn as_ref(&self) -> &[u8] {
        (self.column)(&self.batch).to_byte_slice()
    }
}

/// A column of numbers, not copied.
fn shared<T: ArrowNativeType>(
    batch: &RecordBatch,
    column: fn(&RecordBatch) -> &[T],
) -> ScalarBuffer<T> {
    let batch = batch.clone();
    // Aligned, as it is a slice of T.
    Buffer::from(Bytes::from_owner(Shared { batch, column })).into()
}

/// None when nothing is null: readers then need not look.
fn nulls(valid: BooleanBuffer) -> Option<NullBuffer> {
    Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)
}

/// Each topic once, and its index for every row of a run at a time.
fn topics(batch: &RecordBatch) -> Result<DictionaryArray<Int32Type>> {
    let mut names = Vec::new();
    let mut index_of = HashMap::new();
    let mut keys = Vec::with_capacity(batch.len());
    for run in batch.runs() {
        let index = *index_of.entry(run.topic).or_insert_with(|| {
            names.push(run.topic);
            names.len() as i32 - 1
        });
        keys.resize(run.rows.end, index);
    }
    let keys = PrimitiveArray::new(keys.into(), None);
    DictionaryArray::try_new(keys, Arc::new(StringArray::from(names))).map_err(unfit)
}

fn timestamps(batch: &RecordBatch) -> Result<TimestampMillisecondArray> {
    let mut valid = BooleanBufferBuilder::new(batch.len());
    for (run, rows) in batch.run_parts() {
        if run.timestamp_type == TimestampType::NotAvailable {
            valid.append_n(rows.len(), false);
        } else {
            let first = valid.len();
            let timestamps_ms = &batch.timestamps_ms()[first..first + rows.len()];
            timestamps_ms.iter().for_each(|ms| valid.append(*ms >= 0));
        }
    }
    let values = shared(batch, RecordBatch::timestamps_ms);
    let array = TimestampMillisecondArray::try_new(values, nulls(valid.finish()));
    Ok(array.map_err(unfit)?.with_timezone(UTC))
}

/// The arenas that the rows of a batch lie in.
struct Arenas {
    /// Indices into the batch's arenas.
    used: Range<usize>,
    buffers: Arc<[Buffer]>,
}

impl Arenas {
    /// Not the others: a slice of many joined batches must not keep, and tell of, memory that none of its rows is in.
    fn of(batch: &RecordBatch) -> Arenas {
        let indices = || batch.runs().map(|run| run.arena);
        let used = match (indices().min(), indices().max()) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        };
        let buffers = batch.arenas()[used.clone()].iter().cloned();
        Arenas {
            used,
            buffers: buffers.map(Buffer::from).collect(),
        }
    }

    /// Views of keys or of values: starts and lengths within the arena of the row's run.
    fn views(
        &self,
        batch: &RecordBatch,
        (starts, lengths): (&[u32], &[i32]),
    ) -> Result<BinaryViewArray> {
        let mut views = Vec::with_capacity(batch.len());
        for run in batch.runs() {
            let arena = &batch.arenas()[run.arena];
            let buffer = (run.arena - self.used.start) as u32;
            let spans = starts[run.rows.clone()].iter().zip(&lengths[run.rows]);
            views.extend(spans.map(|(&start, &length)| {
                let Ok(length) = usize::try_from(length) else {
                    return 0;
                };
                let bytes = start as usize..start as usize + length;
                make_view(&arena[bytes], buffer, start)
            }));
        }
        let valid = BooleanBuffer::collect_bool(lengths.len(), |row| lengths[row] >= 0);
        BinaryViewArray::try_new(views.into(), Arc::clone(&self.buffers), nulls(valid))
            .map_err(unfit)
    }
}

/// An index into an Arrow list, string or binary column.
fn index(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| unfit(ArrowError::OffsetOverflowError(value)))
}

fn headers(batch: &RecordBatch) -> Result<ListArray> {
    let mut names = StringBuilder::with_capacity(0, 0);
    let mut values = BinaryBuilder::with_capacity(0, 0);
    let mut ends = Vec::with_capacity(batch.len() + 1);
    ends.push(0);
    if batch.has_headers() {
        for record in batch.iter() {
            for header in record.headers() {
                let name = header.name();
                let value_bytes = header.value.map_or(0, <[u8]>::len);
                index(names.values_slice().len() + name.len())?;
                index(values.values_slice().len() + value_bytes)?;
                names.append_value(name);
                values.append_option(header.value);
            }
            ends.push(index(names.len())?);
        }
    } else {
        ends.resize(batch.len() + 1, 0);
    }
    let entries: Vec<ArrayRef> = vec![Arc::new(names.finish()), Arc::new(values.finish())];
    let entries = StructArray::try_new(HEADER_FIELDS.clone(), entries, None).map_err(unfit)?;
    let ends = OffsetBuffer::new(ends.into());
    ListArray::try_new(Arc::clone(&HEADER), ends, Arc::new(entries), None).map_err(unfit)
}

#[cfg(test)]
#[path = "arrow/tests.rs"]
mod tests;

//! Batches as Arrow arrays, through the C data interface.

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use arrow_array::{Array, StructArray};
use tidegate::{Error, Result};

use crate::batch::{self, tg_batch};
use crate::error::tg_status;
use crate::guard;
use crate::input;

/// Arrow's `struct ArrowArray`; the Arrow C data interface has its definition, which a program brings with it (nanoarrow.h, arrow/c/abi.h).
pub struct ArrowArray {
    _private: [u8; 0],
}

/// Arrow's `struct ArrowSchema`; see ArrowArray.
pub struct ArrowSchema {
    _private: [u8; 0],
}

/// Exports the batch as an Arrow struct array: topic (dictionary of int32 to utf8), partition (int32), offset (int64), timestamp (ms, UTC),
/// key and value (binary view), headers (list of struct of name and value). Numbers, keys and values are not copied: the array
/// keeps the batch's memory, also after tg_batch_free(), until its `release` is called. Any thread.
///
/// @param array NULL, or where a released or uninitialised ArrowArray is; what is there is overwritten.
/// @param schema NULL, or where a released or uninitialised ArrowSchema is; what is there is overwritten.
/// @return TG_ERROR_ARGUMENT for a NULL or freed batch, for both NULL, and for headers of 2 GiB and more.
///
/// # Safety
///
/// `array` and `schema` are NULL or lead to memory for such a struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tg_batch_export_arrow(
    batch: *const tg_batch,
    array: *mut ArrowArray,
    schema: *mut ArrowSchema,
) -> tg_status {
    guard::call(|| {
        let records = batch::records(batch)?;
        let (array, schema) = (
            array.cast::<FFI_ArrowArray>(),
            schema.cast::<FFI_ArrowSchema>(),
        );
        if array.is_null() && schema.is_null() {
            return Err(input::refused(
                "array",
                "array and schema are both NULL",
                "pass at least one",
            ));
        }
        let (made_array, made_schema) = export(&StructArray::from(records.to_arrow()?))?;
        // SAFETY: not NULL, and memory for the struct by contract; what was there is C's and needs no drop.
        unsafe {
            if !array.is_null() {
                input::put("array", array, made_array)?;
            }
            if !schema.is_null() {
                input::put("schema", schema, made_schema)?;
            }
        }
        Ok(())
    })
}

fn export(array: &StructArray) -> Result<(FFI_ArrowArray, FFI_ArrowSchema)> {
    to_ffi(&array.to_data()).map_err(|error| Error::Argument {
        argument: "batch",
        problem: format!("Arrow cannot carry it: {error}"),
        remedy: "please report this".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_array::cast::AsArray;
    use arrow_array::ffi::from_ffi;
    use arrow_array::types::Int64Type;
    use tidegate::embedded::Broker;
    use tidegate::{Config, Consumer, Producer, ProducerRecord};

    use super::*;

    fn batch_of(values: &[&str]) -> *mut tg_batch {
        let broker = Broker::with_topics(&[("t", 1)]).unwrap();
        let config = Config::new().with("bootstrap.servers", broker.bootstrap_servers());
        let producer = Producer::new(&config).unwrap();
        for value in values {
            producer
                .send(&ProducerRecord::new("t").value(value))
                .unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let config = config
            .with("group.id", "g")
            .with("auto.offset.reset", "earliest");
        let consumer = Consumer::new(&config).unwrap();
        consumer.subscribe(&["t"]).unwrap();
        let records = consumer
            .fill_batch(Duration::from_secs(30), values.len())
            .unwrap()
            .unwrap();
        batch::make(records).unwrap()
    }

    #[test]
    fn an_exported_batch_outlives_its_handle() {
        let handle = batch_of(&["short", "a value of more than twelve bytes"]);
        let mut array = FFI_ArrowArray::empty();
        let mut schema = FFI_ArrowSchema::empty();
        // SAFETY: both lead to such a struct, and what is in them needs no release.
        let status = unsafe {
            tg_batch_export_arrow(handle, (&raw mut array).cast(), (&raw mut schema).cast())
        };
        assert_eq!(status, tg_status::TG_OK);
        assert_eq!(batch::tg_batch_free(handle), tg_status::TG_OK);
        // SAFETY: exported above and not released.
        let data = unsafe { from_ffi(array, &schema) }.unwrap();
        let rows = StructArray::from(data);
        assert_eq!(rows.len(), 2);
        let offsets = rows
            .column_by_name("offset")
            .unwrap()
            .as_primitive::<Int64Type>();
        assert_eq!(&offsets.values()[..], [0, 1]);
        let values = rows.column_by_name("value").unwrap().as_binary_view();
        assert_eq!(values.value(0), b"short");
        assert_eq!(values.value(1), b"a value of more than twelve bytes");
        assert!(rows.column_by_name("key").unwrap().is_null(0));
    }

    #[test]
    fn null_and_a_freed_batch_are_told() {
        let handle = batch_of(&["v"]);
        let none = std::ptr::null_mut();
        // SAFETY: NULL is allowed, and no other address is passed.
        unsafe {
            let refused = tg_status::TG_ERROR_ARGUMENT;
            assert_eq!(
                tg_batch_export_arrow(handle, none, std::ptr::null_mut()),
                refused
            );
            let mut schema = FFI_ArrowSchema::empty();
            let place = (&raw mut schema).cast();
            assert_eq!(
                tg_batch_export_arrow(std::ptr::null(), none, place),
                refused
            );
            assert_eq!(tg_batch_export_arrow(handle, none, place), tg_status::TG_OK);
            batch::tg_batch_free(handle);
            assert_eq!(tg_batch_export_arrow(handle, none, place), refused);
        }
    }
}

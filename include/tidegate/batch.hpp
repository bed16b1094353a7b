/// Batches: columns read in place, and records as a range. A loop over records is a loop over the columns: no call per record.
#ifndef TIDEGATE_BATCH_HPP
#define TIDEGATE_BATCH_HPP

#include "error.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#if defined(__cpp_lib_span) || (__cplusplus >= 202002L && __has_include(<span>))
#include <span>
#endif

namespace tidegate {
inline namespace TIDEGATE_FACE {

#if defined(__cpp_lib_span)
template <class T>
using Span = std::span<const T>;
#else
/// Elements in the library's memory: what std::span is from C++20 on, where this is that.
template <class T>
class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}

    constexpr const T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr const T* begin() const noexcept { return data_; }
    constexpr const T* end() const noexcept { return data_ + size_; }
    constexpr const T& operator[](std::size_t i) const noexcept { return data_[i]; }
    constexpr Span subspan(std::size_t first, std::size_t count) const noexcept { return {data_ + first, count}; }

private:
    const T* data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

namespace detail {

inline std::string_view view(const std::uint8_t* data, std::size_t length) noexcept {
    return {reinterpret_cast<const char*>(data), length};
}

inline std::optional<std::string_view> view(const tg_bytes& bytes) noexcept {
    if (bytes.data == nullptr) {
        return std::nullopt;
    }
    return view(bytes.data, bytes.length);
}

inline tg_bytes bytes(const std::uint8_t* arena, std::uint32_t start, std::int32_t length) noexcept {
    return length < 0 ? tg_bytes{nullptr, 0} : tg_bytes{arena + start, static_cast<std::size_t>(length)};
}

}  // namespace detail

/// A header of a record; valid as long as the record.
struct Header {
    std::string_view name;
    std::optional<std::string_view> value;
};

/// The headers of a record, in the order they were sent; valid as long as the record.
class Headers {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Header;
        using difference_type = std::ptrdiff_t;
        using pointer = const Header*;
        using reference = const Header&;

        Iterator() = default;
        explicit Iterator(tg_bytes left) : left_(left) { ++*this; }

        reference operator*() const noexcept { return header_; }
        pointer operator->() const noexcept { return &header_; }
        Iterator& operator++() {
            tg_header next;
            is_end_ = !tg_header_next(&left_, &next);
            if (!is_end_) {
                header_ = {detail::view(next.name.data, next.name.length), detail::view(next.value)};
            }
            return *this;
        }
        Iterator operator++(int) {
            Iterator before = *this;
            ++*this;
            return before;
        }
        friend bool operator==(const Iterator& a, const Iterator& b) noexcept {
            return a.is_end_ == b.is_end_ && (a.is_end_ || a.left_.length == b.left_.length);
        }
        friend bool operator!=(const Iterator& a, const Iterator& b) noexcept { return !(a == b); }

    private:
        tg_bytes left_{nullptr, 0};
        Header header_;
        bool is_end_ = true;
    };

    explicit Headers(tg_bytes block) noexcept : block_(block) {}

    Iterator begin() const { return Iterator(block_); }
    Iterator end() const { return Iterator(); }
    bool empty() const noexcept { return block_.length == 0; }
    /// The last header of that name: the one that counts where a name was sent twice.
    std::optional<Header> last(std::string_view name) const {
        std::optional<Header> found;
        for (const Header& header : *this) {
            if (header.name == name) {
                found = header;
            }
        }
        return found;
    }

private:
    tg_bytes block_;
};

/// A record: a view into its batch, valid as long as that, and cheap to copy. One of Consumer::poll() is valid until the next polling
/// call.
class Record {
public:
    explicit Record(const tg_record& record) noexcept : fields_(record) {}
    /// Row `row` of a batch, its headers looked up when they are asked for.
    Record(const tg_batch* batch, const tg_columns& columns, const tg_run& run, std::size_t row) noexcept
        : fields_{run.topic,
                  run.partition,
                  run.leader_epoch,
                  columns.offsets[row],
                  columns.timestamps_ms[row],
                  run.timestamp_type,
                  detail::bytes(run.arena.data, columns.key_starts[row], columns.key_lengths[row]),
                  detail::bytes(run.arena.data, columns.value_starts[row], columns.value_lengths[row]),
                  tg_bytes{nullptr, 0},
                  run.generation},
          batch_(batch),
          row_(row) {}

    std::string_view topic() const noexcept { return detail::view(fields_.topic.data, fields_.topic.length); }
    std::int32_t partition() const noexcept { return fields_.partition; }
    /// The record's own offset.
    std::int64_t offset() const noexcept { return fields_.offset; }
    /// Milliseconds since 1970; -1 when there is no timestamp.
    std::int64_t timestamp_ms() const noexcept { return fields_.timestamp_ms; }
    tg_timestamp_type timestamp_type() const noexcept { return fields_.timestamp_type; }
    /// The leader epoch that it was written under; -1 when not known.
    std::int32_t leader_epoch() const noexcept { return fields_.leader_epoch; }
    /// The assignment that it belongs to.
    std::uint64_t generation() const noexcept { return fields_.generation; }
    /// Nothing when there is no key; empty is not nothing.
    std::optional<std::string_view> key() const noexcept { return detail::view(fields_.key); }
    /// Nothing for a tombstone.
    std::optional<std::string_view> value() const noexcept { return detail::view(fields_.value); }
    Headers headers() const {
        tg_record whole = fields_;
        if (batch_ != nullptr && detail::failed(tg_batch_record(batch_, row_, &whole))) {
            return Headers(tg_bytes{nullptr, 0});
        }
        return Headers(whole.headers);
    }

private:
    tg_record fields_;
    const tg_batch* batch_ = nullptr;
    std::size_t row_ = 0;
};

/// The columns of a batch: row `i` is the same record in each. Valid as long as the batch.
class Columns {
public:
    explicit Columns(const tg_columns& columns) noexcept : columns_(columns) {}

    std::size_t size() const noexcept { return columns_.count; }
    Span<std::int32_t> partitions() const noexcept { return {columns_.partitions, columns_.count}; }
    Span<std::int64_t> offsets() const noexcept { return {columns_.offsets, columns_.count}; }
    /// Milliseconds since 1970, -1 for none.
    Span<std::int64_t> timestamps_ms() const noexcept { return {columns_.timestamps_ms, columns_.count}; }
    /// Where each key and value begins in its run's arena, and how long it is: -1 for none.
    Span<std::uint32_t> key_starts() const noexcept { return {columns_.key_starts, columns_.count}; }
    Span<std::int32_t> key_lengths() const noexcept { return {columns_.key_lengths, columns_.count}; }
    Span<std::uint32_t> value_starts() const noexcept { return {columns_.value_starts, columns_.count}; }
    Span<std::int32_t> value_lengths() const noexcept { return {columns_.value_lengths, columns_.count}; }
    /// Consecutive rows of one partition: topic, arena and the like, once for all of them.
    Span<tg_run> runs() const noexcept { return {columns_.runs, columns_.run_count}; }
    const tg_columns& raw() const noexcept { return columns_; }

private:
    tg_columns columns_;
};

/// Records, immutable; any thread may read them, also when the consumer is gone. Records, columns and headers are valid until the batch
/// is destroyed or assigned to; moving it does not matter to them.
class Batch {
public:
    /// Goes over the records. It stays good when the batch is moved.
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
#if __cplusplus >= 202002L
        using iterator_concept = std::forward_iterator_tag;
#endif
        using value_type = Record;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = Record;

        Iterator() = default;
        Iterator(const tg_batch* batch, const tg_columns& columns, std::size_t row) noexcept
            : columns_(columns), batch_(batch), run_(columns.runs), row_(row), run_end_(columns.run_count > 0 ? columns.runs->count : 0) {}

        Record operator*() const noexcept { return Record(batch_, columns_, *run_, row_); }
        Iterator& operator++() noexcept {
            if (++row_ == run_end_ && row_ < columns_.count) {
                ++run_;
                run_end_ = run_->first + run_->count;
            }
            return *this;
        }
        Iterator operator++(int) noexcept {
            Iterator before = *this;
            ++*this;
            return before;
        }
        friend bool operator==(const Iterator& a, const Iterator& b) noexcept { return a.row_ == b.row_; }
        friend bool operator!=(const Iterator& a, const Iterator& b) noexcept { return a.row_ != b.row_; }

    private:
        tg_columns columns_{};
        const tg_batch* batch_ = nullptr;
        const tg_run* run_ = nullptr;
        std::size_t row_ = 0;
        std::size_t run_end_ = 0;
    };

    using value_type = Record;
    using const_iterator = Iterator;
    using iterator = Iterator;

    Batch() = default;
    /// Takes over a batch of C's.
    explicit Batch(tg_batch* batch) noexcept : batch_(batch) {
        if (batch != nullptr) {
            tg_batch_columns(batch, &columns_);
        }
    }
    Batch(Batch&& other) noexcept : batch_(std::move(other.batch_)), columns_(std::exchange(other.columns_, tg_columns{})) {}
    Batch& operator=(Batch&& other) noexcept {
        batch_ = std::move(other.batch_);
        columns_ = std::exchange(other.columns_, tg_columns{});
        return *this;
    }

    std::size_t size() const noexcept { return columns_.count; }
    bool empty() const noexcept { return columns_.count == 0; }
    /// The memory that it holds on to.
    std::size_t size_bytes() const { return batch_.get() == nullptr ? 0 : tg_batch_size_bytes(batch_.get()); }
    Iterator begin() const noexcept { return {batch_.get(), columns_, 0}; }
    Iterator end() const noexcept { return {batch_.get(), columns_, columns_.count}; }
    /// Row `row`, which must be below size().
    Record operator[](std::size_t row) const noexcept {
        const tg_run* after = std::upper_bound(columns_.runs, columns_.runs + columns_.run_count, row,
                                               [](std::size_t wanted, const tg_run& run) { return wanted < run.first; });
        return Record(batch_.get(), columns_, after[-1], row);
    }
    Columns columns() const noexcept { return Columns(columns_); }

    /// Some of the rows, sharing the memory.
    Returned<Batch> slice(std::size_t first, std::size_t count) const {
        tg_batch* made = nullptr;
        if (const tg_status status = tg_batch_slice(batch_.get(), first, count, &made); detail::failed(status)) {
            return detail::fail<Batch>(status);
        }
        return Batch(made);
    }

    /// Notes leased records as finished: in any order, by any thread, also twice. TG_ERROR_STALE when a partition was revoked, lost or
    /// sought meanwhile.
    Returned<void> acknowledge() const { return acknowledge(0, size()); }
    Returned<void> acknowledge(std::size_t first, std::size_t count) const {
        return detail::done(tg_batch_acknowledge(batch_.get(), first, count));
    }
    /// Gives back leased records that will not be finished here because their partition is being revoked.
    Returned<void> release(std::size_t first, std::size_t count) const {
        return detail::done(tg_batch_release(batch_.get(), first, count));
    }
    /// True when the row's partition was revoked, lost or sought: whoever owns it now handles the record.
    bool is_stale(std::size_t row) const { return tg_batch_is_stale(batch_.get(), row); }

    /// Exports the batch through the Arrow C data interface; keys and values are not copied, and the array keeps the batch's memory. Either
    /// may be null, and what is there is overwritten.
    Returned<void> export_arrow(::ArrowArray* array, ::ArrowSchema* schema) const {
        return detail::done(tg_batch_export_arrow(batch_.get(), array, schema));
    }

    tg_batch* get() const noexcept { return batch_.get(); }
    /// Gives the batch to the caller, who frees it.
    tg_batch* release_handle() noexcept {
        columns_ = tg_columns{};
        return batch_.release();
    }

private:
    detail::Handle<tg_batch, tg_batch_free> batch_;
    tg_columns columns_{};
};

}  // namespace TIDEGATE_FACE
}  // namespace tidegate

#endif

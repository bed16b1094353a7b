//! C ABI of Tidegate.

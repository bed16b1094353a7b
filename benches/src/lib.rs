//! benches of Tidegate.

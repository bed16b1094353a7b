//! tests of Tidegate.

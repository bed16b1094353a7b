//! PyO3 module `tidegate._core`.

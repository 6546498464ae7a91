//! End-to-end tests that run the real binary; see `tests/`.

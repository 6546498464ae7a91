//! The ops against the naive reference, their gradients against finite differences.
#![expect(clippy::expect_used, reason = "helpers of tests are tests too")]

mod gradients;
mod instruction_sets;
mod prepacked;
mod problems;
mod tensors;
mod threads;

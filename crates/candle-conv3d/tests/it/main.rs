//! The ops against the naive reference, their gradients against finite differences.
#![expect(clippy::expect_used, reason = "helpers of tests are tests too")]

mod bf16;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod emulation;
mod gradients;
mod halos;
mod instruction_sets;
mod prepacked;
mod problems;
mod standardise;
mod tensors;
mod threads;

//! The ops against the naive reference, their gradients against finite differences.

mod gradients;
mod problems;
mod tensors;

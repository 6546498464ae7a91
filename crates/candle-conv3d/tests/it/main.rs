//! The ops against the naive reference, their gradients against finite differences.

mod gradients;
mod instruction_sets;
mod problems;
mod tensors;
mod threads;

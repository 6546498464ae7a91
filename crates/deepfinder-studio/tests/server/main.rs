//! The server, asked over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod client;
mod guard;
mod lists;
mod volumes;
mod work;

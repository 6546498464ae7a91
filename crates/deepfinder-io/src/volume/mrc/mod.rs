//! MRC2014, <https://www.ccpem.ac.uk/mrc-format/mrc2014/>, read as leniently as files in the field need.

mod header;
mod read;
mod write;

pub(super) use read::open;
pub use write::{MrcWriter, write_mrc};
pub(super) use write::{Packing, write_packed};

//! GPUs that add up values among each other: their communicators, and the calls.

#![allow(unsafe_code, reason = "NCCL's functions are C, and take addresses on a GPU")]

use std::{
    ffi::c_int,
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    super::opened::{Pointer, Status, Values},
    library::Library,
};
use crate::gpu::LibraryError;

// Values of the enumerations.
const FLOAT32: u32 = 7;
const FLOAT64: u32 = 8;
const SUM: u32 = 0;

/// Values of a GPU that are added to those of the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// Address of the values.
    pub from: u64,
    /// Where the sum goes.
    pub to: u64,
    pub values: usize,
    /// Whether they are f64; else they are f32.
    pub double: bool,
}

/// What NCCL has of one GPU.
struct Communicator(Pointer);

// SAFETY: NCCL's communicators belong to no thread; they may not be used by two at once, and lie behind a lock.
unsafe impl Send for Communicator {}

struct Group {
    library: Arc<Library>,
    /// Of each GPU, until all are given up.
    communicators: Vec<Mutex<Option<Communicator>>>,
}

impl Group {
    fn communicator(&self, rank: usize) -> MutexGuard<'_, Option<Communicator>> {
        self.communicators[rank]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all communicators by that function, each in a thread: one may wait for the others.
    fn end(&self, by: unsafe extern "C" fn(Pointer) -> Status) {
        std::thread::scope(|scope| {
            for rank in 0..self.communicators.len() {
                scope.spawn(move || {
                    let taken = self.communicator(rank).take();
                    if let Some(Communicator(raw)) = taken {
                        // SAFETY: nobody else has it any more.
                        unsafe { by(raw) };
                    }
                });
            }
        });
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end(self.library.destroy);
    }
}

/// One GPU of several that add up values among each other.
pub(crate) struct Member {
    group: Arc<Group>,
    rank: usize,
}

impl Member {
    /// The GPUs of those numbers, in their order. Each is for a thread of its own.
    ///
    /// # Errors
    /// Where NCCL cannot connect them, with its reason.
    pub(crate) fn all(library: &Arc<Library>, ordinals: &[usize]) -> Result<Vec<Self>, LibraryError> {
        let devices: Vec<c_int> = ordinals.iter().map(|ordinal| *ordinal as c_int).collect();
        let mut made = vec![ptr::null_mut(); devices.len()];
        // SAFETY: reads as many numbers and writes as many pointers as it is told.
        let status =
            unsafe { (library.create_all)(made.as_mut_ptr(), devices.len() as c_int, devices.as_ptr()) };
        library.check("ncclCommInitAll", status)?;
        let communicators = made.into_iter().map(|one| Mutex::new(Some(Communicator(one))));
        let group = Arc::new(Group {
            library: Arc::clone(library),
            communicators: communicators.collect(),
        });
        let member = |rank| Self {
            group: Arc::clone(&group),
            rank,
        };
        Ok((0..devices.len()).map(member).collect())
    }

    /// Asks the GPU, on that stream of its, for the sums of all pieces over all GPUs, which must all be asked for the same.
    ///
    /// # Safety
    /// The addresses are those of as many values of that type on the GPU of the stream, whose context is current; a sum
    /// shares memory with no other piece.
    ///
    /// # Errors
    /// Where NCCL refuses, with its reason, or the sums were given up.
    pub(crate) unsafe fn sum(&self, pieces: &[Piece], stream: Pointer) -> Result<(), LibraryError> {
        let library = &self.group.library;
        let communicator = self.group.communicator(self.rank);
        let Some(Communicator(raw)) = *communicator else {
            return Err(LibraryError::Failed {
                function: "ncclAllReduce",
                said: "another GPU has failed".to_owned(),
            });
        };
        // SAFETY: it takes nothing.
        library.check("ncclGroupStart", unsafe { (library.begin_group)() })?;
        let asked = pieces.iter().try_for_each(|piece| {
            let (from, to) = (piece.from as Values, piece.to as Pointer);
            let kind = if piece.double { FLOAT64 } else { FLOAT32 };
            // SAFETY: a communicator that is there, and memory as the caller says.
            let status = unsafe { (library.all_reduce)(from, to, piece.values, kind, SUM, raw, stream) };
            library.check("ncclAllReduce", status)
        });
        // In any case: what this thread calls next is no part of the group.
        // SAFETY: it takes nothing.
        let ended = library.check("ncclGroupEnd", unsafe { (library.end_group)() });
        asked.and(ended)
    }

    /// Gives up all sums of all GPUs, those under way too, so that nobody waits for one that does not come.
    pub(crate) fn abort(&self) {
        self.group.end(self.group.library.abort);
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.group.communicators.len();
        write!(f, "{} of {count} by {:?}", self.rank, self.group.library)
    }
}

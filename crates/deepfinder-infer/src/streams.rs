//! What goes into the network and what comes out of it: in turn with the network, or beside it on other threads.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use candle_conv3d::Transfers;
use candle_core::Tensor;
use deepfinder_core::CoreError;

use crate::Result;
use crate::input::Input;
use crate::output::Piece;

/// How reading and writing stand to computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One after the other: on the processor, where all threads compute anyway.
    InTurn,
    /// While a device computes, what it needs next is read and what it gave last is written. One piece waits on each side.
    Beside,
}

/// A box of the tomogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Of the tomogram turned about y.
    pub turned: bool,
    pub start: [usize; 3],
    pub shape: [usize; 3],
}

impl Window {
    fn read(&self, input: &Input<'_>, transfers: &Transfers) -> Result<Tensor> {
        let start = self.start.map(|voxel| voxel as isize);
        if self.turned {
            input.half_turned().read(start, self.shape, transfers)
        } else {
            input.read(start, self.shape, transfers)
        }
    }
}

/// Where boxes of the tomogram come from.
pub(crate) enum Source<'a> {
    InTurn(&'a Input<'a>, &'a Transfers),
    Beside(Ahead),
}

/// A thread that reads what will be asked for next.
pub(crate) struct Ahead {
    wanted: Sender<Window>,
    read: Receiver<Result<Tensor>>,
    begun: Option<Window>,
}

impl Source<'_> {
    /// The voxels of a window; `next` is what will most likely be asked for then.
    pub(crate) fn read(&mut self, window: Window, next: Option<Window>) -> Result<Tensor> {
        match self {
            Self::InTurn(input, transfers) => window.read(input, transfers),
            Self::Beside(ahead) => ahead.read(window, next),
        }
    }
}

impl Ahead {
    fn read(&mut self, window: Window, next: Option<Window>) -> Result<Tensor> {
        if self.begun != Some(window) {
            if self.begun.take().is_some() {
                // Not what was expected: memory ran out, and the tile begins anew.
                let _ = self.read.recv();
            }
            self.wanted.send(window).map_err(|_| ended())?;
        }
        let voxels = self.read.recv().map_err(|_| ended())?;
        self.begun = next;
        if let Some(next) = next {
            self.wanted.send(next).map_err(|_| ended())?;
        }
        voxels
    }
}

/// A thread is gone. That is never seen: why it went is the error, or the panic, of the whole.
fn ended() -> crate::InferError {
    CoreError::Cancelled.into()
}

/// Runs `compute` with a source of windows and a place for pieces, each with what `Place` says of it. `put` gets them in
/// the order in which they were given.
pub(crate) fn stream<Place: Send>(
    pace: Pace,
    input: &Input<'_>,
    transfers: &Transfers,
    mut put: impl FnMut(&Place, Piece) -> Result<()> + Send,
    compute: impl FnOnce(&mut Source<'_>, &mut dyn FnMut(Place, Piece) -> Result<()>) -> Result<()>,
) -> Result<()> {
    if pace == Pace::InTurn {
        let mut source = Source::InTurn(input, transfers);
        return compute(&mut source, &mut |place, piece| put(&place, piece));
    }
    std::thread::scope(|scope| {
        let (wanted, asked) = channel::<Window>();
        let (given, read) = sync_channel(1);
        scope.spawn(move || {
            for window in asked {
                if given.send(window.read(input, transfers)).is_err() {
                    return;
                }
            }
        });
        // Without room: while one is written the device computes the next, and no third is begun.
        let (done, pieces) = sync_channel::<(Place, Piece)>(0);
        let writer = scope.spawn(move || {
            pieces
                .into_iter()
                .try_for_each(|(place, piece)| put(&place, piece))
        });
        let mut source = Source::Beside(Ahead {
            wanted,
            read,
            begun: None,
        });
        let computed = compute(&mut source, &mut |place, piece| {
            done.send((place, piece)).map_err(|_| ended())
        });
        drop((source, done));
        match writer.join() {
            // Where writing failed, computing ended for no other reason.
            Ok(written) => written.and(computed),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

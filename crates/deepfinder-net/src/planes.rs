//! Where planes wait for the layers of a sweep.

use std::ops::Range;

use candle_conv3d::{channels_last_zeros, copy_planes, haloed_zeros, max_pool2_into, max_pool2_with_halos};
use candle_core::Tensor;

use crate::Result;

/// Axes of `[N, C, D, H, W]` as they lie in memory, and back.
const TO_CHANNELS_LAST: [usize; 5] = [0, 2, 3, 4, 1];
const FROM_CHANNELS_LAST: [usize; 5] = [0, 4, 1, 2, 3];

/// Consecutive planes that wait for a layer, one after the other in memory.
#[derive(Debug, Default)]
pub(crate) struct Planes {
    /// `[1, D, H, W, C]`, contiguous, with room for more planes than there are.
    buffer: Option<Tensor>,
    /// Whether planes have a halo: [`haloed_zeros`].
    halo: bool,
    /// The first plane that is needed.
    first: usize,
    pub(crate) length: usize,
}

impl Room for Planes {
    fn write(
        &mut self,
        [channels, planes, height, width]: [usize; 4],
        like: &Tensor,
        fill: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<()> {
        let room = self.buffer.as_ref().map_or(Ok(0), |buffer| buffer.dim(1))?;
        let needed = self.length + planes;
        if needed > room {
            let shape = [1, channels, needed, height, width];
            let buffer = place(shape, self.halo, like)?.permute(TO_CHANNELS_LAST)?;
            if let Some(old) = self.buffer.take().filter(|_| self.length > 0) {
                let kept = old.narrow(1, self.first, self.length)?.force_contiguous()?;
                buffer.slice_set(&kept, 1, 0)?;
            }
            self.buffer = Some(buffer);
            self.first = 0;
        } else if self.first + needed > room {
            if let Some(buffer) = &self.buffer {
                let planes = self.first..self.first + self.length;
                copy_planes(&buffer.permute(FROM_CHANNELS_LAST)?, planes, 0)?;
            }
            self.first = 0;
        }
        fill(&self.view(self.length, planes)?)?;
        self.length += planes;
        Ok(())
    }
}

impl Planes {
    pub(crate) fn new(halo: bool) -> Self {
        Self {
            halo,
            ..Self::default()
        }
    }

    /// Puts a copy of planes behind those that are there.
    pub(crate) fn append(&mut self, planes: &Tensor) -> Result<()> {
        let (_, channels, depth, height, width) = planes.dims5()?;
        self.write([channels, depth, height, width], planes, |output| {
            let planes = planes.permute(TO_CHANNELS_LAST)?.contiguous()?;
            Ok(output.permute(TO_CHANNELS_LAST)?.slice_set(&planes, 1, 0)?)
        })
    }

    /// Puts planes behind those that are there, pooled.
    pub(crate) fn pool(&mut self, planes: &Tensor) -> Result<()> {
        let (_, channels, depth, height, width) = planes.dims5()?;
        // The halo's row and column are left over.
        let halo = usize::from(self.halo);
        let shape = [channels, depth / 2, height / 2 + halo, width / 2 + halo];
        let pool = if self.halo {
            max_pool2_with_halos
        } else {
            max_pool2_into
        };
        self.write(shape, planes, |output| Ok(pool(planes, output)?))
    }

    /// The first planes, `[1, C, D, H, W]`.
    pub(crate) fn first(&self, planes: usize) -> Result<Tensor> {
        self.view(0, planes)
    }

    /// Planes from `start` on, `[1, C, D, H, W]`.
    fn view(&self, start: usize, planes: usize) -> Result<Tensor> {
        let start = self.first + start;
        view(self.buffer.as_ref(), start..start + planes)
    }

    pub(crate) fn discard(&mut self, planes: usize) {
        self.first += planes;
        self.length -= planes;
    }
}

/// Planes of a skip connection, many of which rest: a ring, so that none moves.
///
/// Behind the ring's end its first planes stand once more, so that those that are read together are always in one piece.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// `[1, D, H, W, C]`, contiguous: the ring, and the planes that stand there twice.
    buffer: Option<Tensor>,
    /// Planes of the ring.
    room: usize,
    /// Planes behind its end.
    twice: usize,
    /// The first plane that is needed.
    first: usize,
    length: usize,
    /// Where the planes stand that came last.
    last: Range<usize>,
    /// Whether planes have a halo: [`haloed_zeros`].
    halo: bool,
}

impl Ring {
    /// Room for that many planes from the start, of which `at_once` are read or written together.
    pub(crate) fn with_room(room: usize, at_once: usize, halo: bool) -> Self {
        Self {
            room,
            twice: at_once,
            halo,
            ..Self::default()
        }
    }

    /// The planes that came last, `[1, C, D, H, W]`.
    pub(crate) fn last(&self) -> Result<Tensor> {
        view(self.buffer.as_ref(), self.last.clone())
    }

    /// The first planes, `[1, C, D, H, W]`.
    pub(crate) fn first(&self, planes: usize) -> Result<Tensor> {
        view(self.buffer.as_ref(), self.first..self.first + planes)
    }

    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_new(&self) -> bool {
        self.buffer.is_none()
    }

    pub(crate) fn discard(&mut self, planes: usize) {
        self.first = (self.first + planes) % self.room.max(1);
        self.length -= planes;
    }

    /// Makes room for more planes than there are.
    fn grow(&mut self, planes: usize, [channels, height, width]: [usize; 3], like: &Tensor) -> Result<()> {
        let room = self.room.max(self.length + planes).max(self.twice);
        let shape = [1, channels, room + self.twice, height, width];
        let buffer = place(shape, self.halo, like)?.permute(TO_CHANNELS_LAST)?;
        if let Some(old) = self.buffer.take() {
            let to_end = self.length.min(self.room - self.first);
            buffer.slice_set(&old.narrow(1, self.first, to_end)?.force_contiguous()?, 1, 0)?;
            let rest = self.length - to_end;
            if rest > 0 {
                buffer.slice_set(&old.narrow(1, 0, rest)?.force_contiguous()?, 1, to_end)?;
            }
        }
        self.buffer = Some(buffer);
        (self.room, self.first) = (room, 0);
        self.repeat(0..self.length)
    }

    /// Puts planes of the ring that stand at its beginning behind its end too.
    fn repeat(&self, planes: Range<usize>) -> Result<()> {
        let end = planes.end.min(self.twice);
        match &self.buffer {
            Some(buffer) if planes.start < end => {
                let buffer = buffer.permute(FROM_CHANNELS_LAST)?;
                Ok(copy_planes(&buffer, planes.start..end, self.room + planes.start)?)
            }
            _ => Ok(()),
        }
    }
}

/// Where a layer's results go.
pub(crate) trait Room {
    /// Makes `fill` write planes, `[channels, planes, height, width]`, behind those that are there; of the element type
    /// of `like`.
    fn write(
        &mut self,
        shape: [usize; 4],
        like: &Tensor,
        fill: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<()>;
}

impl Room for Ring {
    fn write(
        &mut self,
        [channels, planes, height, width]: [usize; 4],
        like: &Tensor,
        fill: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<()> {
        if self.buffer.is_none() || self.length + planes > self.room || planes > self.twice {
            self.twice = self.twice.max(planes);
            self.grow(planes, [channels, height, width], like)?;
        }
        let start = (self.first + self.length) % self.room;
        let end = start + planes;
        fill(&view(self.buffer.as_ref(), start..end)?)?;
        if end > self.room {
            // What was written over the end is the beginning.
            if let Some(buffer) = &self.buffer {
                copy_planes(&buffer.permute(FROM_CHANNELS_LAST)?, self.room..end, 0)?;
            }
        }
        self.repeat(start..end.min(self.room))?;
        self.length += planes;
        self.last = start..end;
        Ok(())
    }
}

/// A place for planes `[N, C, D, H, W]`, where there is a halo with it.
fn place([batch, channels, depth, height, width]: [usize; 5], halo: bool, like: &Tensor) -> Result<Tensor> {
    if halo {
        Ok(haloed_zeros([batch, channels, depth, height - 1, width - 1])?)
    } else {
        let shape = [batch, channels, depth, height, width];
        Ok(channels_last_zeros(shape, like.dtype(), like.device())?)
    }
}

/// Planes of a buffer, `[1, C, D, H, W]`.
fn view(buffer: Option<&Tensor>, planes: Range<usize>) -> Result<Tensor> {
    let missing = || candle_core::Error::Msg("a layer has not been given any planes".to_owned());
    let view = buffer
        .ok_or_else(missing)?
        .narrow(1, planes.start, planes.len())?;
    Ok(view.permute(FROM_CHANNELS_LAST)?)
}

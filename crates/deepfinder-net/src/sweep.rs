use std::collections::VecDeque;

use candle_conv3d::{
    Activation, Conv3dConfig, GRID, Padding, conv3d, conv3d_concat, max_pool2, upsample2_conv2,
};
use candle_core::Tensor;

use crate::unet::{Convolution, UNet};
use crate::{NetError, Result, SIDE_MULTIPLE};

/// A pass of the network over a long volume, a few planes at a time along z.
///
/// Each layer keeps the planes that its next ones still need, so nothing is computed twice and memory does not grow
/// with the volume's depth. All logits together are those of [`UNet::forward`] on the whole volume, bit for bit.
#[derive(Debug)]
pub struct Sweep<'a> {
    net: &'a UNet,
    full_encode: [Queue; 2],
    full_pool: Queue,
    half_encode: [Queue; 2],
    half_pool: Queue,
    quarter: [Queue; 4],
    half_upsample: Queue,
    mid: Queue,
    half_decode: [Queue; 2],
    full_upsample: Queue,
    high: Queue,
    full_decode: [Queue; 2],
    over: bool,
}

impl UNet {
    /// Begins a pass over a volume that comes in pieces.
    pub fn sweep(&self) -> Sweep<'_> {
        Sweep {
            net: self,
            full_encode: Default::default(),
            full_pool: Queue::default(),
            half_encode: Default::default(),
            half_pool: Queue::default(),
            quarter: Default::default(),
            half_upsample: Queue::default(),
            mid: Queue::default(),
            half_decode: Default::default(),
            full_upsample: Queue::default(),
            high: Queue::default(),
            full_decode: Default::default(),
            over: false,
        }
    }
}

impl Sweep<'_> {
    /// Takes the next planes `[1, 1, D, H, W]`, and gives the logits `[1, classes, d, H, W]` of those planes, from
    /// the first one on, that are now decided: they lag behind by [`INFLUENCE`](crate::INFLUENCE)`[0].after` at most,
    /// rounded up. With the volume's last planes come all that are left. `None`: none yet.
    ///
    /// # Errors
    /// [`NetError::Input`] unless D, H and W are multiples of 4, H and W are those of the planes before, and the
    /// last planes have not come yet.
    pub fn push(&mut self, planes: &Tensor, last: bool) -> Result<Option<Tensor>> {
        let fits = match planes.dims() {
            &[1, 1, d, h, w] => {
                [d, h, w]
                    .iter()
                    .all(|side| *side > 0 && side % SIDE_MULTIPLE == 0)
                    && self.full_encode[0].plane.is_none_or(|plane| plane == (h, w))
            }
            _ => false,
        };
        if !fits || self.over {
            return Err(NetError::Input {
                found: planes.dims().to_vec(),
            });
        }
        self.over = last;

        let net = self.net;
        let x = convolve_all(
            &net.full_encode,
            &mut self.full_encode,
            Some(planes.clone()),
            last,
        )?;
        self.high.push(x.clone())?;
        let x = self.full_pool.pool(x)?;
        let x = convolve_all(&net.half_encode, &mut self.half_encode, x, last)?;
        self.mid.push(x.clone())?;
        let x = self.half_pool.pool(x)?;
        let x = convolve_all(&net.quarter, &mut self.quarter, x, last)?;

        let x = self.half_upsample.upsample(&net.half_upsample, x, last)?;
        let [first, second] = &mut self.half_decode;
        let x = first.convolve(&net.half_decode[0], x, Some(&mut self.mid), last)?;
        let x = second.convolve(&net.half_decode[1], x, None, last)?;
        let x = self.full_upsample.upsample(&net.full_upsample, x, last)?;
        let [first, second] = &mut self.full_decode;
        let x = first.convolve(&net.full_decode[0], x, Some(&mut self.high), last)?;
        let x = second.convolve(&net.full_decode[1], x, None, last)?;
        x.map(|x| net.classify(&x)).transpose()
    }
}

fn convolve_all(
    layers: &[Convolution],
    queues: &mut [Queue],
    planes: Option<Tensor>,
    last: bool,
) -> Result<Option<Tensor>> {
    let mut x = planes;
    for (layer, queue) in layers.iter().zip(queues) {
        x = queue.convolve(layer, x, None, last)?;
    }
    Ok(x)
}

/// Planes along z that a layer still needs, `[1, C, d, H, W]` each.
#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Tensor>,
    planes: usize,
    /// Height and width.
    plane: Option<(usize, usize)>,
    /// Whether the layer has already given planes: the volume's zero padding is behind it.
    begun: bool,
}

impl Queue {
    fn push(&mut self, planes: Option<Tensor>) -> Result<()> {
        if let Some(planes) = planes {
            let (_, _, depth, height, width) = planes.dims5()?;
            self.planes += depth;
            self.plane = Some((height, width));
            self.chunks.push_back(planes);
        }
        Ok(())
    }

    /// The first planes as one tensor, channels-last in memory.
    fn first(&self, planes: usize) -> Result<Tensor> {
        let mut parts = Vec::new();
        let mut missing = planes;
        for chunk in &self.chunks {
            let depth = chunk.dim(2)?.min(missing);
            if depth == 0 {
                break;
            }
            parts.push(chunk.narrow(2, 0, depth)?.permute((0, 2, 3, 4, 1))?);
            missing -= depth;
        }
        let joined = match &parts[..] {
            [part] => part.clone(),
            parts => Tensor::cat(parts, 1)?,
        };
        Ok(joined.permute((0, 4, 1, 2, 3))?)
    }

    fn discard(&mut self, planes: usize) -> Result<()> {
        self.planes -= planes;
        let mut rest = planes;
        while rest > 0
            && let Some(chunk) = self.chunks.pop_front()
        {
            let depth = chunk.dim(2)?;
            if depth > rest {
                // Copied, because a view of two planes would keep the whole chunk in memory.
                let kept = chunk.narrow(2, rest, depth - rest)?.permute((0, 2, 3, 4, 1))?;
                self.chunks
                    .push_front(kept.force_contiguous()?.permute((0, 4, 1, 2, 3))?);
            }
            rest = rest.saturating_sub(depth);
        }
        Ok(())
    }

    /// A 3³ convolution of the planes and, where there is one, of the skip's planes beside them. It needs a plane
    /// before and one after, which at the volume's ends are zeros. Until then it gives planes that are computed together.
    fn convolve(
        &mut self,
        layer: &Convolution,
        planes: Option<Tensor>,
        skip: Option<&mut Queue>,
        last: bool,
    ) -> Result<Option<Tensor>> {
        self.push(planes)?;
        let (before, after) = (usize::from(!self.begun), usize::from(last));
        let possible = (self.planes + before + after).saturating_sub(2);
        let together = if last { 1 } else { GRID[0] };
        let given = possible / together * together;
        if given == 0 {
            return Ok(None);
        }
        let config = Conv3dConfig {
            padding: Padding::Explicit([[before, after], [1, 1], [1, 1]]),
            activation: Activation::Relu,
        };
        let read = given + 2 - before - after;
        let done = given - before;
        let input = self.first(read)?;
        let bias = Some(&layer.bias);
        let output = match skip {
            None => conv3d(&input, &layer.weight, bias, &config)?,
            Some(skip) => {
                let beside = skip.first(read)?;
                skip.discard(done)?;
                conv3d_concat(&input, &beside, &layer.weight, bias, &config)?
            }
        };
        self.discard(done)?;
        self.begun = true;
        Ok(Some(output))
    }

    /// Pools whole pairs of planes; an odd one waits.
    fn pool(&mut self, planes: Option<Tensor>) -> Result<Option<Tensor>> {
        self.push(planes)?;
        let pairs = self.planes / 2 * 2;
        if pairs == 0 {
            return Ok(None);
        }
        let output = max_pool2(&self.first(pairs)?)?;
        self.discard(pairs)?;
        Ok(Some(output))
    }

    /// Upsamples; the second of a plane's two images needs the plane after it.
    fn upsample(
        &mut self,
        layer: &Convolution,
        planes: Option<Tensor>,
        last: bool,
    ) -> Result<Option<Tensor>> {
        self.push(planes)?;
        let decided = if last {
            self.planes
        } else {
            self.planes.saturating_sub(1)
        };
        if decided == 0 {
            return Ok(None);
        }
        let input = self.first(self.planes)?;
        let output = upsample2_conv2(&input, &layer.weight, Some(&layer.bias), Activation::Relu)?;
        self.discard(decided)?;
        Ok(Some(output.narrow(2, 0, 2 * decided)?))
    }
}

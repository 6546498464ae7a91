use std::collections::VecDeque;

use candle_conv3d::{
    Activation, Conv3dConfig, GRID, Padding, conv3d, conv3d_concat, max_pool2, upsample2_conv2,
};
use candle_core::Tensor;

use crate::unet::{Convolution, UNet};
use crate::{NetError, Result, SIDE_MULTIPLE};

/// What a [`Sweep`] does with the first level's features until its decoder has caught up with the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Skip {
    /// Keep them: 32 channels of a few dozen planes.
    #[default]
    Keep,
    /// Keep the input instead and compute them again: an eighth more work, and much less memory.
    Recompute,
}

/// A pass of the network over a long volume, a few planes at a time along z.
///
/// Each layer keeps the planes that its next ones still need, so memory does not grow with the volume's depth. All
/// logits together are those of [`UNet::forward`] on the whole volume, bit for bit.
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
    high: High,
    full_decode: [Queue; 2],
    over: bool,
}

impl UNet {
    /// Begins a pass over a volume that comes in pieces.
    pub fn sweep(&self, skip: Skip) -> Sweep<'_> {
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
            high: match skip {
                Skip::Keep => High::Kept(Queue::default()),
                Skip::Recompute => High::Again(Box::default()),
            },
            full_decode: Default::default(),
            over: false,
        }
    }
}

impl Sweep<'_> {
    /// Takes the next planes `[1, 1, D, H, W]`, and gives the logits `[1, classes, d, H, W]` of those planes that are
    /// now decided, from the first one on, in pieces of about D planes: they lag behind by
    /// [`INFLUENCE`](crate::INFLUENCE)`[0].after` at most, rounded up. With the volume's last planes come all that are
    /// left.
    ///
    /// # Errors
    /// [`NetError::Input`] unless D, H and W are multiples of 4, H and W are those of the planes before, and the
    /// last planes have not come yet; whatever `give` returns.
    pub fn push<E: From<NetError>>(
        &mut self,
        planes: &Tensor,
        last: bool,
        mut give: impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let depth = match planes.dims() {
            &[1, 1, d, h, w]
                if [d, h, w]
                    .iter()
                    .all(|side| *side > 0 && side % SIDE_MULTIPLE == 0)
                    && self.full_encode[0].plane.is_none_or(|plane| plane == (h, w))
                    && !self.over =>
            {
                d
            }
            _ => {
                return Err(E::from(NetError::Input {
                    found: planes.dims().to_vec(),
                }));
            }
        };
        self.over = last;
        let low = self.encode(planes, last)?;
        // Of the planes that wait until the last ones come there may be many more than have come at once.
        for (low, last) in pieces(low, depth / SIDE_MULTIPLE, last)? {
            let half = self.decode_half(low, last)?;
            for (half, last) in pieces(half, depth / 2, last)? {
                if let Some(logits) = self.decode_full(half, last)? {
                    give(logits)?;
                }
            }
        }
        Ok(())
    }

    fn encode(&mut self, planes: &Tensor, last: bool) -> Result<Option<Tensor>> {
        let net = self.net;
        let x = convolve_all(
            &net.full_encode,
            &mut self.full_encode,
            Some(planes.clone()),
            last,
        )?;
        match &mut self.high {
            High::Kept(queue) => queue.push(x.clone())?,
            High::Again(again) => again.input.push(Some(planes.clone()))?,
        }
        let x = self.full_pool.pool(x)?;
        let x = convolve_all(&net.half_encode, &mut self.half_encode, x, last)?;
        self.mid.push(x.clone())?;
        let x = self.half_pool.pool(x)?;
        convolve_all(&net.quarter, &mut self.quarter, x, last)
    }

    fn decode_half(&mut self, low: Option<Tensor>, last: bool) -> Result<Option<Tensor>> {
        let net = self.net;
        let x = self.half_upsample.upsample(&net.half_upsample, low, last)?;
        let [first, second] = &mut self.half_decode;
        let x = match first.step(x, last)? {
            None => None,
            Some(step) => {
                let mid = self.mid.first(step.read)?;
                self.mid.discard(step.done)?;
                Some(first.convolve_step(&net.half_decode[0], &step, Some(&mid))?)
            }
        };
        second.convolve(&net.half_decode[1], x, last)
    }

    fn decode_full(&mut self, half: Option<Tensor>, last: bool) -> Result<Option<Tensor>> {
        let net = self.net;
        let x = self.full_upsample.upsample(&net.full_upsample, half, last)?;
        let [first, second] = &mut self.full_decode;
        let x = match first.step(x, last)? {
            None => None,
            Some(step) => {
                let high = self.high.first(net, step.read, self.over)?;
                self.high.discard(step.done)?;
                Some(first.convolve_step(&net.full_decode[0], &step, Some(&high))?)
            }
        };
        let x = second.convolve(&net.full_decode[1], x, last)?;
        x.map(|x| net.classify(&x)).transpose()
    }
}

/// Cuts planes into pieces of at most that many; the last one is the volume's last where those planes are.
fn pieces(planes: Option<Tensor>, at_once: usize, last: bool) -> Result<Vec<(Option<Tensor>, bool)>> {
    let Some(planes) = planes else {
        return Ok(vec![(None, last)]);
    };
    let depth = planes.dim(2)?;
    let at_once = at_once.max(1);
    (0..depth)
        .step_by(at_once)
        .map(|first| {
            let length = at_once.min(depth - first);
            let piece = planes.narrow(2, first, length)?;
            Ok((Some(piece), last && first + length == depth))
        })
        .collect()
}

/// The first level's features for the decoder: see [`Skip`].
#[derive(Debug)]
enum High {
    Kept(Queue),
    Again(Box<Again>),
}

/// Features that are computed a second time, from input that was kept.
#[derive(Debug, Default)]
struct Again {
    input: Queue,
    encode: [Queue; 2],
    features: Queue,
}

impl High {
    /// The first planes; `over`: the volume's last have come.
    fn first(&mut self, net: &UNet, planes: usize, over: bool) -> Result<Tensor> {
        match self {
            Self::Kept(queue) => queue.first(planes),
            Self::Again(again) => {
                while again.features.planes < planes && again.input.planes > 0 {
                    let count = again.input.planes.min(SIDE_MULTIPLE);
                    let input = again.input.first(count)?;
                    again.input.discard(count)?;
                    let last = over && again.input.planes == 0;
                    let x = convolve_all(&net.full_encode, &mut again.encode, Some(input), last)?;
                    again.features.push(x)?;
                }
                again.features.first(planes)
            }
        }
    }

    fn discard(&mut self, planes: usize) -> Result<()> {
        match self {
            Self::Kept(queue) => queue.discard(planes),
            Self::Again(again) => again.features.discard(planes),
        }
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
        x = queue.convolve(layer, x, last)?;
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

/// What a convolution does next.
struct Step {
    /// Planes of zeros before and after.
    padding: [usize; 2],
    /// Planes to read.
    read: usize,
    /// Planes that are not needed again.
    done: usize,
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

    /// A 3³ convolution of the planes.
    fn convolve(
        &mut self,
        layer: &Convolution,
        planes: Option<Tensor>,
        last: bool,
    ) -> Result<Option<Tensor>> {
        let step = self.step(planes, last)?;
        step.map(|step| self.convolve_step(layer, &step, None))
            .transpose()
    }

    /// Takes planes for a 3³ convolution, and says which results are now due. They need a plane before and one after,
    /// which at the volume's ends are zeros; until then only planes that are computed together are given.
    fn step(&mut self, planes: Option<Tensor>, last: bool) -> Result<Option<Step>> {
        self.push(planes)?;
        let (before, after) = (usize::from(!self.begun), usize::from(last));
        let possible = (self.planes + before + after).saturating_sub(2);
        let together = if last { 1 } else { GRID[0] };
        let given = possible / together * together;
        Ok((given > 0).then(|| Step {
            padding: [before, after],
            read: given + 2 - before - after,
            done: given - before,
        }))
    }

    /// The convolution of the queue and, where there is one, of the skip beside it.
    fn convolve_step(&mut self, layer: &Convolution, step: &Step, beside: Option<&Tensor>) -> Result<Tensor> {
        let config = Conv3dConfig {
            padding: Padding::Explicit([step.padding, [1, 1], [1, 1]]),
            activation: Activation::Relu,
        };
        let input = self.first(step.read)?;
        let bias = Some(&layer.bias);
        let output = match beside {
            None => conv3d(&input, &layer.weight, bias, &config)?,
            Some(beside) => conv3d_concat(&input, beside, &layer.weight, bias, &config)?,
        };
        self.discard(step.done)?;
        self.begun = true;
        Ok(output)
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

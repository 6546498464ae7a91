use candle_conv3d::{Activation, GRID, Halos, PrepackedConv3d, convert, upsample2};
use candle_core::Tensor;

use crate::planes::{Planes, Ring};
use crate::stage::{Stage, Upsample};
use crate::trace::write_logits;
use crate::unet::{Convolution, UNet};
use crate::{NetError, Precision, Result, SIDE_MULTIPLE};

/// Planes that become one where they are pooled.
const POOLED: usize = 2;

/// What a [`Sweep`] does with the first level's features until its decoder has caught up with the encoder. With a
/// [`Head::Half`](crate::Head::Half) nobody needs them.
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
/// Each layer keeps the planes that its next ones still need, so memory does not grow with the volume's depth, and
/// writes its results behind those that the next layer keeps, so nothing is joined or allocated on the way. All
/// logits together are those of [`UNet::forward`] on the whole volume: in f32 bit for bit; in bf16 sums differ in their
/// last bits, while pieces of any size still give the same.
#[derive(Debug)]
pub struct Sweep {
    precision: Precision,
    /// Whether planes have a halo between the layers, which then read them where they are.
    halo: bool,
    head: PrepackedConv3d,
    full_encode: [Stage; 2],
    half_encode: [Stage; 2],
    quarter: [Stage; 4],
    half_upsample: Upsample,
    mid: Ring,
    half_decode: [Stage; 2],
    /// Where the head stands on the full level.
    full_decoder: Option<FullDecoder>,
    /// Full-size features that are needed for a moment only.
    scratch: Planes,
    /// The half level's features, where the head reads those.
    half_features: Planes,
    /// Height and width.
    plane: Option<(usize, usize)>,
    /// Planes that have come.
    depth: usize,
    /// Most of them at once.
    at_most: usize,
    over: bool,
}

impl UNet {
    /// Begins a pass over a volume that comes in pieces.
    ///
    /// # Errors
    /// Where the weights cannot be read.
    pub fn sweep(&self, skip: Skip) -> Result<Sweep> {
        let dtype = self.precision.dtype();
        let together = self.precision.planes_together();
        let halo = self.precision == Precision::Bf16 && self.head.weight.device().is_cpu();
        let halos = Halos {
            sources: halo,
            output: halo,
        };
        let stage =
            |layer: &Convolution, sources: &[usize]| Stage::new(layer, sources, dtype, together, halos);
        // What they give is pooled, which takes planes by twos.
        let encode = |layers: &[Convolution; 2], sources: bool| -> Result<[Stage; 2]> {
            let first = Halos { sources, ..halos };
            Ok([
                Stage::new(&layers[0], &[], dtype, POOLED, first)?,
                Stage::new(&layers[1], &[], dtype, POOLED, halos)?,
            ])
        };
        let decode = |layers: &[Convolution; 2], sources: [usize; 2]| -> Result<[Stage; 2]> {
            Ok([stage(&layers[0], &sources)?, stage(&layers[1], &[])?])
        };
        let [q0, q1, q2, q3] = &self.quarter;
        // The tomogram's planes come as they are.
        let full_encode = encode(&self.full_encode, false)?;
        let half_encode = encode(&self.half_encode, halo)?;
        let half_upsample = Upsample::new(&self.half_upsample, dtype, halo)?;
        let mid = half_encode[1].layer.output_channels();
        let full_decoder = self.full_decoder.as_ref().map(|layers| {
            let upsample = Upsample::new(&layers.upsample, dtype, halo)?;
            let high = full_encode[1].layer.output_channels();
            Ok::<_, NetError>(FullDecoder {
                decode: decode(&layers.decode, [upsample.layer.output_channels(), high])?,
                upsample,
                high: match skip {
                    Skip::Keep => High::Kept(Ring::default()),
                    Skip::Recompute => High::Again(Box::new(Again {
                        encode: full_encode.each_ref().map(Stage::again),
                        features: Planes::new(halo),
                    })),
                },
            })
        });
        let (weight, bias) = (&self.head.weight, Some(&self.head.bias));
        let head = PrepackedConv3d::new(weight, bias, &[weight.dim(1)?], Activation::Identity, dtype)?;
        let of_head = Halos {
            output: false,
            ..halos
        };
        Ok(Sweep {
            precision: self.precision,
            halo,
            head: head.with_halos(of_head)?,
            half_decode: decode(&self.half_decode, [half_upsample.layer.output_channels(), mid])?,
            full_decoder: full_decoder.transpose()?,
            full_encode,
            half_encode,
            scratch: Planes::new(halo),
            half_features: Planes::new(halo),
            quarter: [stage(q0, &[])?, stage(q1, &[])?, stage(q2, &[])?, stage(q3, &[])?],
            half_upsample,
            mid: Ring::default(),
            plane: None,
            depth: 0,
            at_most: 0,
            over: false,
        })
    }
}

impl Sweep {
    /// Most planes of logits at a time: they are wider than anything before them.
    pub const LOGITS_AT_ONCE: usize = 4;

    /// Takes the next planes `[1, 1, D, H, W]`, and gives the logits `[1, classes, d, H, W]` of those planes that are
    /// now decided, from the first one on, in pieces no thicker than those that came: they lag behind by
    /// [`INFLUENCE`](crate::INFLUENCE)`[0].after` at most, rounded up. With the volume's last planes come all that are
    /// left.
    ///
    /// # Errors
    /// [`NetError::Input`] unless D is even, H, W and the volume's depth are multiples of 4, H and W are those of the
    /// planes before, and the last planes have not come yet; whatever `give` returns.
    pub fn push<E: From<NetError>>(
        &mut self,
        planes: &Tensor,
        last: bool,
        mut give: impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let depth = match planes.dims() {
            &[1, 1, d, h, w]
                if d > 0
                    && d.is_multiple_of(GRID[0])
                    && [h, w].iter().all(|side| *side > 0 && side % SIDE_MULTIPLE == 0)
                    && (!last || (self.depth + d).is_multiple_of(SIDE_MULTIPLE))
                    && self.plane.is_none_or(|plane| plane == (h, w))
                    && !self.over =>
            {
                self.plane = Some((h, w));
                self.depth += d;
                d
            }
            _ => {
                return Err(E::from(NetError::Input {
                    found: planes.dims().to_vec(),
                }));
            }
        };
        self.over = last;
        self.at_most = self.at_most.max(depth);
        self.prepare_rings();
        let planes = &convert(planes, self.precision.dtype()).map_err(NetError::from)?;
        self.full_encode[0].input.append(planes)?;
        if let Some(High::Again(again)) = self.high() {
            again.encode[0].input.append(planes)?;
        }
        // Each round every layer takes what it can, though not more than has come at once: when the last planes come
        // many are set free.
        loop {
            let encoded = self.encode()?;
            let decoded = self.decode_half()?;
            let given = match self.full_decoder {
                Some(_) => self.decode_full(&mut give)?,
                None => self.give_half(&mut give)?,
            };
            if !encoded && !decoded && !given {
                return Ok(());
            }
        }
    }

    /// The full level's features that wait for its decoder.
    fn high(&mut self) -> Option<&mut High> {
        self.full_decoder.as_mut().map(|decoder| &mut decoder.high)
    }

    /// Room for all that will wait for the decoder, from the start.
    fn prepare_rings(&mut self) {
        let waiting = Sweep::waiting(self.precision, self.at_most);
        let high = match &mut self.full_decoder {
            Some(FullDecoder {
                high: High::Kept(ring),
                ..
            }) => Some(ring),
            _ => None,
        };
        let rings = [high, Some(&mut self.mid)];
        for (level, ring) in rings.into_iter().enumerate() {
            if let Some(ring) = ring.filter(|ring| ring.is_new()) {
                let all = self.depth >> level;
                let room = if self.over { all } else { waiting[level] };
                // Two more are read than are given.
                let at_once = (self.at_most >> level).max(GRID[0]).next_multiple_of(GRID[0]) + 2;
                *ring = Ring::with_room(room, at_once, self.halo);
            }
        }
    }

    /// Planes of the first and the second level that wait at most between encoder and decoder, where `planes` come at
    /// once. With a [`Head::Half`](crate::Head::Half) none of the first.
    pub fn waiting(precision: Precision, planes: usize) -> [usize; 2] {
        // Each of the layers between keeps planes until the next have come: twice as many where two are computed together.
        let together = precision.planes_together();
        let half = 2 + 10 * together + (planes / 2).max(POOLED);
        [14 + 22 * together + planes, half]
    }

    /// Planes that a layer of that level gives at once: as many of the volume's as came at most, and those that are
    /// computed together at least.
    fn at_most(&self, level: u32) -> usize {
        (self.at_most >> level).next_multiple_of(GRID[0]).max(GRID[0])
    }

    /// Down to the lowest level; whether there was anything to do.
    fn encode(&mut self) -> Result<bool> {
        let [at_most, half_at_most, quarter_at_most] = [0, 1, 2].map(|level| self.at_most(level));
        let [first, second] = &mut self.full_encode;
        let mut moved = first.flow(self.over, at_most, &mut second.input)?;
        let pooled = &mut self.half_encode[0].input;
        let kept = self.full_decoder.as_mut().map(|decoder| &mut decoder.high);
        let given = if let Some(High::Kept(ring)) = kept {
            let given = second.flow(first.over, at_most, ring)?;
            if given {
                pooled.pool(&ring.last()?)?;
            }
            given
        } else {
            let given = second.flow(first.over, at_most, &mut self.scratch)?;
            if given {
                pooled.pool(&self.scratch.first(self.scratch.length)?)?;
                self.scratch.discard(self.scratch.length);
            }
            given
        };
        moved |= given;
        let over = second.over;
        let [first, second] = &mut self.half_encode;
        moved |= first.flow(over, half_at_most, &mut second.input)?;
        if second.flow(first.over, half_at_most, &mut self.mid)? {
            moved = true;
            self.quarter[0].input.pool(&self.mid.last()?)?;
        }
        let mut over = second.over;
        for index in 0..self.quarter.len() {
            let (stages, rest) = self.quarter.split_at_mut(index + 1);
            let next = rest.first_mut().map(|stage| &mut stage.input);
            let stage = &mut stages[index];
            moved |= stage.flow(
                over,
                quarter_at_most,
                next.unwrap_or(&mut self.half_upsample.input),
            )?;
            over = stage.over;
        }
        Ok(moved)
    }

    fn decode_half(&mut self) -> Result<bool> {
        let at_most = self.at_most(1);
        let up = &mut self.half_upsample;
        let [first, second] = &mut self.half_decode;
        let mut moved = up.flow(self.quarter[3].over, at_most, &mut first.input)?;
        if let Some(step) = first.step(up.over, at_most) {
            let mid = self.mid.first(step.read)?;
            first.write(&step, Some(&mid), &mut second.input)?;
            self.mid.discard(step.done);
            moved = true;
        }
        let next = match &mut self.full_decoder {
            Some(decoder) => &mut decoder.upsample.input,
            None => &mut self.half_features,
        };
        moved |= second.flow(first.over, at_most, next)?;
        Ok(moved)
    }

    /// Up to the logits, which are given; whether there were any.
    fn decode_full<E: From<NetError>>(
        &mut self,
        give: &mut impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<bool, E> {
        let at_most = self.at_most(0);
        let Some(FullDecoder {
            upsample: up,
            high,
            decode: [first, second],
        }) = &mut self.full_decoder
        else {
            return Ok(false);
        };
        up.flow(self.half_decode[1].over, at_most, &mut first.input)?;
        if let Some(step) = first.step(up.over, at_most) {
            let beside = high.first(step.read, self.over)?;
            first.write(&step, Some(&beside), &mut second.input)?;
            drop(beside);
            high.discard(step.done);
        }
        let moved = second.flow(first.over, at_most, &mut self.scratch)?;
        while self.scratch.length > 0 {
            let planes = self.scratch.length.min(Self::LOGITS_AT_ONCE);
            let logits = write_logits(&self.head, &self.scratch.first(planes)?, self.halo)?;
            self.scratch.discard(planes);
            give(logits)?;
        }
        Ok(moved)
    }

    /// Gives the logits of the half level for the full level's voxels; whether there were any.
    fn give_half<E: From<NetError>>(
        &mut self,
        give: &mut impl FnMut(Tensor) -> Result<(), E>,
    ) -> Result<bool, E> {
        let at_once = (Self::LOGITS_AT_ONCE.min(self.at_most) / 2).max(1);
        let moved = self.half_features.length > 0;
        while self.half_features.length > 0 {
            let planes = self.half_features.length.min(at_once);
            let features = self.half_features.first(planes)?;
            let logits = write_logits(&self.head, &features, self.halo)?;
            self.half_features.discard(planes);
            give(upsample2(&logits).map_err(NetError::from)?)?;
        }
        Ok(moved)
    }
}

/// The layers between the half level's features and the logits of the full level's.
#[derive(Debug)]
struct FullDecoder {
    upsample: Upsample,
    high: High,
    decode: [Stage; 2],
}

/// The first level's features for the decoder: see [`Skip`].
#[derive(Debug)]
enum High {
    Kept(Ring),
    Again(Box<Again>),
}

/// Features that are computed a second time, from input that was kept.
#[derive(Debug)]
struct Again {
    encode: [Stage; 2],
    features: Planes,
}

impl High {
    /// The first planes; `over`: the volume's last have come.
    fn first(&mut self, planes: usize, over: bool) -> Result<Tensor> {
        match self {
            Self::Kept(ring) => ring.first(planes),
            Self::Again(again) => {
                let [first, second] = &mut again.encode;
                let mut moved = true;
                while again.features.length < planes && moved {
                    moved = first.flow(over, GRID[0], &mut second.input)?;
                    moved |= second.flow(first.over, GRID[0], &mut again.features)?;
                }
                again.features.first(planes)
            }
        }
    }

    fn discard(&mut self, planes: usize) {
        match self {
            Self::Kept(ring) => ring.discard(planes),
            Self::Again(again) => again.features.discard(planes),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::{Metadata, Weights};

    #[test]
    fn rings_have_the_room_that_they_need_from_the_start() -> Result<()> {
        const DEPTH: usize = 192;
        let weights = Weights::initial(3, 5, Metadata::for_classes(["a", "b"]))?;
        let net = UNet::new(&weights, &Device::Cpu)?;
        for precision in [Precision::F32, Precision::Bf16] {
            let net = net.clone().with_precision(precision);
            for chunk in [2, 4, 8, 16] {
                let mut sweep = net.sweep(Skip::Keep)?;
                let planes = Tensor::zeros((1, 1, chunk, 4, 4), DType::F32, &Device::Cpu)?;
                let mut given = 0;
                for first in (0..DEPTH).step_by(chunk) {
                    sweep.push::<NetError>(&planes, first + chunk == DEPTH, |logits| {
                        given += logits.dim(2)?;
                        Ok(())
                    })?;
                }
                assert_eq!(given, DEPTH);
                let Some(High::Kept(ring)) = sweep.high() else {
                    panic!("the features are kept");
                };
                // One that is too small grows.
                let expected = Sweep::waiting(precision, chunk);
                let high = ring.room();
                assert_eq!([high, sweep.mid.room()], expected, "{precision}, {chunk} at once");
            }
        }
        Ok(())
    }
}

//! Layers along a volume whose planes come a few at a time.

use std::sync::Arc;

use candle_conv3d::{Activation, Halos, Padding, PrepackedConv3d, PrepackedUpsample};
use candle_core::{DType, Tensor};

use crate::Result;
use crate::planes::{Planes, Room};
use crate::unet::Convolution;

/// A 3³ convolution along the volume.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) layer: Arc<PrepackedConv3d>,
    halos: Halos,
    /// Planes that it gives together, until its last.
    together: usize,
    /// What it still needs of what came.
    pub(crate) input: Planes,
    /// Whether it has already given planes: the volume's zero padding is behind it.
    begun: bool,
    /// Whether it has given its last planes.
    pub(crate) over: bool,
}

/// What a convolution does next.
pub(crate) struct Step {
    /// Planes of zeros before and after.
    padding: [usize; 2],
    /// Planes to read.
    pub(crate) read: usize,
    /// Planes that are not needed again.
    pub(crate) done: usize,
    /// Planes that it gives.
    given: usize,
}

impl Stage {
    /// `sources`: channels of its two sources, where it has two.
    pub(crate) fn new(
        layer: &Convolution,
        sources: &[usize],
        dtype: DType,
        together: usize,
        halos: Halos,
    ) -> Result<Self> {
        let all = [layer.weight.dim(1)?];
        let sources = if sources.is_empty() { &all } else { sources };
        let layer = PrepackedConv3d::new(&layer.weight, Some(&layer.bias), sources, Activation::Relu, dtype)?;
        Ok(Self {
            layer: Arc::new(layer.with_halos(halos)?),
            halos,
            together,
            input: Planes::new(halos.sources),
            begun: false,
            over: false,
        })
    }

    /// The same layer at the volume's beginning.
    pub(crate) fn again(&self) -> Self {
        Self {
            layer: Arc::clone(&self.layer),
            halos: self.halos,
            together: self.together,
            input: Planes::new(self.halos.sources),
            begun: false,
            over: false,
        }
    }

    /// Which results are due, `at_most` (an even number). They need a plane before and one after, which at the
    /// volume's ends are zeros; until the input is over only planes that are computed together are given.
    pub(crate) fn step(&self, input_over: bool, at_most: usize) -> Option<Step> {
        let before = usize::from(!self.begun);
        let planes = self.input.length + before;
        let all = (planes + 1).saturating_sub(2);
        let last = input_over && all <= at_most;
        let given = if last {
            all
        } else {
            planes.saturating_sub(2).min(at_most) / self.together * self.together
        };
        (given > 0 && !self.over).then(|| Step {
            padding: [before, usize::from(last)],
            read: given + 2 - before - usize::from(last),
            done: if last { self.input.length } else { given - before },
            given,
        })
    }

    /// Computes those results behind the planes of the next layer, from the input and, where there is one, the skip
    /// beside it.
    pub(crate) fn write(&mut self, step: &Step, beside: Option<&Tensor>, next: &mut impl Room) -> Result<()> {
        let input = self.input.first(step.read)?;
        let (_, _, _, height, width) = input.dims5()?;
        let side = |side: usize| side + usize::from(self.halos.output) - usize::from(self.halos.sources);
        let shape = [
            self.layer.output_channels(),
            step.given,
            side(height),
            side(width),
        ];
        let padding = Padding::Explicit([step.padding, [1, 1], [1, 1]]);
        let sources: Vec<&Tensor> = [&input].into_iter().chain(beside).collect();
        next.write(shape, &input, |output| {
            Ok(self.layer.write(&sources, &padding, output)?)
        })?;
        self.input.discard(step.done);
        self.begun = true;
        self.over = step.padding[1] == 1;
        Ok(())
    }

    /// Computes what is due behind the planes of the next layer; whether there was anything.
    pub(crate) fn flow(&mut self, input_over: bool, at_most: usize, next: &mut impl Room) -> Result<bool> {
        let step = self.step(input_over, at_most);
        step.map(|step| self.write(&step, None, next))
            .transpose()
            .map(|done| done.is_some())
    }
}

/// An up-convolution along the volume.
#[derive(Debug)]
pub(crate) struct Upsample {
    pub(crate) layer: PrepackedUpsample,
    halo: bool,
    pub(crate) input: Planes,
    pub(crate) over: bool,
}

impl Upsample {
    pub(crate) fn new(layer: &Convolution, dtype: DType, halo: bool) -> Result<Self> {
        let layer = PrepackedUpsample::new(&layer.weight, Some(&layer.bias), Activation::Relu, dtype)?;
        Ok(Self {
            layer: if halo { layer.with_halo()? } else { layer },
            halo,
            input: Planes::new(halo),
            over: false,
        })
    }

    /// Computes what is due, `at_most`; the second of a plane's two images needs the plane after it.
    pub(crate) fn flow(&mut self, input_over: bool, at_most: usize, next: &mut impl Room) -> Result<bool> {
        let length = self.input.length;
        let decided = if input_over {
            length
        } else {
            length.saturating_sub(1)
        };
        let planes = decided.min(at_most / 2);
        if planes == 0 {
            return Ok(false);
        }
        let input = self.input.first(length.min(planes + 1))?;
        let (_, _, _, height, width) = input.dims5()?;
        let halo = usize::from(self.halo);
        let side = |side: usize| 2 * (side - halo) + halo;
        let shape = [
            self.layer.output_channels(),
            2 * planes,
            side(height),
            side(width),
        ];
        next.write(shape, &input, |output| Ok(self.layer.write(&input, output)?))?;
        self.input.discard(planes);
        self.over = input_over && planes == length;
        Ok(true)
    }
}

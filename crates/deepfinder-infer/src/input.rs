use candle_conv3d::Transfers;
use candle_core::Tensor;
use deepfinder_core::{Moments, Progress, Region, VolumeReader};
use ndarray::{ArrayViewMut3, Axis, s};

use crate::{InferError, Result};

/// A tomogram as the network sees it: at mean 0 and standard deviation 1, with zeros all around.
pub(crate) struct Input<'a> {
    tomogram: &'a dyn VolumeReader<f32>,
    /// Moments of the whole tomogram.
    pub moments: Moments,
    /// Whether it is seen turned by 180° about y.
    turned: bool,
}

impl<'a> Input<'a> {
    /// # Errors
    /// Where the tomogram is empty, constant or holds voxels that are no numbers.
    pub(crate) fn new(tomogram: &'a dyn VolumeReader<f32>, progress: &dyn Progress) -> Result<Self> {
        let shape = tomogram.shape();
        if shape.contains(&0) {
            return Err(InferError::Empty { shape });
        }
        progress.check()?;
        let moments = Moments::of_volume(tomogram)?;
        progress.check()?;
        if moments.non_finite > 0 {
            return Err(InferError::NonFinite {
                non_finite: moments.non_finite,
                voxels: moments.count + moments.non_finite,
            });
        }
        if moments.is_constant() {
            return Err(InferError::Constant { value: moments.mean });
        }
        Ok(Self {
            tomogram,
            moments,
            turned: false,
        })
    }

    /// The same tomogram turned by 180° about y: z and x run backwards.
    pub(crate) fn half_turned(&self) -> Self {
        Self {
            turned: !self.turned,
            ..*self
        }
    }

    /// Size of the tomogram, `(z, y, x)`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.tomogram.shape()
    }

    /// The voxels of a box as `[1, 1, D, H, W]`. Its first voxel `start` may lie before the tomogram, and its end
    /// behind it: there it is 0.
    pub(crate) fn read(&self, start: [isize; 3], shape: [usize; 3], transfers: &Transfers) -> Result<Tensor> {
        let [d, h, w] = shape;
        transfers.upload((1, 1, d, h, w), |zeros| {
            self.fill(start, ArrayViewMut3::from_shape(shape, zeros)?)
        })
    }

    /// Puts the voxels of a box where there are zeros.
    fn fill(&self, start: [isize; 3], mut voxels: ArrayViewMut3<'_, f32>) -> Result<()> {
        let (whole, shape) = (self.shape(), <[usize; 3]>::from(voxels.dim()));
        // The part of each axis that lies inside: from, to, and where it goes in the box.
        let inside: [_; 3] = std::array::from_fn(|axis| {
            let first = start[axis].max(0);
            let end = (start[axis] + shape[axis] as isize)
                .min(whole[axis] as isize)
                .max(first);
            (
                first as usize,
                (end - first) as usize,
                (first - start[axis]) as usize,
            )
        });
        let mut first = inside.map(|(first, ..)| first);
        let length = inside.map(|(_, length, _)| length);
        if self.turned {
            for axis in [0, 2] {
                first[axis] = whole[axis] - (first[axis] + length[axis]).min(whole[axis]);
            }
        }
        let read = Region::new(first, length);
        if read.voxels() > 0 {
            let [z, y, x] = inside.map(|(_, length, offset)| offset..offset + length);
            let (mean, deviation) = (self.moments.mean, self.moments.standard_deviation());
            let mut found = self.tomogram.read_window(read)?;
            if self.turned {
                found.invert_axis(Axis(0));
                found.invert_axis(Axis(2));
            }
            ndarray::Zip::from(voxels.slice_mut(s![z, y, x]))
                .and(&found)
                .for_each(|to, &from| *to = ((f64::from(from) - mean) / deviation) as f32);
        }
        Ok(())
    }
}

use std::ops::Range;

use candle_conv3d::{Download, Transfers, argmax_channels, softmax_channels};
use candle_core::Tensor;
use deepfinder_core::{Label, Region, VolumeWriter};
use ndarray::{Array3, Array4, ArrayView4, Axis, Zip, s};

use crate::Result;

/// Labels of a box of voxels and, where they are wanted, its scores `[class, z, y, x]`.
pub(crate) struct Block {
    pub labels: Array3<Label>,
    pub scores: Option<Array4<f32>>,
}

impl Block {
    pub(crate) fn zeros(shape: [usize; 3], classes: Option<usize>) -> Self {
        let [d, h, w] = shape;
        Self {
            labels: Array3::zeros(shape),
            scores: classes.map(|classes| Array4::zeros((classes, d, h, w))),
        }
    }

    /// Puts a smaller block into this one.
    pub(crate) fn insert(&mut self, at: [usize; 3], block: &Block) {
        let shape = block.labels.dim().into();
        let [z, y, x] = ranges(&Region::new(at, shape));
        self.labels
            .slice_mut(s![z.clone(), y.clone(), x.clone()])
            .assign(&block.labels);
        if let (Some(to), Some(from)) = (&mut self.scores, &block.scores) {
            to.slice_mut(s![.., z, y, x]).assign(from);
        }
    }
}

/// What the network gave for a box of voxels; it may still be on its way from the device.
pub(crate) enum Piece {
    There(Block),
    Coming {
        labels: Download<Label>,
        scores: Option<Download<f32>>,
        /// Of the scores: classes, depth, height and width.
        shape: [usize; 4],
    },
}

impl Piece {
    /// The labels and scores of a part of the network's output, `[1, classes, D, H, W]`.
    ///
    /// Labels are taken from the logits: a label's score is the greatest, or one of several that round to it.
    pub(crate) fn of_logits(
        logits: &Tensor,
        part: Region,
        with_scores: bool,
        transfers: &Transfers,
    ) -> Result<Self> {
        // Only planes are cut before: that leaves them as they lie in memory.
        let planes = logits.narrow(2, part.start[0], part.shape[0])?;
        let scores = with_scores.then(|| softmax_channels(&planes)).transpose()?;
        Self::cut(&planes, scores.as_ref(), part, transfers)
    }

    /// Scores `[1, classes, D, H, W]` and their labels.
    pub(crate) fn of_scores(scores: &Tensor, with_scores: bool, transfers: &Transfers) -> Result<Self> {
        let (_, _, depth, height, width) = scores.dims5()?;
        let part = Region::whole([depth, height, width]);
        Self::cut(scores, with_scores.then_some(scores), part, transfers)
    }

    /// The labels of `planes` and those scores, of the part's rows and columns.
    fn cut(planes: &Tensor, scores: Option<&Tensor>, part: Region, transfers: &Transfers) -> Result<Self> {
        if planes.device().is_cpu() {
            Self::cut_here(planes, scores, part)
        } else {
            Self::cut_there(planes, scores, part, transfers)
        }
    }

    /// Rows and columns are cut, and score maps parted, on the processor.
    fn cut_here(logits: &Tensor, scores: Option<&Tensor>, part: Region) -> Result<Self> {
        let [_, y, x] = ranges(&part);
        let (_, classes, depth, height, width) = logits.dims5()?;
        let labels = argmax_channels(logits)?.flatten_all()?.to_vec1::<Label>()?;
        let labels = Array3::from_shape_vec((depth, height, width), labels)?;
        let scores = if let Some(scores) = scores {
            let scores = scores.permute((0, 2, 3, 4, 1))?.flatten_all()?.to_vec1::<f32>()?;
            let scores = Array4::from_shape_vec((depth, height, width, classes), scores)?;
            let part = scores.slice(s![.., y.clone(), x.clone(), ..]);
            Some(part.permuted_axes([3, 0, 1, 2]).as_standard_layout().into_owned())
        } else {
            None
        };
        Ok(Self::There(Block {
            labels: labels.slice_move(s![.., y, x]),
            scores,
        }))
    }

    /// They are cut and parted on the device, which is faster there, and less is copied.
    fn cut_there(
        logits: &Tensor,
        scores: Option<&Tensor>,
        part: Region,
        transfers: &Transfers,
    ) -> Result<Self> {
        let cut = |tensor: &Tensor, first_axis: usize| -> Result<Tensor> {
            let rows = tensor.narrow(first_axis, part.start[1], part.shape[1])?;
            let columns = rows.narrow(first_axis + 1, part.start[2], part.shape[2])?;
            Ok(columns.contiguous()?)
        };
        let labels = transfers.download_u8(&cut(&argmax_channels(logits)?, 2)?)?;
        let scores = match scores {
            Some(scores) => Some(transfers.download_f32(&cut(scores, 3)?)?),
            None => None,
        };
        let [depth, height, width] = part.shape;
        Ok(Self::Coming {
            labels,
            scores,
            shape: [logits.dim(1)?, depth, height, width],
        })
    }

    /// The labels and scores, once they are there.
    pub(crate) fn wait(self) -> Result<Block> {
        match self {
            Self::There(block) => Ok(block),
            Self::Coming {
                labels,
                scores,
                shape,
            } => {
                let [_, depth, height, width] = shape;
                let scores = match scores {
                    Some(scores) => Some(Array4::from_shape_vec(shape, scores.wait()?)?),
                    None => None,
                };
                Ok(Block {
                    labels: Array3::from_shape_vec((depth, height, width), labels.wait()?)?,
                    scores,
                })
            }
        }
    }
}

/// The class of the highest score `[class, z, y, x]`; of equal ones, the lowest.
pub(crate) fn labels_of(scores: &ArrayView4<'_, f32>) -> Array3<Label> {
    let mut highest = scores.index_axis(Axis(0), 0).to_owned();
    let mut labels = Array3::zeros(highest.dim());
    for (label, map) in (0..=Label::MAX).zip(scores.axis_iter(Axis(0))).skip(1) {
        Zip::from(&mut labels)
            .and(&mut highest)
            .and(map)
            .for_each(|to, highest, &score| {
                if score > *highest {
                    (*to, *highest) = (label, score);
                }
            });
    }
    labels
}

/// The half-open ranges of a box's axes.
pub(crate) fn ranges(region: &Region) -> [Range<usize>; 3] {
    let end = region.end();
    std::array::from_fn(|axis| region.start[axis]..end[axis])
}

/// Where planes go, from z = 0 upwards.
pub(crate) struct Output<'a, 'b> {
    labels: &'a mut dyn VolumeWriter<Label>,
    scores: &'a mut [&'b mut dyn VolumeWriter<f32>],
    /// Voxels written, by label.
    pub voxels_per_label: Vec<u64>,
}

impl<'a, 'b> Output<'a, 'b> {
    pub(crate) fn new(
        labels: &'a mut dyn VolumeWriter<Label>,
        scores: &'a mut [&'b mut dyn VolumeWriter<f32>],
        classes: usize,
    ) -> Self {
        Self {
            labels,
            scores,
            voxels_per_label: vec![0; classes],
        }
    }

    /// Whether scores are wanted, and how many per voxel.
    pub(crate) fn score_maps(&self) -> Option<usize> {
        (!self.scores.is_empty()).then_some(self.scores.len())
    }

    /// Whether blocks may come in any order.
    pub(crate) fn takes_windows(&mut self) -> bool {
        self.labels.windows().is_some() && self.scores.iter_mut().all(|map| map.windows().is_some())
    }

    /// Writes whole planes.
    pub(crate) fn write(
        &mut self,
        labels: &Array3<Label>,
        scores: Option<ArrayView4<'_, f32>>,
    ) -> Result<()> {
        self.count(labels);
        self.labels.write_slab(labels.view())?;
        if let Some(scores) = scores {
            for (writer, map) in self.scores.iter_mut().zip(scores.axis_iter(Axis(0))) {
                writer.write_slab(map)?;
            }
        }
        Ok(())
    }

    pub(crate) fn write_block(&mut self, block: &Block) -> Result<()> {
        self.write(&block.labels, block.scores.as_ref().map(|scores| scores.view()))
    }

    /// Writes a block where it belongs; only where [`Self::takes_windows`] says so.
    pub(crate) fn write_window(&mut self, start: [usize; 3], block: &Block) -> Result<()> {
        self.count(&block.labels);
        if let Some(labels) = self.labels.windows() {
            labels.write_window(start, block.labels.view())?;
        }
        let maps = block.scores.iter().flat_map(|scores| scores.axis_iter(Axis(0)));
        for (writer, map) in self.scores.iter_mut().zip(maps) {
            if let Some(writer) = writer.windows() {
                writer.write_window(start, map)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, labels: &Array3<Label>) {
        for &label in labels {
            self.voxels_per_label[usize::from(label)] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_piece_is_the_same_wherever_it_is_cut() {
        let values: Vec<f32> = (0..3 * 4 * 6 * 5)
            .map(|i| ((i * 37) % 101) as f32 / 10.0)
            .collect();
        let logits = Tensor::from_vec(values, (1, 4, 6, 5, 3), &Device::Cpu).unwrap();
        // Channels-last in memory, as a network gives them.
        let logits = logits.permute((0, 4, 1, 2, 3)).unwrap();
        let transfers = Transfers::new(&Device::Cpu);
        for part in [
            Region::new([1, 2, 1], [2, 3, 4]),
            Region::whole([4, 6, 5]),
            Region::new([3, 5, 4], [1, 1, 1]),
        ] {
            let planes = logits.narrow(2, part.start[0], part.shape[0]).unwrap();
            for with_scores in [false, true] {
                let of = |piece: Result<Piece>| piece.unwrap().wait().unwrap();
                let scores = with_scores.then(|| softmax_channels(&planes).unwrap());
                let here = of(Piece::cut_here(&planes, scores.as_ref(), part));
                let there = of(Piece::cut_there(&planes, scores.as_ref(), part, &transfers));
                assert_eq!(here.labels, there.labels, "{part:?}");
                assert_eq!(here.labels.dim(), part.shape.into());
                assert_eq!(here.scores, there.scores, "{part:?}");
                assert_eq!(here.scores.is_some(), with_scores);
            }
        }
    }
}

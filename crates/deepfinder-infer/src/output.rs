use candle_conv3d::{argmax_channels, softmax_channels};
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

    /// The labels and scores of a part of the network's output, `[1, classes, D, H, W]`.
    ///
    /// Labels are taken from the logits: a label's score is the greatest, or one of several that round to it.
    pub(crate) fn of_logits(logits: &Tensor, part: Region, with_scores: bool) -> Result<Self> {
        let [z, y, x] = [0, 1, 2].map(|axis| part.start[axis]..part.end()[axis]);
        // Only planes are cut before: that leaves them as they lie in memory.
        let logits = logits.narrow(2, z.start, z.len())?;
        let (_, classes, depth, height, width) = logits.dims5()?;
        let labels = argmax_channels(&logits)?.flatten_all()?.to_vec1::<Label>()?;
        let labels = Array3::from_shape_vec((depth, height, width), labels)?;
        let scores = if with_scores {
            let scores = softmax_channels(&logits)?
                .permute((0, 2, 3, 4, 1))?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let scores = Array4::from_shape_vec((depth, height, width, classes), scores)?;
            let part = scores.slice(s![.., y.clone(), x.clone(), ..]);
            Some(part.permuted_axes([3, 0, 1, 2]).as_standard_layout().into_owned())
        } else {
            None
        };
        Ok(Self {
            labels: labels.slice_move(s![.., y, x]),
            scores,
        })
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
pub(crate) fn ranges(region: &Region) -> [std::ops::Range<usize>; 3] {
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

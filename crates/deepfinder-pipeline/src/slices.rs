use deepfinder_core::{BACKGROUND, ClassTable, Moments, Particle, Region, VolumeReader};

use crate::canvas::{Canvas, Colour, class_colour};
use crate::{PipelineError, Result};

const BLACK: Colour = [0; 3];
const WHITE: Colour = [255; 3];
const GREY: Colour = [150; 3];
const GAP: usize = 6;
const LINE: usize = 14;
/// Where neither the class table nor the particle tells a radius.
const UNKNOWN_RADIUS_VOXELS: f64 = 5.0;

/// What a picture of slices shows.
pub struct SlicesPicture<'a> {
    /// The tomogram, in grey from μ − 3σ to μ + 3σ of each slice.
    pub tomogram: &'a dyn VolumeReader<f32>,
    /// Its label map, in colour below the tomogram.
    pub labels: Option<&'a dyn VolumeReader<u8>>,
    /// Particles, as rings in their class's colour where a slice cuts their sphere.
    pub picks: &'a [Particle],
    /// Annotated particles, as white dots where a slice cuts their sphere.
    pub truth: &'a [Particle],
    /// Names and radii of the classes.
    pub classes: &'a ClassTable,
}

impl SlicesPicture<'_> {
    /// Three slices along z (at ¼, ½ and ¾ of the depth), as a PNG file's bytes.
    ///
    /// # Errors
    /// Where a slice cannot be read.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let [depth, height, width] = self.tomogram.shape();
        if depth * height * width == 0 {
            return Err(PipelineError::input("there is no picture of an empty tomogram"));
        }
        let scale = (420 / width.max(height)).clamp(1, 6);
        let (panel_width, panel_height) = (scale * width, scale * height);
        let rows = 1 + usize::from(self.labels.is_some());
        let legend = LINE * self.classes.classes().len().div_ceil(4).max(1);
        let mut canvas = Canvas::new(
            3 * (panel_width + GAP) + GAP,
            rows * (panel_height + GAP) + 2 * GAP + LINE + legend + LINE,
            BLACK,
        );
        for (column, quarter) in (1..4).enumerate() {
            let z = (depth * quarter / 4).min(depth - 1);
            let left = GAP + column * (panel_width + GAP);
            canvas.text([left as i64, GAP as i64], &format!("z = {z}"), WHITE);
            let top = GAP + LINE;
            self.draw_slice(&mut canvas, z, [left, top], scale)?;
            if let Some(labels) = self.labels {
                draw_labels(&mut canvas, labels, z, [left, top + panel_height + GAP], scale)?;
            }
        }
        self.draw_legend(&mut canvas, GAP + LINE + rows * (panel_height + GAP));
        canvas.to_png()
    }

    fn draw_slice(&self, canvas: &mut Canvas, z: usize, origin: [usize; 2], scale: usize) -> Result<()> {
        let [_, height, width] = self.tomogram.shape();
        let slice = self
            .tomogram
            .read_window(Region::new([z, 0, 0], [1, height, width]))
            .map_err(|error| PipelineError::input(error.to_string()))?;
        let moments = Moments::of(slice.iter());
        let (low, range) = (
            moments.mean - 3.0 * moments.standard_deviation(),
            6.0 * moments.standard_deviation().max(1e-30),
        );
        for ((_, y, x), &voxel) in slice.indexed_iter() {
            let grey = (255.0 * (f64::from(voxel) - low) / range).clamp(0.0, 255.0) as u8;
            square(canvas, origin, [x, y], scale, [grey; 3]);
        }
        let centre = |particle: &Particle| {
            let at = |axis: usize| origin[axis] as f64 + scale as f64 * (particle.position[axis] + 0.5);
            [at(0), at(1)]
        };
        for particle in self.picks {
            if let Some(radius) = self.radius_in_slice(particle, z) {
                canvas.ring(
                    centre(particle),
                    scale as f64 * radius,
                    class_colour(particle.label),
                );
            }
        }
        for particle in self
            .truth
            .iter()
            .filter(|particle| self.radius_in_slice(particle, z).is_some())
        {
            let [x, y] = centre(particle).map(|at| at.round() as i64);
            canvas.fill([x - 1, y - 1], [3, 3], WHITE);
        }
        Ok(())
    }

    /// The radius of the circle in which a slice cuts a particle's sphere.
    fn radius_in_slice(&self, particle: &Particle, z: usize) -> Option<f64> {
        let known = self
            .classes
            .by_label(particle.label)
            .and_then(|class| class.radius_voxels);
        let radius = known.map_or(UNKNOWN_RADIUS_VOXELS, f64::from);
        let squared = radius.powi(2) - (particle.position[2] - z as f64).powi(2);
        (squared > 0.0).then(|| squared.sqrt())
    }

    fn draw_legend(&self, canvas: &mut Canvas, top: usize) {
        let column = (canvas.width - GAP) / 4;
        for (i, class) in self.classes.classes().iter().enumerate() {
            let [x, y] = [(GAP + column * (i % 4)) as i64, (top + LINE * (i / 4)) as i64];
            canvas.fill([x, y], [8, 8], class_colour(class.label));
            canvas.text([x + 12, y], &class.name, WHITE);
        }
        let line = top + LINE * self.classes.classes().len().div_ceil(4).max(1);
        let truth = if self.truth.is_empty() {
            ""
        } else {
            "; white dots: annotated particles"
        };
        canvas.text(
            [GAP as i64, line as i64],
            &format!("rings: picks, in the colours above{truth}"),
            GREY,
        );
    }
}

fn draw_labels(
    canvas: &mut Canvas,
    labels: &dyn VolumeReader<u8>,
    z: usize,
    origin: [usize; 2],
    scale: usize,
) -> Result<()> {
    let [_, height, width] = labels.shape();
    let slice = labels
        .read_window(Region::new([z, 0, 0], [1, height, width]))
        .map_err(|error| PipelineError::input(error.to_string()))?;
    for ((_, y, x), &label) in slice.indexed_iter() {
        let colour = if label == BACKGROUND {
            [25; 3]
        } else {
            class_colour(label)
        };
        square(canvas, origin, [x, y], scale, colour);
    }
    Ok(())
}

fn square(canvas: &mut Canvas, origin: [usize; 2], [x, y]: [usize; 2], scale: usize, colour: Colour) {
    let [left, top] = [origin[0] + scale * x, origin[1] + scale * y].map(|at| at as i64);
    canvas.fill([left, top], [scale as i64; 2], colour);
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::Volume;
    use ndarray::Array3;

    #[test]
    fn a_picture_has_rings_and_labels() {
        let tomogram = Volume::new(Array3::from_shape_fn((8, 10, 12), |(z, y, x)| (z + y * x) as f32));
        let labels = Volume::new(Array3::from_elem((8, 10, 12), 1_u8));
        let picks = [Particle::new([6.0, 5.0, 4.0], 1)];
        let classes = ClassTable::numbered(1);
        let bare = SlicesPicture {
            tomogram: &tomogram,
            labels: None,
            picks: &[],
            truth: &[],
            classes: &classes,
        };
        let full = SlicesPicture {
            labels: Some(&labels),
            picks: &picks,
            truth: &picks,
            ..bare
        };
        let [bare, full] = [bare.to_png().unwrap(), full.to_png().unwrap()].map(|png| {
            let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            pixels
        });
        let coloured = |pixels: &[u8]| {
            pixels
                .as_chunks::<3>()
                .0
                .iter()
                .filter(|p| **p == class_colour(1))
                .count()
        };
        assert_eq!(coloured(&bare), 64, "the legend alone");
        assert!(coloured(&full) > 3 * 120);
    }
}

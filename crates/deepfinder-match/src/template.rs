use deepfinder_core::{Rotation, Volume};
use deepfinder_density::{
    DensitySampler, Fft3, Interpolation, Spectrum, fast_length, low_pass, soft_ball, wedge,
};
use ndarray::{Array3, Zip, s};

use crate::{MatchError, MatchParams, Result};

/// Fraction of the largest magnitude from which a voxel counts for the radius of the mask.
const SUPPORT_FRACTION: f32 = 0.05;

/// The rotated template is filtered in a box larger by this factor, so that what the filters spread over one face does
/// not come back at the opposite one.
const FILTER_ROOM: f64 = 1.5;

/// A template and its mask, ready to be rotated.
#[derive(Debug)]
pub(crate) struct Template {
    sampler: DensitySampler,
    /// Weight of each voxel of the box, `(z, y, x)`; the particle's centre is on the middle voxel.
    pub(crate) mask: Array3<f32>,
    /// Sum of the weights.
    pub(crate) mask_sum: f64,
    /// Wedge or tilt series and low-pass filter, where there are any.
    filter: Option<(Fft3, Array3<f32>)>,
}

/// What a thread needs to prepare templates, used over and over.
pub(crate) struct Workspace {
    filtered: Array3<f32>,
    spectrum: Spectrum,
}

impl Template {
    /// Voxels have that edge in Å, which counts where [`MatchParams::needs_voxel_size`] says so.
    ///
    /// # Errors
    /// [`MatchError::Template`] for a template that is empty, not finite, or the same everywhere under its mask.
    pub(crate) fn new(
        template: &Volume<f32>,
        voxel_size_angstrom: f64,
        params: &MatchParams,
    ) -> Result<Self> {
        let voxels = &template.voxels;
        if voxels.is_empty() {
            return Err(MatchError::Template {
                what: "has no voxels",
            });
        }
        if voxels.iter().any(|voxel| !voxel.is_finite()) {
            return Err(MatchError::Template {
                what: "holds values that are not finite",
            });
        }
        let radius = match params.mask_radius_voxels {
            Some(radius) => radius,
            None => support_radius(voxels).ok_or(MatchError::Template { what: "is empty" })?,
        };
        let side = 2 * (radius + params.mask_edge_voxels).ceil() as usize + 1;
        let mask = soft_ball(side, radius, params.mask_edge_voxels);
        let filters = params.tilt.is_some() || params.scheme.is_some() || params.low_pass_angstrom.is_some();
        let filter = filters.then(|| {
            let room = [fast_length((FILTER_ROOM * side as f64).ceil() as usize); 3];
            let mut weights = match (&params.scheme, params.tilt) {
                (Some(scheme), _) => scheme.transfer(room, voxel_size_angstrom),
                (None, Some(tilt)) => wedge(room, tilt, Rotation::IDENTITY),
                (None, None) => Fft3::new(room).spectrum().mapv(|_| 1.0),
            };
            if let Some(resolution) = params.low_pass_angstrom {
                weights *= &low_pass(room, voxel_size_angstrom / resolution);
            }
            (Fft3::new(room), weights)
        });
        Ok(Self {
            sampler: DensitySampler::new(voxels, Interpolation::Cubic),
            mask_sum: mask.iter().map(|&weight| f64::from(weight)).sum(),
            mask,
            filter,
        })
    }

    /// Side of its box in voxels: odd.
    pub(crate) fn side(&self) -> usize {
        self.mask.dim().0
    }

    pub(crate) fn workspace(&self) -> Workspace {
        let (shape, spectrum) = match &self.filter {
            Some((fft, _)) => (fft.shape(), fft.spectrum()),
            None => ([self.side(); 3], Array3::zeros((0, 0, 0))),
        };
        Workspace {
            filtered: Array3::zeros(shape),
            spectrum,
        }
    }

    /// The rotated template as the tomogram would show it, weighed by the mask: its sum is 0 and its variance under the
    /// mask 1, so that its product with a tomogram, divided by the tomogram's spread under the mask, is the correlation
    /// coefficient. False where nothing is left of it.
    pub(crate) fn prepare(
        &self,
        rotation: Rotation,
        workspace: &mut Workspace,
        prepared: &mut Array3<f32>,
    ) -> Result<bool> {
        let side = self.side();
        let filtered = &mut workspace.filtered;
        // The middle of the filter's box, so that there is room on all sides.
        let first = (filtered.dim().0 - side) / 2;
        let centre = (first + side / 2) as f64;
        let back = rotation.inverse();
        Zip::indexed(&mut *filtered).for_each(|(z, y, x), voxel| {
            *voxel = self
                .sampler
                .at(back.apply([x, y, z].map(|index| index as f64 - centre)));
        });
        if let Some((fft, weights)) = &self.filter {
            fft.forward(filtered, &mut workspace.spectrum)?;
            Zip::from(&mut workspace.spectrum)
                .and(weights)
                .for_each(|coefficient, &weight| *coefficient *= weight);
            fft.inverse(&mut workspace.spectrum, filtered.view_mut())?;
        }
        let range = first..first + side;
        prepared.assign(&filtered.slice(s![range.clone(), range.clone(), range]));
        Ok(self.normalise(prepared))
    }

    fn normalise(&self, prepared: &mut Array3<f32>) -> bool {
        let weighted = |power: i32, mean: f64, volume: &Array3<f32>| -> f64 {
            let terms = volume.iter().zip(&self.mask);
            terms
                .map(|(&voxel, &weight)| f64::from(weight) * (f64::from(voxel) - mean).powi(power))
                .sum()
        };
        let mean = weighted(1, 0.0, prepared) / self.mask_sum;
        let spread = weighted(2, mean, prepared).sqrt();
        if spread.is_nan() || spread <= f64::from(f32::EPSILON) * mean.abs() * self.mask_sum.sqrt() {
            return false;
        }
        Zip::from(prepared).and(&self.mask).for_each(|voxel, &weight| {
            *voxel = (f64::from(weight) * (f64::from(*voxel) - mean) / spread) as f32;
        });
        true
    }
}

/// How far from the centre a density reaches.
fn support_radius(voxels: &Array3<f32>) -> Option<f64> {
    let largest = voxels.iter().fold(0.0_f32, |most, voxel| most.max(voxel.abs()));
    let centre: [usize; 3] = voxels.dim().into();
    let centre = centre.map(|side| side as f64 / 2.0);
    let distances = voxels
        .indexed_iter()
        .filter(|(_, voxel)| largest > 0.0 && voxel.abs() >= SUPPORT_FRACTION * largest)
        .map(|((z, y, x), _)| {
            let offset = [z as f64 - centre[0], y as f64 - centre[1], x as f64 - centre[2]];
            offset.map(|o| o * o).iter().sum::<f64>().sqrt()
        });
    distances.fold(None, |most: Option<f64>, distance| {
        Some(most.unwrap_or(1.0).max(distance))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepfinder_core::TiltRange;

    fn hook() -> Volume<f32> {
        let mut density = Array3::zeros((16, 16, 16));
        density.slice_mut(s![8, 8, 4..13]).fill(1.0);
        density.slice_mut(s![8, 8..12, 12]).fill(1.0);
        Volume::new(density)
    }

    fn prepared(params: &MatchParams, rotation: Rotation) -> (Template, Array3<f32>) {
        let template = Template::new(&hook(), 1.0, params).unwrap();
        let mut prepared = Array3::zeros([template.side(); 3]);
        assert!(
            template
                .prepare(rotation, &mut template.workspace(), &mut prepared)
                .unwrap()
        );
        (template, prepared)
    }

    #[test]
    fn a_prepared_template_has_no_mean_and_variance_1() {
        for tilt in [None, Some(TiltRange::symmetric(60.0))] {
            let params = MatchParams {
                tilt,
                ..MatchParams::default()
            };
            let (template, prepared) = prepared(&params, Rotation::from_zxz_degrees(20.0, 30.0, 40.0));
            let sum: f32 = prepared.iter().sum();
            // Σ (w d)² / w is Σ w d².
            let variance: f32 = prepared
                .iter()
                .zip(&template.mask)
                .filter(|(_, weight)| **weight > 0.0)
                .map(|(voxel, weight)| voxel * voxel / weight)
                .sum();
            assert!(
                sum.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4,
                "{sum} {variance}"
            );
        }
    }

    #[test]
    fn the_middle_voxel_is_the_centre() {
        let params = MatchParams {
            tilt: None,
            ..MatchParams::default()
        };
        let (template, prepared) = prepared(&params, Rotation::about_z(90.0));
        let middle = template.side() / 2;
        // The long arm along x now lies along y, the short one points to −x.
        let at = |x: usize, y: usize| prepared[[middle, y, x]];
        assert!(at(middle, middle + 4) > 0.05 && at(middle, middle - 4) > 0.05);
        assert!(at(middle - 3, middle + 4) > 0.05 && at(middle + 3, middle + 4) < 0.0);
    }

    #[test]
    fn a_wedge_takes_away_what_is_flat_along_z() {
        // A plate across the beam lies in the missing wedge but for its rim.
        let mut plate = Array3::zeros((24, 24, 24));
        plate.slice_mut(s![12, 4..20, 4..20]).fill(1.0);
        let plate = Volume::new(plate);
        let params = MatchParams::default();
        let template = Template::new(&plate, 1.0, &params).unwrap();
        let (mut workspace, mut flat) = (template.workspace(), Array3::zeros([template.side(); 3]));
        template
            .prepare(Rotation::IDENTITY, &mut workspace, &mut flat)
            .unwrap();
        let mut upright = flat.clone();
        template
            .prepare(Rotation::about_x(90.0), &mut workspace, &mut upright)
            .unwrap();
        let contrast = |volume: &Array3<f32>| volume.iter().fold(0.0_f32, |a, &b| a.max(b));
        let middle = template.side() / 2;
        assert!(upright[[middle, middle, middle]] > 0.5 * contrast(&upright));
        assert!(flat[[middle, middle, middle]] < 0.5 * contrast(&flat));
    }

    #[test]
    fn templates_without_a_particle_are_refused() {
        for (density, word) in [
            (Array3::zeros((4, 4, 4)), "empty"),
            (Array3::from_elem((4, 4, 4), f32::NAN), "not finite"),
            (Array3::zeros((0, 4, 4)), "no voxels"),
        ] {
            let error = Template::new(&Volume::new(density), 1.0, &MatchParams::default()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

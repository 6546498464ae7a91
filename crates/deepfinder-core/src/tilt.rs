use crate::{CoreError, Result};

/// The tilts of a series, about y with the beam along z, in degrees.
///
/// A tilt of θ turns the specimen right-handedly about +y by θ and so measures the plane of Fourier space where
/// `k_z = k_x · tan θ`. What lies between `min_degrees` and `max_degrees` (both included) is measured, the rest is the
/// missing wedge. Frequencies are counted in cycles per voxel, so that the wedge has its true angle in volumes
/// of any shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TiltRange {
    /// Lowest tilt, from −90.
    pub min_degrees: f64,
    /// Highest tilt, to 90.
    pub max_degrees: f64,
}

impl TiltRange {
    /// From −`half_angle_degrees` to +`half_angle_degrees`.
    pub const fn symmetric(half_angle_degrees: f64) -> Self {
        Self {
            min_degrees: -half_angle_degrees,
            max_degrees: half_angle_degrees,
        }
    }

    /// # Errors
    /// [`CoreError::TiltRange`] unless the range ascends between −90° and 90°.
    pub fn check(self) -> Result<()> {
        let Self {
            min_degrees,
            max_degrees,
        } = self;
        if -90.0 <= min_degrees && min_degrees < max_degrees && max_degrees <= 90.0 {
            Ok(())
        } else {
            Err(CoreError::TiltRange {
                min_degrees,
                max_degrees,
            })
        }
    }

    /// Whether the series measures a coefficient of Fourier space, by its frequencies in cycles per voxel. That of `k_y`
    /// does not matter, and the coefficient of `-k` is measured with that of `k`.
    pub fn measures(self, k_z: f64, k_x: f64) -> bool {
        // Coefficients at exactly ±60° belong to a series to ±60°, and those on the tilt axis to any, whatever the rounding.
        const ROUNDING: f64 = 1e-9;
        if k_z.abs() < ROUNDING && k_x.abs() < ROUNDING {
            return true;
        }
        let (k_z, k_x) = if k_x < 0.0 { (-k_z, -k_x) } else { (k_z, k_x) };
        let angle = k_z.atan2(k_x).to_degrees();
        let holds = |angle: f64| self.min_degrees - ROUNDING <= angle && angle <= self.max_degrees + ROUNDING;
        if k_x == 0.0 {
            // ±90° are one tilt.
            return holds(90.0) || holds(-90.0);
        }
        // At the Nyquist frequency a coefficient stands for both signs.
        let both = k_x == 0.5 || k_z.abs() == 0.5;
        holds(angle) && (!both || holds(-angle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilt_measures_its_plane() {
        // A tilt of +30° gives k_z = k_x · tan 30°.
        let range = TiltRange {
            min_degrees: 29.0,
            max_degrees: 31.0,
        };
        let tangent = 30_f64.to_radians().tan();
        assert!(range.measures(0.2 * tangent, 0.2) && range.measures(-0.2 * tangent, -0.2));
        assert!(!range.measures(-0.2 * tangent, 0.2) && !range.measures(0.2 * tangent, -0.2));
        assert!(range.measures(0.0, 0.0) && !range.measures(0.1, 0.0) && !range.measures(0.0, 0.1));
        let symmetric = TiltRange::symmetric(45.0);
        assert!(symmetric.measures(0.25, 0.25) && symmetric.measures(-0.25, 0.25));
        assert!(!symmetric.measures(0.26, 0.25));
    }

    #[test]
    fn ranges_ascend_between_the_poles() {
        assert!(TiltRange::symmetric(60.0).check().is_ok() && TiltRange::symmetric(90.0).check().is_ok());
        for bad in [-5.0, 0.0, 91.0, f64::NAN] {
            assert!(TiltRange::symmetric(bad).check().is_err(), "{bad}");
        }
    }
}

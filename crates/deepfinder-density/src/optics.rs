use std::f64::consts::PI;

/// An electron microscope, as its contrast transfer function needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optics {
    /// Acceleration voltage in kV; default 300.
    pub voltage_kv: f64,
    /// Spherical aberration in mm; default 2.7.
    pub spherical_aberration_mm: f64,
    /// Amplitude contrast, from 0 to 1; default 0.07.
    pub amplitude_contrast: f64,
    /// Underfocus in µm, positive; default 3.
    pub defocus_um: f64,
}

impl Default for Optics {
    fn default() -> Self {
        Self {
            voltage_kv: 300.0,
            spherical_aberration_mm: 2.7,
            amplitude_contrast: 0.07,
            defocus_um: 3.0,
        }
    }
}

impl Optics {
    /// The relativistic wavelength of the electrons in Å: 0.0197 at 300 kV.
    pub fn wavelength_angstrom(&self) -> f64 {
        let volts = 1000.0 * self.voltage_kv;
        12.264_259_661_581_491 / (volts + 0.978_466_3e-6 * volts * volts).sqrt()
    }

    /// The contrast transfer function at a spatial frequency in 1/Å.
    ///
    /// −sin(χ + asin A) with χ = π λ Δf k² − π/2 Cs λ³ k⁴, for an underfocus Δf and an amplitude contrast A: negative at
    /// low frequencies, so that matter is dark (Rohou & Grigorieff, J. Struct. Biol. 192, 2015, eq. 3 and 5).
    pub fn transfer(&self, per_angstrom: f64) -> f64 {
        -(self.aberration(per_angstrom) + self.amplitude_contrast.asin()).sin()
    }

    /// χ at a spatial frequency in 1/Å.
    fn aberration(&self, per_angstrom: f64) -> f64 {
        let (lambda, squared) = (self.wavelength_angstrom(), per_angstrom * per_angstrom);
        let defocus = 1e4 * self.defocus_um;
        let aberration = 1e7 * self.spherical_aberration_mm;
        PI * lambda * squared * (defocus - 0.5 * aberration * lambda * lambda * squared)
    }
}

/// What radiation damage leaves of a spatial frequency (1/Å) after an exposure in electrons per Å².
///
/// exp(−N / 2 Nc) with the critical exposure Nc = 0.24499 k^−1.6649 + 2.8141 at 300 kV, and 0.8 of it at 200 kV and below
/// (Grant & Grigorieff, eLife 4:e06980, 2015, eq. 3).
pub fn exposure_filter(per_angstrom: f64, exposure: f64, voltage_kv: f64) -> f64 {
    if per_angstrom <= 0.0 {
        return 1.0;
    }
    let at_voltage = if voltage_kv < 250.0 { 0.8 } else { 1.0 };
    let critical = at_voltage * (0.244_99 * per_angstrom.powf(-1.6649) + 2.8141);
    (-exposure / (2.0 * critical)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wavelengths_are_those_of_the_tables() {
        for (voltage_kv, expected) in [
            (80.0, 0.041_76),
            (120.0, 0.033_49),
            (200.0, 0.025_08),
            (300.0, 0.019_69),
        ] {
            let optics = Optics {
                voltage_kv,
                ..Optics::default()
            };
            assert!(
                (optics.wavelength_angstrom() - expected).abs() < 1e-5,
                "{voltage_kv}"
            );
        }
    }

    #[test]
    fn zeros_lie_where_the_phase_is_a_multiple_of_pi() {
        let optics = Optics {
            spherical_aberration_mm: 0.0,
            ..Optics::default()
        };
        let lambda = optics.wavelength_angstrom();
        for n in 1..6 {
            // Without spherical aberration: π λ Δf k² + asin A = n π.
            let phase = f64::from(n) - 0.07_f64.asin() / PI;
            let zero = (phase / (lambda * 3e4)).sqrt();
            assert!(optics.transfer(zero).abs() < 1e-9);
            let (below, above) = (optics.transfer(0.99 * zero), optics.transfer(1.01 * zero));
            assert!(below * above < 0.0, "it changes sign at zero {n}");
        }
        // With it, the zeros move to higher frequencies: the aberration counters the underfocus.
        let real = Optics::default();
        let zero = ((5.0 - 0.07_f64.asin() / PI) / (lambda * 3e4)).sqrt();
        assert!(real.aberration(zero) < optics.aberration(zero));
        assert!((real.transfer(0.0) + 0.07).abs() < 1e-12, "matter is dark");
    }

    #[test]
    fn detail_is_lost_first() {
        // A critical exposure of 2.8141 + 0.24499 · 0.1^−1.6649 = 14.14 e/Å² at 10 Å.
        let left = exposure_filter(0.1, 14.14, 300.0);
        assert!((left - (-0.5_f64).exp()).abs() < 1e-3, "{left}");
        assert!(exposure_filter(0.05, 50.0, 300.0) > exposure_filter(0.1, 50.0, 300.0));
        assert!(exposure_filter(0.1, 50.0, 200.0) < exposure_filter(0.1, 50.0, 300.0));
        assert_eq!(
            (
                exposure_filter(0.0, 99.0, 300.0),
                exposure_filter(0.2, 0.0, 300.0)
            ),
            (1.0, 1.0)
        );
    }
}

use rand::{Rng, RngExt};

/// A rotation that maps a particle's frame to the tomogram's, acting on `(x, y, z)` columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotation {
    matrix: [[f64; 3]; 3],
}

impl Rotation {
    /// No rotation.
    pub const IDENTITY: Self = Self {
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    };

    /// The rotation with these rows; `None` unless they are orthonormal and right-handed to 1e-3.
    pub fn from_matrix(matrix: [[f64; 3]; 3]) -> Option<Self> {
        let this = Self { matrix };
        let product = this.then(this.inverse()).matrix;
        let orthonormal = (0..3).all(|i| (0..3).all(|j| (product[i][j] - f64::from(i == j)).abs() < 1e-3));
        let [a, b, c] = matrix;
        let determinant = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0]);
        (orthonormal && determinant > 0.0).then_some(this)
    }

    /// `R = Rz(psi) · Rx(the) · Rz(phi)` in degrees: the TOM and PyTom convention of DeepFinder's lists
    /// (first phi, then the, then psi).
    pub fn from_zxz_degrees(phi: f64, psi: f64, the: f64) -> Self {
        Self::about_z(phi)
            .then(Self::about_x(the))
            .then(Self::about_z(psi))
    }

    /// The angles `(phi, psi, the)` in degrees of [`Self::from_zxz_degrees`], with `the` in [0, 180];
    /// phi is 0 where only a sum or difference is defined.
    pub fn to_zxz_degrees(self) -> [f64; 3] {
        let m = self.matrix;
        let sine = m[2][0].hypot(m[2][1]);
        let the = sine.atan2(m[2][2]);
        let (phi, psi) = if sine > 1e-9 {
            (m[2][0].atan2(m[2][1]), m[0][2].atan2(-m[1][2]))
        } else {
            (0.0, m[1][0].atan2(m[0][0]))
        };
        [phi, psi, the].map(f64::to_degrees)
    }

    /// RELION's `(rot, tilt, psi)` in degrees: `R = Rz(−psi) · Ry(−tilt) · Rz(−rot)`, which is the inverse of the
    /// intrinsic ZYZ rotation and maps the reference to the particle in the tomogram.
    pub fn from_zyz_degrees(rot: f64, tilt: f64, psi: f64) -> Self {
        Self::about_z(-rot)
            .then(Self::about_y(-tilt))
            .then(Self::about_z(-psi))
    }

    /// The angles `(rot, tilt, psi)` in degrees of [`Self::from_zyz_degrees`], with tilt in [0, 180];
    /// rot is 0 where only a sum or difference is defined.
    pub fn to_zyz_degrees(self) -> [f64; 3] {
        let m = self.matrix;
        let sine = m[2][0].hypot(m[2][1]);
        let tilt = sine.atan2(m[2][2]);
        let (rot, psi) = if sine > 1e-9 {
            (m[2][1].atan2(m[2][0]), m[1][2].atan2(-m[0][2]))
        } else {
            (0.0, m[0][1].atan2(m[0][0] * m[2][2].signum()))
        };
        [rot, tilt, psi].map(f64::to_degrees)
    }

    /// A rotation drawn uniformly (Shoemake's random quaternion).
    pub fn random(rng: &mut impl Rng) -> Self {
        let [u, v, w]: [f64; 3] = std::array::from_fn(|_| rng.random());
        let (a, b) = ((1.0 - u).sqrt(), u.sqrt());
        let (sv, cv) = (std::f64::consts::TAU * v).sin_cos();
        let (sw, cw) = (std::f64::consts::TAU * w).sin_cos();
        Self::from_quaternion([b * cw, a * sv, a * cv, b * sw])
    }

    /// The rotation of a unit quaternion `(w, x, y, z)`.
    fn from_quaternion([w, x, y, z]: [f64; 4]) -> Self {
        let matrix = [
            [
                1.0 - 2.0 * (y * y + z * z),
                2.0 * (x * y - w * z),
                2.0 * (x * z + w * y),
            ],
            [
                2.0 * (x * y + w * z),
                1.0 - 2.0 * (x * x + z * z),
                2.0 * (y * z - w * x),
            ],
            [
                2.0 * (x * z - w * y),
                2.0 * (y * z + w * x),
                1.0 - 2.0 * (x * x + y * y),
            ],
        ];
        Self { matrix }
    }

    /// About the direction of a vector `(x, y, z)`, by its length in degrees, right-handed.
    pub fn from_rotation_vector(degrees: [f64; 3]) -> Self {
        let angle = degrees.iter().map(|part| part * part).sum::<f64>().sqrt();
        if angle == 0.0 {
            return Self::IDENTITY;
        }
        let (sine, cosine) = (angle.to_radians() / 2.0).sin_cos();
        let [x, y, z] = degrees.map(|part| sine * part / angle);
        Self::from_quaternion([cosine, x, y, z])
    }

    /// About x by an angle in degrees, right-handed.
    pub fn about_x(degrees: f64) -> Self {
        let (s, c) = degrees.to_radians().sin_cos();
        Self {
            matrix: [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]],
        }
    }

    /// About y by an angle in degrees, right-handed.
    pub fn about_y(degrees: f64) -> Self {
        let (s, c) = degrees.to_radians().sin_cos();
        Self {
            matrix: [[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]],
        }
    }

    /// About z by an angle in degrees, right-handed.
    pub fn about_z(degrees: f64) -> Self {
        let (s, c) = degrees.to_radians().sin_cos();
        Self {
            matrix: [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]],
        }
    }

    /// The rows, acting on `(x, y, z)`.
    pub const fn matrix(self) -> [[f64; 3]; 3] {
        self.matrix
    }

    /// First this rotation, then `next`: the matrix `next · self`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let (a, b) = (next.matrix, self.matrix);
        let matrix =
            std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()));
        Self { matrix }
    }

    /// The way back.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            matrix: std::array::from_fn(|i| std::array::from_fn(|j| self.matrix[j][i])),
        }
    }

    /// The image of a vector `(x, y, z)`.
    pub fn apply(self, vector: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|i| (0..3).map(|k| self.matrix[i][k] * vector[k]).sum())
    }

    /// The angle of the rotation that leads from `self` to `other`, in degrees.
    pub fn angle_to(self, other: Self) -> f64 {
        let trace: f64 = (0..3).map(|i| self.inverse().then(other).matrix[i][i]).sum();
        ((trace - 1.0) / 2.0).clamp(-1.0, 1.0).acos().to_degrees()
    }

    /// The same rotation where x and z are exchanged in both frames.
    #[must_use]
    pub fn with_x_and_z_swapped(self) -> Self {
        Self {
            matrix: std::array::from_fn(|i| std::array::from_fn(|j| self.matrix[2 - i][2 - j])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn close(a: [f64; 3], b: [f64; 3]) -> bool {
        (0..3).all(|i| (a[i] - b[i]).abs() < 1e-12)
    }

    #[test]
    fn phi_turns_first_then_the_then_psi() {
        // x → y by phi, then y → z by the; psi turns about z and leaves it there.
        assert!(close(
            Rotation::from_zxz_degrees(90.0, 77.0, 90.0).apply([1.0, 0.0, 0.0]),
            [0.0, 0.0, 1.0]
        ));
        // z is untouched by phi, goes to −y by the, and −y to x by psi.
        assert!(close(
            Rotation::from_zxz_degrees(77.0, 90.0, 90.0).apply([0.0, 0.0, 1.0]),
            [1.0, 0.0, 0.0]
        ));
    }

    proptest! {
        #[test]
        fn angles_survive(phi in -180.0..180.0f64, psi in -180.0..180.0f64, the in 0.0..180.0f64) {
            let rotation = Rotation::from_zxz_degrees(phi, psi, the);
            let [phi, psi, the] = rotation.to_zxz_degrees();
            prop_assert!(Rotation::from_zxz_degrees(phi, psi, the).angle_to(rotation) < 1e-5);
            let [rot, tilt, turn] = rotation.to_zyz_degrees();
            prop_assert!((0.0..=180.0).contains(&tilt));
            prop_assert!(Rotation::from_zyz_degrees(rot, tilt, turn).angle_to(rotation) < 1e-5);
            prop_assert!(Rotation::from_matrix(rotation.matrix()).is_some());
            prop_assert!(rotation.then(rotation.inverse()).angle_to(Rotation::IDENTITY) < 1e-5);
        }
    }

    #[test]
    fn rotation_vectors_are_axis_and_angle() {
        for (vector, expected) in [
            ([0.0; 3], Rotation::IDENTITY),
            ([30.0, 0.0, 0.0], Rotation::about_x(30.0)),
            ([0.0, 0.0, -200.0], Rotation::about_z(-200.0)),
        ] {
            assert!(Rotation::from_rotation_vector(vector).angle_to(expected) < 1e-5);
        }
        let found = Rotation::from_rotation_vector([10.0, -20.0, 5.0]);
        assert!((found.angle_to(Rotation::IDENTITY) - 525_f64.sqrt()).abs() < 1e-5);
        assert!(close(found.apply([10.0, -20.0, 5.0]), [10.0, -20.0, 5.0]));
    }

    #[test]
    fn poles_have_angles_too() {
        for the in [0.0, 180.0] {
            let rotation = Rotation::from_zxz_degrees(20.0, 50.0, the);
            let [phi, psi, the] = rotation.to_zxz_degrees();
            assert!(Rotation::from_zxz_degrees(phi, psi, the).angle_to(rotation) < 1e-5);
            let [rot, tilt, turn] = rotation.to_zyz_degrees();
            assert!(Rotation::from_zyz_degrees(rot, tilt, turn).angle_to(rotation) < 1e-5);
        }
    }

    /// Row by row what RELION's `Euler_angles2matrix` documents, for rot 90°, tilt 90°, psi 0°.
    #[test]
    fn relion_angles_map_the_reference_to_the_particle() {
        let rotation = Rotation::from_zyz_degrees(90.0, 90.0, 0.0);
        assert!(close(rotation.apply([0.0, 0.0, 1.0]), [-1.0, 0.0, 0.0]));
        assert!(close(rotation.apply([0.0, 1.0, 0.0]), [0.0, 0.0, 1.0]));
        assert!(close(rotation.apply([1.0, 0.0, 0.0]), [0.0, -1.0, 0.0]));
    }

    #[test]
    fn random_rotations_are_proper_and_spread() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut mean = [0.0; 3];
        for _ in 0..4000 {
            let rotation = Rotation::random(&mut rng);
            assert!(Rotation::from_matrix(rotation.matrix()).is_some());
            let image = rotation.apply([0.0, 0.0, 1.0]);
            mean = std::array::from_fn(|i| mean[i] + image[i] / 4000.0);
        }
        assert!(mean.iter().all(|m| m.abs() < 0.04), "{mean:?}");
    }

    #[test]
    fn mirrors_are_no_rotations() {
        assert!(Rotation::from_matrix([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]).is_none());
        assert!(Rotation::from_matrix([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]).is_none());
    }
}

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::{CoreError, Result, Rotation};

/// The point group of a particle in its own frame (Schoenflies): its n-fold axis is z, and the two-fold ones of a
/// dihedral group lie in the plane of x and y, one of them along x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// `Cn`: n rotations about z.
    Cyclic(NonZeroU16),
    /// `Dn`: those, and each followed by a half turn about x.
    Dihedral(NonZeroU16),
}

impl Symmetry {
    /// No symmetry.
    pub const C1: Self = Self::Cyclic(NonZeroU16::MIN);

    /// The n of `Cn` and `Dn`.
    pub const fn fold(self) -> u16 {
        match self {
            Self::Cyclic(n) | Self::Dihedral(n) => n.get(),
        }
    }

    /// The rotations of the group, the identity first: n, or 2n of a dihedral one.
    pub fn rotations(self) -> Vec<Rotation> {
        let fold = self.fold();
        let cyclic = (0..fold).map(|i| Rotation::about_z(360.0 * f64::from(i) / f64::from(fold)));
        match self {
            Self::Cyclic(_) => cyclic.collect(),
            Self::Dihedral(_) => {
                let cyclic: Vec<_> = cyclic.collect();
                let turned = cyclic.iter().map(|turn| turn.then(Rotation::about_x(180.0)));
                cyclic.iter().copied().chain(turned).collect()
            }
        }
    }
}

impl Default for Symmetry {
    fn default() -> Self {
        Self::C1
    }
}

impl FromStr for Symmetry {
    type Err = CoreError;

    /// `C1`, `c4`, `D2` …
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let fold = text.get(1..)?.parse().ok()?;
            match text.as_bytes().first()?.to_ascii_uppercase() {
                b'C' => Some(Self::Cyclic(fold)),
                b'D' => Some(Self::Dihedral(fold)),
                _ => None,
            }
        };
        parse().ok_or_else(|| CoreError::Symmetry {
            found: text.to_owned(),
        })
    }
}

impl fmt::Display for Symmetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cyclic(n) => write!(f, "C{n}"),
            Self::Dihedral(n) => write!(f, "D{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_closed() {
        for (name, order) in [("C1", 1), ("C4", 4), ("c7", 7), ("D1", 2), ("D4", 8)] {
            let group = name.parse::<Symmetry>().unwrap().rotations();
            assert_eq!(group.len(), order, "{name}");
            assert!(group[0].angle_to(Rotation::IDENTITY) < 1e-5);
            for (a, b) in group.iter().flat_map(|a| group.iter().map(move |b| (*a, *b))) {
                let same = group.iter().filter(|c| c.angle_to(a.then(b)) < 1e-3).count();
                assert_eq!(same, 1, "{name}");
            }
        }
    }

    #[test]
    fn names_survive_and_others_are_refused() {
        for name in ["C1", "C13", "D2"] {
            assert_eq!(name.parse::<Symmetry>().unwrap().to_string(), name);
        }
        for name in ["", "C", "C0", "O", "4", "C-1", "Ä2"] {
            assert!(name.parse::<Symmetry>().is_err(), "{name}");
        }
    }
}

/// An atom of a molecular structure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Atom {
    /// `(x, y, z)` in Å, in the structure's own frame.
    pub position_angstrom: [f64; 3],
    /// Mass in Da, times the atom's occupancy.
    pub mass_dalton: f64,
}

use deepfinder_core::Atom;

use super::Assembly;

/// Most atoms of an assembly: a viral capsid has some ten million.
const MOST_ATOMS: usize = 100_000_000;

/// The atoms of a file and how it puts them together.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Each with the number of its chain.
    pub(super) atoms: Vec<(u32, Atom)>,
    pub(super) chains: Vec<String>,
    pub(super) assemblies: Vec<Recipe>,
}

/// A biological assembly.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    pub(super) parts: Vec<Part>,
}

/// Chains, and where their copies are.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) chains: Vec<String>,
    pub(super) copies: Vec<Transform>,
}

/// x → matrix · x + shift, in Å.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transform {
    pub(super) matrix: [[f64; 3]; 3],
    pub(super) shift: [f64; 3],
}

impl Transform {
    pub(super) const IDENTITY: Self = Self {
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        shift: [0.0; 3],
    };

    fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|i| (0..3).map(|k| self.matrix[i][k] * point[k]).sum::<f64>() + self.shift[i])
    }

    /// First the other, then this one.
    pub(super) fn after(&self, first: &Self) -> Self {
        Self {
            matrix: std::array::from_fn(|i| {
                std::array::from_fn(|j| (0..3).map(|k| self.matrix[i][k] * first.matrix[k][j]).sum())
            }),
            shift: self.apply(first.shift),
        }
    }
}

impl Model {
    /// The number of a chain, which it gets where it is new.
    pub(super) fn chain(&mut self, name: &str) -> u32 {
        // Atoms come chain by chain.
        let last = self.atoms.last().map(|(chain, _)| *chain);
        if let Some(last) = last
            && self.chains.get(last as usize).is_some_and(|known| known == name)
        {
            return last;
        }
        let known = self.chains.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            self.chains.push(name.to_owned());
            self.chains.len() - 1
        });
        number as u32
    }

    pub(super) fn assembled(self, assembly: &Assembly) -> Result<Vec<Atom>, String> {
        let recipe = match assembly {
            Assembly::Deposited => None,
            Assembly::First => self.assemblies.first(),
            Assembly::Named(name) => {
                let found = self.assemblies.iter().find(|recipe| recipe.name == *name);
                if found.is_none() {
                    let names: Vec<&str> = self
                        .assemblies
                        .iter()
                        .map(|recipe| recipe.name.as_str())
                        .collect();
                    return Err(format!(
                        "it has no assembly `{name}`: use {}",
                        if names.is_empty() {
                            "`asu`, for it has none at all".to_owned()
                        } else {
                            format!("one of {}, or `asu` for the atoms as deposited", names.join(", "))
                        }
                    ));
                }
                found
            }
        };
        let Some(recipe) = recipe else {
            return Ok(self.atoms.into_iter().map(|(_, atom)| atom).collect());
        };
        let mut atoms = Vec::new();
        for part in &recipe.parts {
            let taken: Vec<bool> = self
                .chains
                .iter()
                .map(|chain| part.chains.contains(chain))
                .collect();
            let chosen: Vec<&Atom> = self
                .atoms
                .iter()
                .filter(|(chain, _)| taken.get(*chain as usize) == Some(&true))
                .map(|(_, atom)| atom)
                .collect();
            if atoms
                .len()
                .saturating_add(chosen.len().saturating_mul(part.copies.len()))
                > MOST_ATOMS
            {
                return Err(format!(
                    "its assembly `{}` has more than {MOST_ATOMS} atoms",
                    recipe.name
                ));
            }
            for copy in &part.copies {
                atoms.extend(chosen.iter().map(|atom| Atom {
                    position_angstrom: copy.apply(atom.position_angstrom),
                    ..**atom
                }));
            }
        }
        if atoms.is_empty() {
            return Err(format!(
                "its assembly `{}` holds none of its atoms: use `asu`",
                recipe.name
            ));
        }
        Ok(atoms)
    }
}

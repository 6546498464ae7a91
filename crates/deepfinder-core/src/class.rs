use crate::{BACKGROUND, CoreError, Label, Result};

/// A kind of macromolecule that is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Label of its voxels and particles, from 1.
    pub label: Label,
    /// Name, as the user writes it.
    pub name: String,
    /// Radius of a particle in voxels, where it is known.
    pub radius_voxels: Option<f32>,
}

/// The classes of a project, in order of their labels. Background is not among them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClassTable {
    classes: Vec<Class>,
}

impl ClassTable {
    /// # Errors
    /// [`CoreError::Class`] where a label is 0 or a label or name occurs twice.
    pub fn new(mut classes: Vec<Class>) -> Result<Self> {
        classes.sort_by_key(|class| class.label);
        for (i, class) in classes.iter().enumerate() {
            if class.label == BACKGROUND || classes[..i].iter().any(|other| other.label == class.label) {
                return Err(CoreError::Class {
                    what: format!("label {}", class.label),
                });
            }
            if classes[..i].iter().any(|other| other.name == class.name) {
                return Err(CoreError::Class {
                    what: format!("name `{}`", class.name),
                });
            }
        }
        Ok(Self { classes })
    }

    /// Classes named `class 1` … `class n` with labels 1 … n: what a model without names has.
    pub fn numbered(n: Label) -> Self {
        let classes = (1..=n)
            .map(|label| Class {
                label,
                name: format!("class {label}"),
                radius_voxels: None,
            })
            .collect();
        Self { classes }
    }

    /// The classes, by ascending label.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Number of scores a network gives per voxel: the largest label and background.
    pub fn scores(&self) -> usize {
        self.classes
            .last()
            .map_or(1, |class| usize::from(class.label) + 1)
    }

    /// The class of a label.
    pub fn by_label(&self, label: Label) -> Option<&Class> {
        self.classes.iter().find(|class| class.label == label)
    }

    /// The class of a name, or of a label written as a number.
    pub fn by_name(&self, name: &str) -> Option<&Class> {
        let number = name.parse().ok();
        self.classes
            .iter()
            .find(|class| class.name == name)
            .or_else(|| self.by_label(number?))
    }

    /// What to call a label: its class's name, or `class N`.
    pub fn name_of(&self, label: Label) -> String {
        match (label, self.by_label(label)) {
            (BACKGROUND, _) => "background".to_owned(),
            (_, Some(class)) => class.name.clone(),
            (_, None) => format!("class {label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(label: Label, name: &str) -> Class {
        Class {
            label,
            name: name.to_owned(),
            radius_voxels: None,
        }
    }

    #[test]
    fn labels_and_names_are_unique() {
        assert!(ClassTable::new(vec![class(0, "a")]).is_err());
        assert!(ClassTable::new(vec![class(1, "a"), class(1, "b")]).is_err());
        assert!(ClassTable::new(vec![class(1, "a"), class(2, "a")]).is_err());
        let table = ClassTable::new(vec![class(4, "b"), class(2, "a")]).unwrap();
        assert_eq!((table.scores(), table.classes()[0].label), (5, 2));
        assert_eq!(table.by_name("b"), table.by_name("4"));
        assert_eq!(
            (table.name_of(0).as_str(), table.name_of(3).as_str()),
            ("background", "class 3")
        );
    }
}

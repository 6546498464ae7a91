use std::path::{Path, PathBuf};
use std::str::FromStr;

use deepfinder_core::VoxelSize;
use deepfinder_io::{is_structure, read_structure, read_volume};
use deepfinder_sim::{Template, density_of_atoms};

use crate::error::OnFile;
use crate::simulate::StructureOptions;
use crate::{PipelineError, Result};

/// Voxel size of densities made of structures where none is given, in Å; the built-in templates have it too.
const VOXEL_SIZE: f32 = 10.0;

/// Where the density of a class comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// A template that comes with the program, by its PDB entry.
    BuiltIn(String),
    /// A density map or an atomic structure.
    File {
        /// Name of the class.
        name: String,
        /// The file.
        path: PathBuf,
    },
}

impl TemplateSource {
    /// The built-in template of that name.
    pub fn built_in(name: &str) -> Self {
        Self::BuiltIn(name.to_owned())
    }

    /// Name of the class.
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(name) | Self::File { name, .. } => name,
        }
    }

    /// The built-in templates of all twelve classes of SHREC'19, in the order of their labels.
    pub fn shrec19() -> Vec<Self> {
        TEMPLATES.iter().map(|(name, _)| Self::built_in(name)).collect()
    }
}

impl FromStr for TemplateSource {
    type Err = PipelineError;

    /// `NAME` for one that comes with the program, `NAME=FILE` else.
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self::File {
                name: name.to_owned(),
                path: path.into(),
            }),
            None if TEMPLATES.iter().any(|(known, _)| *known == text) => Ok(Self::built_in(text)),
            _ => {
                let known = TEMPLATES.map(|(name, _)| name).join(", ");
                Err(PipelineError::input(format!(
                    "`{text}` is no class: write NAME=FILE with a density map or an atomic structure, or one of {known}"
                )))
            }
        }
    }
}

/// The templates of classes, in their order.
///
/// # Errors
/// Where a file cannot be read, or is neither a density map nor a structure.
pub(crate) fn load_templates(
    sources: &[TemplateSource],
    options: &StructureOptions,
) -> Result<Vec<Template>> {
    sources
        .iter()
        .map(|source| match source {
            TemplateSource::BuiltIn(name) => Ok(builtin_templates(&[name])?.remove(0)),
            TemplateSource::File { name, path } if is_structure(path) => {
                let density = density_of_structure(path, options)?;
                Ok(Template::new(name, density))
            }
            TemplateSource::File { name, path } => Ok(Template::new(name, read_volume(path)?)),
        })
        .collect()
}

/// The density of an atomic structure.
fn density_of_structure(path: &Path, options: &StructureOptions) -> Result<deepfinder_core::Volume<f32>> {
    let atoms = read_structure(path, &options.assembly)?;
    let voxel_size = match options.voxel_size {
        Some(size) => size,
        None => VoxelSize::new(VOXEL_SIZE).on(path)?,
    };
    let resolution = options
        .resolution_angstrom
        .unwrap_or(2.0 * f64::from(voxel_size.angstrom()));
    density_of_atoms(&atoms, voxel_size, resolution).on(path)
}

/// The density maps that come with the program: where they are from stands in `fixtures/README.md`.
const TEMPLATES: [(&str, &[u8]); 12] = [
    (
        "1bxn",
        include_bytes!("../../../fixtures/templates/1bxn_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "1qvr",
        include_bytes!("../../../fixtures/templates/1qvr_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "1s3x",
        include_bytes!("../../../fixtures/templates/1s3x_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "1u6g",
        include_bytes!("../../../fixtures/templates/1u6g_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "2cg9",
        include_bytes!("../../../fixtures/templates/2cg9_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "3cf3",
        include_bytes!("../../../fixtures/templates/3cf3_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "3d2f",
        include_bytes!("../../../fixtures/templates/3d2f_asu_10A_kDa.mrc.gz"),
    ),
    (
        "3gl1",
        include_bytes!("../../../fixtures/templates/3gl1_asu_10A_kDa.mrc.gz"),
    ),
    (
        "3h84",
        include_bytes!("../../../fixtures/templates/3h84_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "3qm1",
        include_bytes!("../../../fixtures/templates/3qm1_bioassembly1_10A_kDa.mrc.gz"),
    ),
    (
        "4b4t",
        include_bytes!("../../../fixtures/templates/4b4t_standin_4cr2_10A_kDa.mrc.gz"),
    ),
    (
        "4d8q",
        include_bytes!("../../../fixtures/templates/4d8q_standin_cct4v94_10A_kDa.mrc.gz"),
    ),
];

/// The built-in templates of these names, in this order.
///
/// # Errors
/// Where there is no template of a name, or no temporary file can be written to unpack it.
pub(crate) fn builtin_templates(names: &[&str]) -> Result<Vec<Template>> {
    let folder = tempfile::tempdir().map_err(|source| {
        PipelineError::file(&std::env::temp_dir(), "no temporary folder can be made", source)
    })?;
    names
        .iter()
        .map(|name| {
            let Some((_, bytes)) = TEMPLATES.iter().find(|(known, _)| known == name) else {
                return Err(PipelineError::input(format!(
                    "there is no built-in template `{name}`"
                )));
            };
            let path = folder.path().join(format!("{name}.mrc.gz"));
            std::fs::write(&path, bytes)
                .map_err(|source| PipelineError::file(&path, "a template cannot be unpacked", source))?;
            Ok(Template::new(*name, read_volume(&path)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_density_map() {
        let names = TEMPLATES.map(|(name, _)| name);
        for template in builtin_templates(&names).unwrap() {
            let mass: f32 = template.density.voxels.iter().sum();
            assert!((30.0..3000.0).contains(&mass), "{}: {mass} kDa", template.name);
            assert_eq!(template.density.voxel_size.unwrap().angstrom(), 10.0);
        }
        assert!(builtin_templates(&["nothing"]).is_err());
    }
}

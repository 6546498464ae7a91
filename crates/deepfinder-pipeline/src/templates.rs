use deepfinder_io::read_volume;
use deepfinder_sim::Template;

use crate::{PipelineError, Result};

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

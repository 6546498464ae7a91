use std::path::Path;
use std::sync::Arc;

use deepfinder_core::{ParticleList, VoxelSize};
use deepfinder_io::{ReadOptions, TomogramFrame, VolumeFile, read_particle_file};

use crate::{PipelineError, Result};

/// Voxel sizes that agree to this part are the same but for rounding.
const SAME_SIZE: f32 = 0.01;

/// The particles of a list, in voxels of the tomogram they lie in; of a list that spans several, those that name it.
///
/// What the reader assumed is logged, and so is a list that was counted in other voxels.
pub(crate) fn read_particles_in(
    path: &Path,
    options: &ReadOptions,
    name: Option<&str>,
    tomogram: &VolumeFile,
    voxel_size: Option<VoxelSize>,
) -> Result<ParticleList> {
    let mut options = options.clone();
    if options.tomograms.is_empty() {
        options.tomograms = frame_of(tomogram, voxel_size, None).into();
    }
    let file = read_particle_file(path, &options)?;
    for note in &file.notes {
        tracing::info!("{}: {note}", path.display());
    }
    let mut list = file.particles;
    if let Some(name) = name
        && list
            .iter()
            .any(|particle| particle.tomogram.as_deref() == Some(name))
    {
        list.particles
            .retain(|particle| particle.tomogram.as_deref() == Some(name));
    }
    count_in_voxels_of(&mut list, voxel_size, path)?;
    Ok(list)
}

/// Size and voxel size of a tomogram, for lists that count from its middle.
pub(crate) fn frame_of(
    tomogram: &VolumeFile,
    voxel_size: Option<VoxelSize>,
    name: Option<String>,
) -> TomogramFrame {
    TomogramFrame {
        name,
        shape: tomogram.shape(),
        voxel_size: voxel_size.or(tomogram.voxel_size()),
        ..TomogramFrame::default()
    }
}

/// Counts a list in voxels of another size, where both are known and differ.
pub(crate) fn count_in_voxels_of(
    list: &mut ParticleList,
    voxel_size: Option<VoxelSize>,
    path: &Path,
) -> Result<()> {
    let (Some(own), Some(asked)) = (list.voxel_size, voxel_size) else {
        return Ok(());
    };
    if own.agrees_with(asked, SAME_SIZE) {
        return Ok(());
    }
    // What programs write that do not know.
    if own.angstrom() == 1.0 || asked.angstrom() == 1.0 {
        tracing::warn!(
            "{}: {own} a voxel in the list, {asked} in the tomogram: positions were left as they are, for 1 Å mostly \
             means unknown",
            path.display()
        );
        return Ok(());
    }
    let factor = f64::from(asked.angstrom()) / f64::from(own.angstrom());
    tracing::warn!(
        "{}: positions in voxels of {own} were divided by {factor:.4}, for the tomogram's voxels are {asked}",
        path.display()
    );
    list.bin(factor)
        .map_err(|error| PipelineError::input(error.to_string()))
}

/// Leaves the particles of one tomogram of a list that names them; names those of a list that does not.
pub(crate) fn choose_tomogram(list: &mut ParticleList, name: &str, path: &Path) -> Result<()> {
    let own = || list.iter().filter_map(|particle| particle.tomogram.as_deref());
    if own().next().is_none() {
        let name: Arc<str> = name.into();
        for particle in &mut list.particles {
            particle.tomogram = Some(name.clone());
        }
        return Ok(());
    }
    if !own().any(|other| other == name) {
        let mut names: Vec<&str> = own().collect();
        names.sort_unstable();
        names.dedup();
        return Err(PipelineError::input(format!(
            "{}: no particle lies in a tomogram called `{name}`: the list has {}",
            path.display(),
            names.join(", ")
        )));
    }
    list.particles
        .retain(|particle| particle.tomogram.as_deref() == Some(name));
    Ok(())
}

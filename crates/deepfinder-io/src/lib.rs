//! Files to and from the core types: volumes and the particle lists of this field's programs.
//!
//! Volumes are opened lazily and read by windows; what is written appears under its name only when it is complete.
//!
//! ```
//! use deepfinder_core::{Particle, ParticleList, Region, Volume, VolumeReader, VoxelSize};
//! use deepfinder_io::{ReadOptions, open_volume, read_particles, write_particles, write_volume};
//! use ndarray::Array3;
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let voxels = Array3::from_shape_fn((5, 6, 7), |(z, _, _)| z as f32);
//! let tomogram = Volume::new(voxels).with_voxel_size(VoxelSize::new(13.68)?);
//! write_volume(&folder.join("tomogram.mrc"), &tomogram)?;
//!
//! let file = open_volume(&folder.join("tomogram.mrc"))?;
//! assert_eq!(file.info().shape, [5, 6, 7]);
//! let window: Array3<f32> = file.read_window(Region::new([3, 0, 0], [1, 2, 2]))?;
//! assert!(window.iter().all(|&voxel| voxel == 3.0));
//!
//! let picks = ParticleList::from(vec![Particle::new([4.25, 3.0, 2.0], 1)]);
//! write_particles(&folder.join("picks.xml"), &picks)?;
//! assert_eq!(read_particles(&folder.join("picks.xml"), &ReadOptions::default())?, picks);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod em;
mod error;
mod particles;
mod structure;
mod volume;

pub use atomic::{check_writable, write_file_atomically};
pub use error::{IoError, Result};
pub use particles::{
    CopickObject, CopickProject, CopickRun, Euler, FormatEntry, Holds, Origin, ParticleFile, ParticleFormat,
    ReadOptions, TomogramFrame, TomogramTable, WriteOptions, encode_particles, is_particle_list,
    particle_formats, read_particle_file, read_particles, write_particle_file, write_particles,
};
pub use structure::{Assembly, is_structure, read_structure};
pub use volume::{
    ElementType, MrcWriter, OmeZarr, VolumeFile, VolumeFormat, VolumeFormatEntry, VolumeInfo, Voxel,
    check_ome_zarr_writable, is_volume_folder, is_volume_url, open_hdf5_dataset, open_volume, read_label_map,
    read_volume, volume_formats, write_hdf5, write_hdf5_datasets, write_mrc, write_ome_zarr, write_volume,
};

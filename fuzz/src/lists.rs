use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use deepfinder_core::{Class, ClassTable, Particle, ParticleList, Rotation, VoxelSize};
use deepfinder_io::{
    CopickProject, ParticleFormat, ReadOptions, TomogramFrame, TomogramTable, WriteOptions, encode_particles,
    particle_formats, read_particle_file, write_particle_file,
};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{files_below, repository, scratch, seed, within_bytes};

/// Formats that share a syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Av3,
    Imod,
    Json,
    Star,
    Text,
    Xlsx,
    Xml,
}

impl Family {
    const fn of(format: ParticleFormat) -> Self {
        use ParticleFormat as F;
        match format {
            F::Av3 => Self::Av3,
            F::Imod => Self::Imod,
            F::Xlsx => Self::Xlsx,
            F::Copick | F::Eman2 | F::Portal => Self::Json,
            F::DeepFinderXml | F::PytomXml | F::Cmm => Self::Xml,
            F::Relion5
            | F::Relion4
            | F::Relion31
            | F::Relion30
            | F::Warp
            | F::PytomStar
            | F::Stopgap
            | F::Cbox => Self::Star,
            _ => Self::Text,
        }
    }

    fn formats(self) -> impl Iterator<Item = ParticleFormat> {
        let entries = particle_formats().iter();
        let formats = entries.map(|entry| entry.format);
        formats.filter(move |&format| Self::of(format) == self)
    }
}

/// Reads bytes as each format of a family, and by what they look like. What is read has labels and places, and what is
/// written of it is read again.
pub fn list(family: Family, bytes: &[u8]) {
    let path = scratch().join(if family == Family::Star {
        "list.star"
    } else {
        "list"
    });
    std::fs::write(&path, bytes).unwrap();
    let budget = (32 << 20) + 1024 * bytes.len();
    let guessed = options(None);
    within_bytes(budget, || check(&path, &guessed));
    let own = family.formats().filter(|&format| {
        // RELION and its neighbours are read by the same reader.
        let is_alike = Family::of(format) == Family::Star
            && !matches!(
                format,
                ParticleFormat::Relion5 | ParticleFormat::Stopgap | ParticleFormat::Cbox
            );
        !is_alike
            && particle_formats()
                .iter()
                .any(|entry| entry.format == format && entry.is_read())
    });
    for format in own {
        let options = options(Some(format));
        within_bytes(budget, || check(&path, &options));
    }
    match family {
        Family::Star => drop(within_bytes(budget, || TomogramTable::read(&path))),
        Family::Json => drop(within_bytes(budget, || CopickProject::read(&path))),
        _ => {}
    }
}

fn options(format: Option<ParticleFormat>) -> ReadOptions {
    let classes = (1..=u8::MAX).map(|label| Class {
        label,
        // What a class without a name is called when it is written.
        name: format!("class{label}"),
        radius_voxels: None,
    });
    ReadOptions {
        format,
        classes: ClassTable::new(classes.collect()).unwrap(),
        tomograms: frame(),
        is_preview: format.is_none(),
        ..ReadOptions::default()
    }
}

fn frame() -> TomogramTable {
    TomogramTable::from(TomogramFrame {
        shape: [100, 200, 300],
        voxel_size: VoxelSize::new(10.0).ok(),
        ..TomogramFrame::default()
    })
}

fn check(path: &Path, options: &ReadOptions) {
    /// Beyond it Å and voxels of single precision lose what is compared.
    const FURTHEST: f64 = 1e5;
    let Ok(file) = read_particle_file(path, options) else {
        return;
    };
    let list = &file.particles;
    assert!(list.iter().all(|particle| particle.label > 0));
    assert!(
        list.iter()
            .all(|particle| particle.position.iter().all(|x| x.is_finite()))
    );
    assert!(
        list.iter()
            .all(|particle| particle.score.is_none_or(f32::is_finite))
    );
    let is_near = list
        .iter()
        .all(|particle| particle.position.iter().all(|x| x.abs() < FURTHEST));
    let size = list.voxel_size.map_or(1.0, VoxelSize::angstrom);
    if options.is_preview || !is_near || !(0.01..1000.0).contains(&size) {
        return;
    }
    let classes = if file.classes.classes().is_empty() {
        &options.classes
    } else {
        &file.classes
    };
    let write = WriteOptions {
        format: Some(file.format),
        classes: classes.clone(),
        tomograms: options.tomograms.clone(),
    };
    let again = path.with_file_name("again");
    if let Ok((bytes, _)) = encode_particles(&again, list, &write) {
        if list.is_empty() {
            return;
        }
        std::fs::write(&again, bytes).unwrap();
        let options = ReadOptions {
            format: Some(file.format),
            voxel_size: list.voxel_size,
            classes: classes.clone(),
            ..options.clone()
        };
        let again = read_particle_file(&again, &options).unwrap().particles;
        assert_eq!(again.len(), list.len(), "{}", file.format);
    }
}

/// A list in each format of the family, and the real files beside the repository that belong to it.
pub fn list_seeds(family: Family) {
    seed(|folder| {
        for format in family.formats() {
            let mut first =
                Particle::new([1.0, 2.5, 3.0], 1).with_rotation(Rotation::from_zxz_degrees(10.0, 20.0, 30.0));
            first.score = Some(0.5);
            first.tomogram = Some("tomo & 7".into());
            let mut second = Particle::new([4.0, 5.0, 6.0], 1);
            second.tomogram = Some("tomo & 7".into());
            let mut list = ParticleList::from(vec![first, second]);
            list.voxel_size = VoxelSize::new(10.0).ok();
            let options = WriteOptions {
                format: Some(format),
                tomograms: frame(),
                ..WriteOptions::default()
            };
            // Formats that are only read are seeded by real files.
            let _ = write_particle_file(&folder.join(format!("written-{format:?}")), &list, &options);
        }
        if family == Family::Star {
            let cbox = "data_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_CoordinateZ #3\n_Width #4\n_Confidence #5\n1 2 3 4 <NA>\n";
            std::fs::write(folder.join("typed-cbox"), cbox).unwrap();
        }
        if family == Family::Xlsx {
            for file in files_below(&repository("fixtures/spreadsheet")) {
                if file.extension().is_some_and(|ending| ending == "xlsx") {
                    unpacked(&file, &folder.join(file.file_name().unwrap_or_default()));
                }
            }
        }
        for file in files_below(&repository("../shared/data/formats")) {
            let is_table = family == Family::Star && file.extension().is_some_and(|ending| ending == "star");
            if is_table || ParticleFormat::guess(&file).is_some_and(|format| Family::of(format) == family) {
                let name = file.file_name().unwrap_or_default();
                std::fs::copy(&file, folder.join(name)).unwrap();
            }
        }
    });
}

/// A spreadsheet again, and the parts of it that are read without their packing, so that a changed byte changes a byte.
fn unpacked(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let mut archive = ZipArchive::new(File::open(from).unwrap()).unwrap();
    let mut plain = ZipWriter::new(File::create(to.with_extension("plain")).unwrap());
    for name in [
        "xl/workbook.xml",
        "xl/_rels/workbook.xml.rels",
        "xl/sharedStrings.xml",
        "xl/worksheets/sheet1.xml",
    ] {
        let Some(index) = archive.index_for_name(name) else {
            continue;
        };
        let mut packed = archive.by_index_raw(index).unwrap();
        let mut bytes = Vec::new();
        if packed.compression() == CompressionMethod::Stored {
            packed.read_to_end(&mut bytes).unwrap();
        } else {
            flate2::read::DeflateDecoder::new(packed)
                .read_to_end(&mut bytes)
                .unwrap();
        }
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        plain.start_file(name, options).unwrap();
        plain.write_all(&bytes).unwrap();
    }
    plain.finish().unwrap();
}

//! Atomic structures: the atoms of PDB and mmCIF files, put together to biological assemblies.

mod assembly;
mod elements;
mod mmcif;
mod pdb;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use deepfinder_core::Atom;
use flate2::read::MultiGzDecoder;

use crate::{IoError, Result};

/// Which copies of a structure's chains are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Assembly {
    /// The first biological assembly of the file, or the atoms as deposited where it has none.
    #[default]
    First,
    /// The biological assembly of that name, as the file has it (`1`).
    Named(String),
    /// The atoms as deposited.
    Deposited,
}

impl FromStr for Assembly {
    type Err = std::convert::Infallible;

    /// `asu` for the atoms as deposited, else the name of an assembly.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "asu" => Self::Deposited,
            name => Self::Named(name.to_owned()),
        })
    }
}

/// Whether a path is named like an atomic structure: `.pdb`, `.ent`, `.cif`, `.mmcif`, also with `.gz`.
pub fn is_structure(path: &Path) -> bool {
    kind_of(path).is_some()
}

/// Reads the atoms of a structure.
///
/// * PDB (format 3.3): the first model's `ATOM` and `HETATM` records; assemblies of `REMARK 350`.
/// * mmCIF (`PDBx`): the first model of `_atom_site`; assemblies of `_pdbx_struct_assembly_gen` and
///   `_pdbx_struct_oper_list`.
///
/// Water is left out. An atom counts with its occupancy, so that alternate locations add up to one atom. Hydrogens that a
/// file does not have are not made up.
///
/// # Errors
/// For a file of another name, unreadable or damaged (with the line), an unknown element, an assembly that the file lacks
/// or that names operators it lacks, and a file without atoms.
pub fn read_structure(path: &Path, assembly: &Assembly) -> Result<Vec<Atom>> {
    let Some(kind) = kind_of(path) else {
        return Err(IoError::UnknownFormat {
            path: path.to_owned(),
            kind: "atomic structure",
            hint: "its name ends in none of .pdb, .ent, .cif, .mmcif, or these with .gz".to_owned(),
        });
    };
    let text = read_text(path)?;
    let model = match kind {
        Kind::Pdb => pdb::parse(&text),
        Kind::MmCif => mmcif::parse(&text),
    };
    let model =
        model.map_err(|Fault { line, what }| IoError::malformed(path, format!("line {line}"), what))?;
    if model.atoms.is_empty() {
        return Err(IoError::unsupported(
            path,
            "there is no atom in it: is it a structure's own file?",
        ));
    }
    model
        .assembled(assembly)
        .map_err(|what| IoError::unsupported(path, what))
}

/// What is wrong with a file, and where.
#[derive(Debug)]
struct Fault {
    /// From 1.
    line: usize,
    what: String,
}

impl Fault {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pdb,
    MmCif,
}

fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "pdb" | "ent" => Some(Kind::Pdb),
        "cif" | "mmcif" => Some(Kind::MmCif),
        _ => None,
    }
}

/// The file as text; what is not UTF-8 (names of authors in old files) is replaced.
fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(IoError::file("read", path))?;
    file.read_to_end(&mut bytes)
        .map_err(IoError::file("read", path))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut unpacked)
            .map_err(IoError::format(path, "gzip"))?;
        bytes = unpacked;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Residues that are water.
fn is_water(residue: &str) -> bool {
    matches!(residue, "HOH" | "DOD" | "WAT" | "H2O")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    /// Chain A holds two carbons (one of them in two places), B a zinc; a water is left out. The assembly has A as it is
    /// and turned by 180° about z and shifted, B once.
    const PDB: &str = "\
HEADER    MADE BY HAND
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000       10.00000
REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        5.00000
REMARK 350 APPLY THE FOLLOWING TO CHAINS: B
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
MODEL        1
ATOM      1  CA  ALA A   1       1.000   2.000   3.000  1.00 10.00           C
ATOM      2  CB AALA A   1       4.000   5.000   6.000  0.75 10.00           C
ATOM      3  CB BALA A   1       4.000   5.500   6.000  0.25 10.00           C
HETATM    4 ZN    ZN B   2      -1.500   0.000   0.250  1.00 10.00          ZN
HETATM    5  O   HOH B   3       9.000   9.000   9.000  1.00 10.00           O
ENDMDL
MODEL        2
ATOM      1  CA  ALA A   1      50.000   2.000   3.000  1.00 10.00           C
ENDMDL
END
";

    const CIF: &str = "\
data_HAND
#
_entry.id 'made by hand'
loop_
_pdbx_struct_assembly_gen.assembly_id
_pdbx_struct_assembly_gen.oper_expression
_pdbx_struct_assembly_gen.asym_id_list
1 1,2 A
1 1 B
loop_
_pdbx_struct_oper_list.id
_pdbx_struct_oper_list.type
_pdbx_struct_oper_list.matrix[1][1]
_pdbx_struct_oper_list.matrix[1][2]
_pdbx_struct_oper_list.matrix[1][3]
_pdbx_struct_oper_list.vector[1]
_pdbx_struct_oper_list.matrix[2][1]
_pdbx_struct_oper_list.matrix[2][2]
_pdbx_struct_oper_list.matrix[2][3]
_pdbx_struct_oper_list.vector[2]
_pdbx_struct_oper_list.matrix[3][1]
_pdbx_struct_oper_list.matrix[3][2]
_pdbx_struct_oper_list.matrix[3][3]
_pdbx_struct_oper_list.vector[3]
1 'identity operation' 1 0 0 0 0 1 0 0 0 0 1 0
2 'point symmetry operation' -1.0 0 0 10.0 0 -1.0 0 0 0 0 1 5.0
_struct.title
;A text of
several lines with loop_ and data_ in it
;
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_alt_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.pdbx_PDB_model_num
ATOM   1 C  ALA A . 1.000 2.000 3.000 1.00 1
ATOM   2 C  ALA A A 4.000 5.000 6.000 0.75 1
ATOM   3 C  ALA A B 4.000 5.500 6.000 0.25 1
HETATM 4 ZN ZN  B . -1.500 0.000 0.250 1.00 1
HETATM 5 O  HOH B . 9.000 9.000 9.000 1.00 1
ATOM   6 C  ALA A . 50.00 2.000 3.000 1.00 2
#
";

    fn read(name: &str, text: &[u8], assembly: &Assembly) -> Result<Vec<Atom>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_structure(&path, assembly)
    }

    fn gzipped(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn both_formats_give_the_same_assembly() {
        let atom = |x, y, z, mass_dalton| Atom {
            position_angstrom: [x, y, z],
            mass_dalton,
        };
        let expected = [
            atom(1.0, 2.0, 3.0, 12.011),
            atom(4.0, 5.0, 6.0, 0.75 * 12.011),
            atom(4.0, 5.5, 6.0, 0.25 * 12.011),
            atom(9.0, -2.0, 8.0, 12.011),
            atom(6.0, -5.0, 11.0, 0.75 * 12.011),
            atom(6.0, -5.5, 11.0, 0.25 * 12.011),
            atom(-1.5, 0.0, 0.25, 65.38),
        ];
        for (name, text) in [
            ("a.pdb", PDB.as_bytes().to_vec()),
            ("a.ENT", PDB.as_bytes().to_vec()),
            ("a.pdb.gz", gzipped(PDB)),
            ("a.cif", CIF.as_bytes().to_vec()),
            ("a.cif.gz", gzipped(CIF)),
        ] {
            for assembly in [Assembly::First, Assembly::Named("1".to_owned())] {
                assert_eq!(read(name, &text, &assembly).unwrap(), expected, "{name}");
            }
            let deposited = read(name, &text, &Assembly::Deposited).unwrap();
            assert_eq!(deposited.len(), 4, "{name}");
            let missing = read(name, &text, &Assembly::Named("7".to_owned())).unwrap_err();
            assert!(missing.to_string().contains("no assembly `7`"), "{missing}");
        }
    }

    #[test]
    fn operators_are_combined_as_written() {
        // (1,2)(1-2): four copies, the outer operator last.
        let text = CIF.replacen("1 1,2 A", "1 (1,2)(1-2) A", 1);
        let atoms = read("a.cif", text.as_bytes(), &Assembly::First).unwrap();
        assert_eq!(atoms.len(), 4 * 3 + 1);
        // 2 after 2 turns back and shifts by (0, 0, 10).
        assert_eq!(atoms[9].position_angstrom, [1.0, 2.0, 13.0]);
        // One value instead of a loop.
        let one = CIF.replacen(
            "loop_\n_pdbx_struct_assembly_gen.assembly_id\n_pdbx_struct_assembly_gen.oper_expression\n\
             _pdbx_struct_assembly_gen.asym_id_list\n1 1,2 A\n1 1 B",
            "_pdbx_struct_assembly_gen.assembly_id 1\n_pdbx_struct_assembly_gen.oper_expression '1'\n\
             _pdbx_struct_assembly_gen.asym_id_list \"A,B\"",
            1,
        );
        assert_eq!(read("a.cif", one.as_bytes(), &Assembly::First).unwrap().len(), 4);
        for bad in ["(1", "1)", "9", "2-", "5-1", ""] {
            let text = CIF.replacen("1 1,2 A", &format!("1 '{bad}' A"), 1);
            assert!(read("a.cif", text.as_bytes(), &Assembly::First).is_err(), "{bad}");
        }
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let check = |name: &str, text: &str, said: &str| {
            let error = read(name, text.as_bytes(), &Assembly::First)
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        };
        check(
            "a.pdb",
            &PDB.replacen("4.000   5.000", "4.000   5.0x0", 1),
            "line 16",
        );
        check(
            "a.pdb",
            &PDB.replacen("          ZN\n", "          Qq\n", 1),
            "`QQ` is no element",
        );
        check("a.pdb", "HEADER\nEND\n", "no atom");
        check(
            "a.cif",
            &CIF.replacen("ATOM   2 C", "ATOM   2 Qq", 1),
            "`QQ` is no element",
        );
        check(
            "a.cif",
            &CIF.replacen("5.500 6.000 0.25 1", "5.500 6.000 0.25", 1),
            "line",
        );
        check(
            "a.cif",
            &CIF.replacen("_atom_site.Cartn_y\n", "_atom_site.other\n", 1),
            "Cartn_y",
        );
        check("a.cif", "_atom_site.id 'never closed\n", "line 1");
        check(
            "a.cif",
            &CIF.replacen("lines with loop_ and data_ in it\n;", "lines", 1),
            "never ends",
        );
        check("a.txt", PDB, ".mmcif");
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(place in 0.0..1.0f64, byte in any::<u8>(), cut in 0.0..1.0f64) {
            for (name, text) in [("a.pdb", PDB), ("a.cif", CIF)] {
                let mut bytes = text.as_bytes().to_vec();
                let at = (place * bytes.len() as f64) as usize;
                bytes[at] = byte;
                let end = (cut * bytes.len() as f64) as usize;
                // Whatever is there, nothing panics, and what is read is finite.
                for bytes in [bytes.as_slice(), &text.as_bytes()[..end]] {
                    if let Ok(atoms) = read(name, bytes, &Assembly::First) {
                        let finite = |atom: &Atom| {
                            atom.mass_dalton.is_finite() && atom.position_angstrom.iter().all(|c| c.is_finite())
                        };
                        prop_assert!(atoms.iter().all(finite));
                    }
                }
            }
        }
    }
}

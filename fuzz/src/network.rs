use std::sync::LazyLock;

use deepfinder_net::{Metadata, Weights};
use deepfinder_pipeline::{PROJECT_FILE, Project};

use self::keras_file::{ORDER, keras_file};
use crate::{repository, scratch, seed, within_bytes};

#[path = "../../crates/deepfinder-net/tests/it/keras_file.rs"]
mod keras_file;

/// Bytes of the network's numbers with a few classes.
const BODY_BYTES: usize = 4 * (902_928 + 33 * 3);

/// What any file of weights may take: a few copies of the network.
const BUDGET: usize = 64 << 20;

static WEIGHTS: LazyLock<Weights> =
    LazyLock::new(|| Weights::initial(3, 7, Metadata::for_classes(["ribosome", "proteasome"])).unwrap());

static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| WEIGHTS.to_safetensors().unwrap());

static KERAS: LazyLock<Vec<u8>> = LazyLock::new(|| keras_file(&WEIGHTS, 0, &ORDER));

/// Reads bytes as weights, in the way that the first of them chooses: as a whole file; as the header of a safetensors file
/// of the right length, as the numbers are too many for an input; as changes to a file of Keras.
pub fn weights(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let file = match choice % 3 {
        0 => rest.to_vec(),
        1 => with_numbers(rest),
        _ => changed(&KERAS, rest),
    };
    let budget = BUDGET + 64 * bytes.len();
    let Some(read) = within_bytes(budget, || Weights::from_bytes(file).ok()) else {
        return;
    };
    assert_eq!(read.parameters(), 902_928 + 33 * read.scores());
    let again = Weights::from_bytes(read.to_safetensors().unwrap()).unwrap();
    assert_eq!(again.metadata().classes.len(), read.metadata().classes.len());
}

/// A header of safetensors with its length before it and numbers behind it.
fn with_numbers(header: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + BODY_BYTES, 0);
    file
}

/// Changes, each a place (two bytes; the highest bit counts from the end), a number of bytes, and these.
fn changed(file: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    while let [low, high, count, rest @ ..] = changes {
        let place = usize::from(u16::from_le_bytes([*low, *high & 0x7f]));
        let (new, after) = rest.split_at(usize::from(*count).min(rest.len()));
        let start = if high & 0x80 == 0 {
            place
        } else {
            file.len().saturating_sub(place)
        };
        let start = start.min(file.len());
        let end = (start + new.len()).min(file.len());
        file[start..end].copy_from_slice(&new[..end - start]);
        changes = after;
    }
    file
}

pub fn weights_seeds() {
    seed(|folder| {
        let (length, rest) = SAFETENSORS.split_first_chunk::<8>().unwrap();
        let header = &rest[..u64::from_le_bytes(*length) as usize];
        std::fs::write(folder.join("safetensors"), [&[1], header].concat()).unwrap();
        std::fs::write(folder.join("keras"), [2]).unwrap();
        // The structure of the file, to be changed byte by byte.
        for start in (0..16_u16).map(|part| part * 255) {
            let part = &KERAS[usize::from(start)..][..255];
            let change = [&[2], start.to_le_bytes().as_slice(), &[255], part].concat();
            std::fs::write(folder.join(format!("keras-{start}")), change).unwrap();
        }
        std::fs::write(folder.join("whole"), [0, 8, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
    });
}

/// Reads bytes as a project file; what is read is written and read again.
pub fn project(bytes: &[u8]) {
    let path = scratch().join(PROJECT_FILE);
    std::fs::write(&path, bytes).unwrap();
    let budget = (32 << 20) + 1024 * bytes.len();
    within_bytes(budget, || {
        let Ok(project) = Project::read(&path) else { return };
        let _ = project.class_table(None);
        for tomogram in &project.tomograms {
            assert!(project.tomogram(&tomogram.name).is_ok());
            let _ = project.resolve(&tomogram.file);
        }
        let text = project.to_toml().unwrap();
        std::fs::write(&path, &text).unwrap();
        let again = Project::read(&path).unwrap();
        assert_eq!(again.to_toml().unwrap(), text);
    });
}

pub fn project_seeds() {
    seed(|folder| {
        let source = std::fs::read_to_string(repository("crates/deepfinder-pipeline/src/project.rs"));
        // Every setting there is, with a value of some kind.
        let names = source.unwrap_or_default();
        let names = names
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
        let all: Vec<String> = names.map(|(name, _)| format!("{name} = 1")).collect();
        std::fs::write(folder.join("names"), all.join("\n")).unwrap();
        std::fs::write(folder.join("typed"), PROJECT).unwrap();
    });
}

const PROJECT: &str = r#"version = 1
output = "results"

[[class]]
label = 1
name = "ribosome"
radius = "130 A"

[[class]]
label = 2
name = "proteasome"
radius = 8
mask = "masks/proteasome.mrc"

[[tomogram]]
name = "TS_01"
file = "TS_01.mrc"
picks = "TS_01.xml"
split = "train"

[[tomogram]]
name = "TS_02"
file = "TS_02.rec"
voxel_size = 13.68
invert = true
split = "test"

[target]
order = ["proteasome", "ribosome"]

[train]
epochs = 3
learning_rate = 1e-4
patch = 40
seed = 7

[segment]
scores = true

[pick]
radius = "10 voxels"
min_size = 50

[evaluate]
radius = 5
"#;

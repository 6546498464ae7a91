use std::path::{Path, PathBuf};

use crate::volumes::read;
use crate::{files_below, repository, scratch, seed};

/// Files that are metadata of Zarr.
const METADATA: [&str; 3] = ["zarr.json", ".zarray", ".zattrs"];

/// A chunk of 9 × 20 × 32 voxels, packed in every way there is.
const CODECS: [(&str, &str); 8] = [
    ("blosc", r#"{"name": "blosc"}"#),
    ("blosc-u1", r#"{"name": "blosc"}"#),
    ("zstd", r#"{"name": "zstd"}"#),
    ("gzip", r#"{"name": "gzip"}, {"name": "crc32c"}"#),
    ("lz4", r#"{"name": "numcodecs.lz4"}"#),
    ("zlib", r#"{"name": "numcodecs.zlib"}"#),
    (
        "shard",
        r#"{"name": "sharding_indexed", "configuration": {"chunk_shape": [3, 10, 16], "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc"}], "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}}"#,
    ),
    (
        "shard-first",
        r#"{"name": "sharding_indexed", "configuration": {"chunk_shape": [9, 20, 32], "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip"}], "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "index_location": "start"}}"#,
    ),
];

/// Reads bytes as each kind of metadata, with chunks below that are valid or not.
pub fn zarr_metadata(bytes: &[u8]) {
    for name in METADATA {
        let folder = array(&format!("metadata-{}", name.trim_start_matches('.')), None);
        std::fs::write(folder.join(name), bytes).unwrap();
        read(&folder, bytes.len() + (1 << 14));
    }
}

/// Reads bytes as a chunk, unpacked in the way that the first of them chooses.
pub fn zarr_chunk(bytes: &[u8]) {
    let Some((choice, chunk)) = bytes.split_first() else {
        return;
    };
    let (name, codecs) = CODECS[usize::from(*choice) % CODECS.len()];
    let folder = array(&format!("chunk-{name}"), Some((name, codecs)));
    std::fs::write(folder.join("c/0/0/0"), chunk).unwrap();
    read(&folder, chunk.len() + (1 << 14));
}

/// A folder with the files that metadata can refer to: made once.
fn array(name: &str, codecs: Option<(&str, &str)>) -> PathBuf {
    let folder = scratch().join(format!("{name}.zarr"));
    if folder.exists() {
        return folder;
    }
    std::fs::create_dir_all(folder.join("c/0/0")).unwrap();
    if let Some((name, codecs)) = codecs {
        let kind = if name.ends_with("u1") { "uint8" } else { "float32" };
        let metadata = format!(
            r#"{{"zarr_format": 3, "node_type": "array", "shape": [9, 20, 33], "data_type": "{kind}",
            "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": [9, 20, 32]}}}},
            "chunk_key_encoding": {{"name": "default", "configuration": {{"separator": "/"}}}}, "fill_value": 0,
            "codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}, {codecs}]}}"#
        );
        let metadata = if name.starts_with("shard") {
            metadata.replacen(
                r#"{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "sharding"#,
                r#"{"name": "sharding"#,
                1,
            )
        } else {
            metadata
        };
        std::fs::write(folder.join("zarr.json"), metadata).unwrap();
        return folder;
    }
    let fixture = repository("fixtures/zarr/v3/blosc-float32");
    copy(&fixture.join("c/0/0/0"), &folder.join("c/0/0/0"));
    copy(&fixture.join("c/0/0/0"), &folder.join("0.0.0"));
    std::fs::create_dir_all(folder.join("0/c/0/0")).unwrap();
    copy(&fixture.join("zarr.json"), &folder.join("0/zarr.json"));
    copy(&fixture.join("c/0/0/0"), &folder.join("0/c/0/0/0"));
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

pub fn zarr_metadata_seeds() {
    seed(|folder| {
        for (index, file) in fixtures(|name| METADATA.contains(&name)).iter().enumerate() {
            copy(file, &folder.join(index.to_string()));
        }
    });
}

pub fn zarr_chunk_seeds() {
    seed(|folder| {
        let chunks =
            fixtures(|name| !name.starts_with('.') && !name.ends_with(".json") && !name.ends_with(".py"));
        for (index, file) in chunks.iter().enumerate() {
            for choice in 0..CODECS.len() {
                let mut bytes = vec![choice as u8];
                bytes.extend(std::fs::read(file).unwrap());
                std::fs::write(folder.join(format!("{index}-{choice}")), bytes).unwrap();
            }
        }
    });
}

/// The files of the fixtures that are wanted.
fn fixtures(is_wanted: fn(&str) -> bool) -> Vec<PathBuf> {
    let mut files = files_below(&repository("fixtures/zarr"));
    files.retain(|file| {
        file.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_wanted)
    });
    files
}

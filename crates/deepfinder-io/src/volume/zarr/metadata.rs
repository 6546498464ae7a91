use std::path::Path;

use serde_json::Value;

use super::array::{Array, Key};
use super::codec::Codec;
use super::shard::Shards;
use super::store::{Store, is_url};
use crate::volume::ElementType;
use crate::volume::npy::element;
use crate::{IoError, Result};

/// What a list of codecs comes to.
struct Pipeline {
    is_big_endian: bool,
    codecs: Vec<Codec>,
    /// Chunks within a file, and their shape.
    shards: Option<([usize; 3], Shards)>,
}

impl Array {
    pub(super) fn open(store: Store) -> Result<Self> {
        if let Some(metadata) = store.json("zarr.json")? {
            let path = store.root().join("zarr.json");
            return Self::of_version_3(store, &metadata).map_err(|what| explain(&path, what));
        }
        let path = store.root().join(".zarray");
        match store.json(".zarray")? {
            Some(metadata) => Self::of_version_2(store, &metadata).map_err(|what| explain(&path, what)),
            None => Err(IoError::unsupported(
                store.root(),
                if is_url(store.root()) {
                    "there is no Zarr array (.zarray or zarr.json) and no OME-Zarr pyramid here, or the store is not public (a key is taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
                } else {
                    "there is no Zarr array (.zarray or zarr.json) and no OME-Zarr pyramid here"
                },
            )),
        }
    }

    fn of_version_2(store: Store, metadata: &Value) -> std::result::Result<Self, String> {
        let dtype = metadata.get("dtype").and_then(Value::as_str).unwrap_or_default();
        let (element, is_big_endian) =
            element(dtype).ok_or_else(|| format!("unsupported: voxels of type `{dtype}`"))?;
        if metadata.get("order").and_then(Value::as_str) == Some("F") {
            return Err("unsupported: chunks in Fortran order".to_owned());
        }
        if metadata
            .get("filters")
            .and_then(Value::as_array)
            .is_some_and(|filters| !filters.is_empty())
        {
            return Err("unsupported: filters".to_owned());
        }
        let compressor = metadata.get("compressor").filter(|value| !value.is_null());
        let codec = compressor.map(|value| {
            let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
            Codec::by_name(id).ok_or_else(|| format!("unsupported: compressor `{id}`"))
        });
        let separator = match metadata.get("dimension_separator").and_then(Value::as_str) {
            Some("/") => '/',
            _ => '.',
        };
        let (shape, leading) = three(metadata.get("shape"), "shape")?;
        let (chunk, _) = three(metadata.get("chunks"), "chunks")?;
        Self {
            store,
            shape,
            element,
            is_big_endian,
            chunk,
            leading,
            codecs: codec.transpose()?.into_iter().collect(),
            shards: None,
            fill: fill(metadata),
            key: Key {
                prefix: "",
                separator,
            },
        }
        .checked()
    }

    fn of_version_3(store: Store, metadata: &Value) -> std::result::Result<Self, String> {
        let name = metadata
            .get("data_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let element = match name {
            "uint8" | "bool" => ElementType::U8,
            "int8" => ElementType::I8,
            "uint16" => ElementType::U16,
            "int16" => ElementType::I16,
            "uint32" => ElementType::U32,
            "int32" => ElementType::I32,
            "uint64" => ElementType::U64,
            "int64" => ElementType::I64,
            "float16" => ElementType::F16,
            "float32" => ElementType::F32,
            "float64" => ElementType::F64,
            "" => return Err("no `data_type`: this is a group, and no array".to_owned()),
            other => return Err(format!("unsupported: voxels of type `{other}`")),
        };
        let grid = metadata
            .get("chunk_grid")
            .and_then(|grid| grid.get("configuration")?.get("chunk_shape"));
        let keys = metadata.get("chunk_key_encoding");
        let is_old = keys.and_then(|keys| keys.get("name")?.as_str()) == Some("v2");
        let separator = keys.and_then(|keys| keys.get("configuration")?.get("separator")?.as_str());
        let separator = separator
            .and_then(|text| text.chars().next())
            .unwrap_or(if is_old { '.' } else { '/' });
        let (chunk, _) = three(grid, "chunk_shape")?;
        let pipeline = pipeline(metadata.get("codecs"), chunk)?;
        let (shape, leading) = three(metadata.get("shape"), "shape")?;
        let (chunk, shards) = match pipeline.shards {
            Some((inner, shards)) => (inner, Some(shards)),
            None => (chunk, None),
        };
        Self {
            store,
            shape,
            element,
            is_big_endian: pipeline.is_big_endian,
            chunk,
            leading,
            codecs: pipeline.codecs,
            shards,
            fill: fill(metadata),
            key: Key {
                prefix: if is_old { "" } else { "c" },
                separator,
            },
        }
        .checked()
    }
}

/// The codecs of a chunk of that shape. One that splits it into chunks of their own must be the only one.
fn pipeline(codecs: Option<&Value>, chunk: [usize; 3]) -> std::result::Result<Pipeline, String> {
    let mut pipeline = Pipeline {
        is_big_endian: false,
        codecs: Vec::new(),
        shards: None,
    };
    let codecs = codecs.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for codec in codecs {
        let name = codec.get("name").and_then(Value::as_str).unwrap_or_default();
        let own = codec.get("configuration");
        match name {
            "bytes" => {
                let endian = own.and_then(|own| own.get("endian")?.as_str());
                pipeline.is_big_endian = endian == Some("big");
            }
            "sharding_indexed" if codecs.len() == 1 => {
                let (inner, _) = three(own.and_then(|own| own.get("chunk_shape")), "chunk_shape")?;
                let inside = self::pipeline(own.and_then(|own| own.get("codecs")), inner)?;
                if inside.shards.is_some() {
                    return Err("unsupported: shards within shards".to_owned());
                }
                let index = self::pipeline(own.and_then(|own| own.get("index_codecs")), inner)?;
                let is_first = own.and_then(|own| own.get("index_location")?.as_str()) == Some("start");
                let is_checked = match index.codecs.as_slice() {
                    [] if index.shards.is_none() => false,
                    [Codec::Crc32c] => true,
                    _ => return Err("unsupported: a packed index of shards".to_owned()),
                };
                let shards = Shards::new(chunk, inner, is_first, is_checked, index.is_big_endian)?;
                return Ok(Pipeline {
                    shards: Some((inner, shards)),
                    ..inside
                });
            }
            _ => {
                let codec = Codec::by_name(name).ok_or_else(|| format!("unsupported: codec `{name}`"))?;
                pipeline.codecs.push(codec);
            }
        }
    }
    Ok(pipeline)
}

fn explain(path: &Path, what: String) -> IoError {
    if what.starts_with("unsupported") {
        let what = what.replacen("unsupported: ", "", 1);
        return IoError::unsupported(
            path,
            format!("{what}: not read here. Rewrite it with blosc, gzip, zstd or no compression"),
        );
    }
    IoError::malformed(path, "the array's metadata", what)
}

/// The last three sizes, and the number of those before them, which must be 1.
fn three(value: Option<&Value>, name: &str) -> std::result::Result<([usize; 3], usize), String> {
    let sizes: Option<Vec<usize>> = value.and_then(Value::as_array).and_then(|sizes| {
        sizes
            .iter()
            .map(|size| usize::try_from(size.as_u64()?).ok())
            .collect()
    });
    let sizes = sizes.ok_or_else(|| format!("no `{name}`"))?;
    let Some((leading, last)) = sizes.split_last_chunk::<3>() else {
        return Err(format!("`{name}` is {sizes:?}: a volume has three axes"));
    };
    if leading.iter().any(|&n| n != 1) {
        return Err(format!(
            "`{name}` is {sizes:?}: the axes before z, y, x must have one entry"
        ));
    }
    Ok((*last, leading.len()))
}

fn fill(metadata: &Value) -> f32 {
    let fill = metadata.get("fill_value");
    match fill.and_then(Value::as_str) {
        Some("NaN") => f32::NAN,
        Some("Infinity") => f32::INFINITY,
        Some("-Infinity") => f32::NEG_INFINITY,
        _ => fill.and_then(Value::as_f64).unwrap_or(0.0) as f32,
    }
}

use std::path::{Path, PathBuf};

use deepfinder_core::Region;
use ndarray::{Array3, s};
use serde_json::Value;

use super::codec::{Codec, decode};
use super::json;
use crate::volume::element::{Decoded, NoLabel};
use crate::volume::npy::element;
use crate::volume::raw::values;
use crate::volume::{ElementType, Source};
use crate::{IoError, Result};

/// Chunks beyond this are a damaged header: blosc itself holds no more.
const MAX_CHUNK_BYTES: usize = 1 << 31;

/// Voxels beyond this many bytes have to be there to some part: deflate and its like pack no more than 1100 to 1.
const MAX_UNPROVEN_BYTES: u128 = 4 << 30;
const MAX_PACKING: u128 = 1100;

/// A Zarr array of three axes, or of more of which the first have one entry.
#[derive(Debug, Clone)]
pub(super) struct Array {
    folder: PathBuf,
    /// `(z, y, x)`.
    pub(super) shape: [usize; 3],
    pub(super) element: ElementType,
    is_big_endian: bool,
    /// `(z, y, x)`.
    chunk: [usize; 3],
    /// Axes before z.
    leading: usize,
    codecs: Vec<Codec>,
    fill: f32,
    key: Key,
}

/// How the file of a chunk is called.
#[derive(Debug, Clone)]
struct Key {
    prefix: &'static str,
    separator: char,
}

impl Array {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        if let Some(metadata) = json(&folder.join("zarr.json"))? {
            let path = folder.join("zarr.json");
            return Self::of_version_3(folder, &metadata).map_err(|what| explain(&path, what));
        }
        let path = folder.join(".zarray");
        match json(&path)? {
            Some(metadata) => Self::of_version_2(folder, &metadata).map_err(|what| explain(&path, what)),
            None => Err(IoError::unsupported(
                folder,
                "this folder holds no Zarr array (.zarray or zarr.json) and no OME-Zarr pyramid",
            )),
        }
    }

    fn of_version_2(folder: &Path, metadata: &Value) -> std::result::Result<Self, String> {
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
            folder: folder.to_owned(),
            shape,
            element,
            is_big_endian,
            chunk,
            leading,
            codecs: codec.transpose()?.into_iter().collect(),
            fill: fill(metadata),
            key: Key {
                prefix: "",
                separator,
            },
        }
        .checked()
    }

    fn of_version_3(folder: &Path, metadata: &Value) -> std::result::Result<Self, String> {
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
        let mut is_big_endian = false;
        let mut codecs = Vec::new();
        for codec in metadata
            .get("codecs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = codec.get("name").and_then(Value::as_str).unwrap_or_default();
            if name == "bytes" {
                let endian = codec
                    .get("configuration")
                    .and_then(|own| own.get("endian")?.as_str());
                is_big_endian = endian == Some("big");
            } else {
                codecs.push(Codec::by_name(name).ok_or_else(|| format!("unsupported: codec `{name}`"))?);
            }
        }
        let (shape, leading) = three(metadata.get("shape"), "shape")?;
        let (chunk, _) = three(grid, "chunk_shape")?;
        Self {
            folder: folder.to_owned(),
            shape,
            element,
            is_big_endian,
            chunk,
            leading,
            codecs,
            fill: fill(metadata),
            key: Key {
                prefix: if is_old { "" } else { "c" },
                separator,
            },
        }
        .checked()
    }

    fn checked(self) -> std::result::Result<Self, String> {
        if !matches!(self.key.separator, '.' | '/') {
            return Err(format!("the separator of chunks is `{}`", self.key.separator));
        }
        let bytes = self
            .chunk
            .iter()
            .try_fold(self.element.bytes(), |product, &n| product.checked_mul(n));
        if bytes.is_none_or(|bytes| bytes > MAX_CHUNK_BYTES) {
            return Err(format!(
                "chunks of {:?} voxels (z, y, x) are too large",
                self.chunk
            ));
        }
        if self
            .shape
            .iter()
            .chain(&self.chunk)
            .any(|&n| n == 0 || n > i32::MAX as usize)
        {
            return Err(format!(
                "{:?} voxels (z, y, x) in chunks of {:?} cannot be",
                self.shape, self.chunk
            ));
        }
        let needed = self
            .shape
            .iter()
            .fold(self.element.bytes() as u128, |product, &n| product * n as u128);
        if needed > MAX_UNPROVEN_BYTES && needed > u128::from(bytes_below(&self.folder, 8)) * MAX_PACKING {
            return Err(format!(
                "{:?} voxels (z, y, x) are more than its chunks can hold: is the folder complete?",
                self.shape
            ));
        }
        Ok(self)
    }

    /// The file of a chunk, by its place in the grid.
    fn chunk_path(&self, at: [usize; 3]) -> PathBuf {
        let zeros = vec![0; self.leading];
        let mut parts: Vec<String> = zeros.iter().chain(&at).map(ToString::to_string).collect();
        if !self.key.prefix.is_empty() {
            parts.insert(0, self.key.prefix.to_owned());
        }
        self.folder.join(parts.join(&self.key.separator.to_string()))
    }

    /// The voxels of a chunk, all of it also where it reaches over the edge; none where it was never written.
    fn chunk(&self, at: [usize; 3]) -> Result<Option<Array3<f32>>> {
        let path = self.chunk_path(at);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoError::file("read", &path)(error)),
        };
        let expected = self.chunk.iter().product::<usize>() * self.element.bytes();
        let bytes = decode(&self.codecs, bytes, expected)
            .map_err(|what| IoError::malformed(&path, "the chunk", what))?;
        let values = values(&bytes, self.element, self.is_big_endian);
        let chunk =
            Array3::from_shape_vec(self.chunk, values).map_err(IoError::format(&path, "Zarr chunk"))?;
        Ok(Some(chunk))
    }
}

impl Source for Array {
    fn window<T: Decoded>(&self, path: &Path, region: Region) -> Result<Array3<T>> {
        let mut window = Array3::default(region.shape);
        if region.voxels() == 0 {
            return Ok(window);
        }
        let (start, end) = (region.start, region.end());
        let first: [usize; 3] = std::array::from_fn(|axis| start[axis] / self.chunk[axis]);
        let last: [usize; 3] = std::array::from_fn(|axis| (end[axis] - 1) / self.chunk[axis]);
        for z in first[0]..=last[0] {
            for y in first[1]..=last[1] {
                for x in first[2]..=last[2] {
                    let at = [z, y, x];
                    let chunk = self.chunk(at)?;
                    // The part of the window in this chunk, in voxels of the volume.
                    let low: [usize; 3] =
                        std::array::from_fn(|axis| start[axis].max(at[axis] * self.chunk[axis]));
                    let high: [usize; 3] =
                        std::array::from_fn(|axis| end[axis].min((at[axis] + 1) * self.chunk[axis]));
                    let inside = |axis: usize| {
                        low[axis] - at[axis] * self.chunk[axis]..high[axis] - at[axis] * self.chunk[axis]
                    };
                    let part = if let Some(chunk) = &chunk {
                        chunk.slice(s![inside(0), inside(1), inside(2)]).to_owned()
                    } else {
                        let shape: [usize; 3] = std::array::from_fn(|axis| high[axis] - low[axis]);
                        Array3::from_elem(shape, self.fill)
                    };
                    let shape = part.dim();
                    let values = T::collect(part.iter().copied()).map_err(|NoLabel { index, value }| {
                        IoError::NoLabel {
                            path: path.to_owned(),
                            at: [
                                low[0] + index / (shape.1 * shape.2),
                                low[1] + index / shape.2 % shape.1,
                                low[2] + index % shape.2,
                            ],
                            value,
                        }
                    })?;
                    let part =
                        Array3::from_shape_vec(shape, values).map_err(IoError::format(path, "volume"))?;
                    let place = |axis: usize| low[axis] - start[axis]..high[axis] - start[axis];
                    window.slice_mut(s![place(0), place(1), place(2)]).assign(&part);
                }
            }
        }
        Ok(window)
    }
}

/// Bytes of the files in a folder, so many folders deep.
fn bytes_below(folder: &Path, depth: usize) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() && depth > 0 => bytes_below(&entry.path(), depth - 1),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    });
    sizes.sum()
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

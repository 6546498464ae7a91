//! Programs that cut windows out of volumes.

use super::program::{Element, Place, Program, over, whole};
use crate::{error::Conv3dError, windows::WindowPlace};

/// Voxels of a part of a window.
const PART: usize = 4096;

/// (f32 voxels of all volumes, u8 places of the windows) -> f32 `[windows, side³]`: see `window_voxels` in `windows.cuh`.
pub(crate) fn window_voxels(voxels: usize, windows: usize, side: usize) -> Result<Program, Conv3dError> {
    let (cube, parts) = (side.pow(3), side.pow(3).div_ceil(PART));
    let inputs = [voxels, windows * WindowPlace::BYTES];
    let mut program = Program::new(Element::F32, &inputs, windows * cube);
    let bytes = windows * parts * size_of::<f64>();
    let (sums, deviations) = (program.scratch(bytes), program.scratch(bytes));
    let (grid, sizes) = ([parts, windows, 1], [windows, side, PART, parts]);
    let (volumes, places) = (Place::Input(0, 0), Place::Input(1, 0));
    program.launch("window_sums", grid, 256, &[volumes, places, sums], &sizes)?;
    let of_sums = [volumes, places, sums, deviations];
    program.launch("window_deviations", grid, 256, &of_sums, &sizes)?;
    let of_both = [volumes, places, sums, deviations, Place::Output];
    program.launch("window_voxels", grid, 256, &of_both, &sizes)?;
    Ok(program)
}

/// (u8 labels of all volumes, u8 places of the windows) -> u8 `[windows, side³]`.
pub(crate) fn window_labels(voxels: usize, windows: usize, side: usize) -> Result<Program, Conv3dError> {
    let values = windows * side.pow(3);
    let inputs = [voxels, windows * WindowPlace::BYTES];
    let mut program = Program::new(Element::F32, &inputs, values);
    let places = [Place::Input(0, 0), Place::Input(1, 0), Place::Output];
    let sizes = whole(&[windows, side, PART, 0])?;
    program.launch_typed("window_labels_u8".to_owned(), over(values), 256, &places, &sizes)?;
    Ok(program)
}

/// Windows of volumes that lie one behind the other, and their labels: see `LabelledVolumes`, whose places these are.
#[cfg(feature = "cuda")]
pub(crate) fn windows_on_gpu(
    values: &candle_core::Tensor,
    labels: &candle_core::Tensor,
    places: &[WindowPlace],
    side: usize,
) -> candle_core::Result<(candle_core::Tensor, candle_core::Tensor)> {
    use super::ops::from_tensors;

    const NAME: &str = "windows";
    let (n, bytes): (_, Vec<u8>) = (
        places.len(),
        places.iter().flat_map(|place| place.to_bytes()).collect(),
    );
    let (length, voxels) = (bytes.len(), values.elem_count());
    let table = candle_core::Tensor::from_vec(bytes, length, values.device())?;
    let program = window_voxels(voxels, n, side)?;
    let of_values = from_tensors::<f32>(NAME, &[values, &table], (n, 1, side, side, side), &program)?;
    let program = window_labels(voxels, n, side)?;
    let of_labels = from_tensors::<u8>(NAME, &[labels, &table], (n, side, side, side), &program)?;
    Ok((of_values, of_labels))
}

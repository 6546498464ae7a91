//! The transforms of the [Winograd convolution](super::winograd), written once for every vector width.
#![expect(
    clippy::inline_always,
    reason = "the instructions are only to be had inside a function that enables them"
)]
#![allow(
    unsafe_code,
    reason = "vector loads and stores through pointers whose ranges are checked beforehand"
)]

use super::{
    vector::Vector,
    winograd::{COMPONENTS, Finish, INPUTS, MAX_CHANNELS, TILE, TileRow},
};

impl<const P: usize> TileRow<P> {
    /// Checks that the row stays inside its slices, whatever the caller worked out.
    fn check(&self, volumes: [usize; P], transformed: usize) {
        assert!(self.channels > 0 && self.channels <= MAX_CHANNELS && self.tiles > 0);
        for (row, volume) in self.rows.iter().zip(volumes) {
            assert!(row.is_none_or(|row| row + self.width * self.channels <= volume));
        }
        let end = self.transformed + (COMPONENTS - 1) * self.component + self.tiles * self.channels;
        assert!(end <= transformed);
    }

    /// Where the voxel of a row begins.
    #[inline(always)]
    fn voxel(&self, x: isize) -> Option<usize> {
        usize::try_from(x)
            .ok()
            .filter(|x| *x < self.width)
            .map(|x| x * self.channels)
    }
}

/// Factors of the transforms along x.
struct Factors<V> {
    two: V,
    four: V,
    five: V,
    eight: V,
}

impl<V: Vector> Factors<V> {
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller sees to the instruction set; in all of this module.
        unsafe {
            Self {
                two: V::splat(2.0),
                four: V::splat(4.0),
                five: V::splat(5.0),
                eight: V::splat(8.0),
            }
        }
    }

    /// `Bᵀ d` of F(4, 3): six inputs to six components.
    #[inline(always)]
    unsafe fn of_inputs(&self, [d0, d1, d2, d3, d4, d5]: [V; 6]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let even = d4.sub_product(self.four, d2);
            let odd = d3.sub_product(self.four, d1);
            let (outer, inner) = (d4.sub(d2), d3.sub(d1));
            [
                d4.sub_product(self.five, d2).add_product(self.four, d0),
                even.add(odd),
                even.sub(odd),
                outer.add_product(self.two, inner),
                outer.sub_product(self.two, inner),
                d5.sub_product(self.five, d3).add_product(self.four, d1),
            ]
        }
    }

    /// `Aᵀ m` of F(4, 3): six components to four outputs.
    #[inline(always)]
    unsafe fn to_outputs(&self, [m0, m1, m2, m3, m4, m5]: [V; 6]) -> [V; 4] {
        // SAFETY: as above.
        unsafe {
            let (s12, d12, s34, d34) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
            [
                m0.add(s12).add(s34),
                d12.add_product(self.two, d34),
                s12.add_product(self.four, s34),
                d12.add(m5).add_product(self.eight, d34),
            ]
        }
    }

    /// `A y` of F(4, 3): the gradients of four outputs to those of six components.
    #[inline(always)]
    unsafe fn of_gradients(&self, [y0, y1, y2, y3]: [V; 4]) -> [V; 6] {
        // SAFETY: as above.
        unsafe {
            let (even, odd) = (y0.add(y2), y1.add(y3));
            let far_even = y0.add_product(self.four, y2);
            let far_odd = y1.add_product(self.four, y3);
            [
                y0,
                even.add(odd),
                even.sub(odd),
                far_even.add_product(self.two, far_odd),
                far_even.sub_product(self.two, far_odd),
                y3,
            ]
        }
    }
}

/// Stands for voxels outside the volume.
static OUTSIDE: [f32; MAX_CHANNELS] = [0.0; MAX_CHANNELS];

/// Where the voxels of a tile lie; [`OUTSIDE`] for those that don't exist.
#[inline(always)]
fn voxels<const P: usize, const X: usize>(
    volume: &[f32],
    call: &TileRow<P>,
    tile: usize,
) -> [[*const f32; X]; P] {
    let first = call.first + (TILE[1] * tile) as isize;
    let mut voxels = [[OUTSIDE.as_ptr(); X]; P];
    for (voxels, row) in voxels.iter_mut().zip(call.rows) {
        let Some(row) = row else { continue };
        for (x, voxel) in voxels.iter_mut().enumerate() {
            if let Some(offset) = call.voxel(first + x as isize) {
                *voxel = volume[row + offset..].as_ptr();
            }
        }
    }
    voxels
}

/// The sums or differences of two planes' voxels, from `channel` on.
#[inline(always)]
unsafe fn along_z<V: Vector, const SUM: bool>(
    a: &[*const f32; INPUTS[1]],
    b: &[*const f32; INPUTS[1]],
    channel: usize,
    mask: V::Mask,
) -> [V; INPUTS[1]] {
    // SAFETY: the voxels have all the channels of the mask: those of the volume by `check`, and so has `OUTSIDE`.
    unsafe {
        let mut values = [V::zero(); INPUTS[1]];
        for x in 0..INPUTS[1] {
            let a = V::load_masked(a[x].add(channel), mask);
            let b = V::load_masked(b[x].add(channel), mask);
            values[x] = if SUM { a.add(b) } else { a.sub(b) };
        }
        values
    }
}

/// Stores the components of one row of them.
#[inline(always)]
unsafe fn store<V: Vector>(values: [V; INPUTS[1]], to: *mut f32, component: usize, mask: V::Mask) {
    for (x, value) in values.into_iter().enumerate() {
        // SAFETY: the caller's offsets have passed `check`.
        unsafe { value.store_masked(to.add(x * component), mask) };
    }
}

/// `Bᵀ d B`: inputs to components.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
pub(super) unsafe fn inputs<V: Vector>(
    transformed: &mut [f32],
    volume: &[f32],
    call: &TileRow<{ INPUTS[0] }>,
) {
    call.check([volume.len(); 4], transformed.len());
    let to = transformed.as_mut_ptr();
    let row = INPUTS[1] * call.component;
    // SAFETY: `check` has held every offset below against the slices' lengths.
    unsafe {
        let factors = Factors::<V>::new();
        for tile in 0..call.tiles {
            let [a, b, c, d] = voxels::<_, { INPUTS[1] }>(volume, call, tile);
            let to = to.add(call.transformed + tile * call.channels);
            for channel in (0..call.channels).step_by(V::LANES) {
                let mask = V::mask(V::LANES.min(call.channels - channel));
                let to = to.add(channel);
                let values = factors.of_inputs(along_z::<V, false>(&a, &c, channel, mask));
                store(values, to, call.component, mask);
                let values = factors.of_inputs(along_z::<V, true>(&b, &c, channel, mask));
                store(values, to.add(row), call.component, mask);
                let values = factors.of_inputs(along_z::<V, false>(&c, &b, channel, mask));
                store(values, to.add(2 * row), call.component, mask);
                let values = factors.of_inputs(along_z::<V, false>(&b, &d, channel, mask));
                store(values, to.add(3 * row), call.component, mask);
            }
        }
    }
}

/// `A y Aᵀ`: gradients of outputs to gradients of components.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
pub(super) unsafe fn gradients<V: Vector>(
    transformed: &mut [f32],
    volume: &[f32],
    call: &TileRow<{ TILE[0] }>,
) {
    call.check([volume.len(); 2], transformed.len());
    let to = transformed.as_mut_ptr();
    let row = INPUTS[1] * call.component;
    // SAFETY: as above.
    unsafe {
        let factors = Factors::<V>::new();
        for tile in 0..call.tiles {
            let planes = voxels::<_, { TILE[1] }>(volume, call, tile);
            let to = to.add(call.transformed + tile * call.channels);
            for channel in (0..call.channels).step_by(V::LANES) {
                let mask = V::mask(V::LANES.min(call.channels - channel));
                let to = to.add(channel);
                let mut values = [[V::zero(); TILE[1]]; 2];
                for (values, voxels) in values.iter_mut().zip(&planes) {
                    for (value, voxel) in values.iter_mut().zip(voxels) {
                        *value = V::load_masked(voxel.add(channel), mask);
                    }
                }
                let (first, second) = (factors.of_gradients(values[0]), factors.of_gradients(values[1]));
                let (mut sum, mut difference, mut negative) = (first, first, first);
                for x in 0..INPUTS[1] {
                    sum[x] = first[x].add(second[x]);
                    difference[x] = first[x].sub(second[x]);
                    negative[x] = V::zero().sub(second[x]);
                }
                store(first, to, call.component, mask);
                store(sum, to.add(row), call.component, mask);
                store(difference, to.add(2 * row), call.component, mask);
                store(negative, to.add(3 * row), call.component, mask);
            }
        }
    }
}

/// `Aᵀ m A`: components to outputs, of two planes.
///
/// # Safety
/// The machine has the instructions.
#[inline(always)]
pub(super) unsafe fn outputs<V: Vector>(
    outputs: [&mut [f32]; 2],
    transformed: &[f32],
    finish: Finish<'_, f32>,
    call: &TileRow<{ TILE[0] }>,
) {
    call.check([outputs[0].len(), outputs[1].len()], transformed.len());
    assert!(finish.bias.is_none_or(|bias| bias.len() >= call.channels));
    let outputs = outputs.map(<[f32]>::as_mut_ptr);
    let from = transformed.as_ptr();
    // SAFETY: as above.
    unsafe {
        let factors = Factors::<V>::new();
        for tile in 0..call.tiles {
            let x = call.first + (TILE[1] * tile) as isize;
            let voxels = [0, 1, 2, 3].map(|i| call.voxel(x + i));
            let from = from.add(call.transformed + tile * call.channels);
            for channel in (0..call.channels).step_by(V::LANES) {
                let mask = V::mask(V::LANES.min(call.channels - channel));
                let bias = match finish.bias {
                    Some(bias) => V::load_masked(bias.as_ptr().add(channel), mask),
                    None => V::zero(),
                };
                let [mut first, mut second] = [[V::zero(); INPUTS[1]]; 2];
                for (x, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
                    let mut components = [V::zero(); INPUTS[0]];
                    for (z, component) in components.iter_mut().enumerate() {
                        let place = (z * INPUTS[1] + x) * call.component + channel;
                        *component = V::load_masked(from.add(place), mask);
                    }
                    let [m0, m1, m2, m3] = components;
                    *first = m0.add(m1.add(m2));
                    *second = m1.sub(m2).sub(m3);
                }
                for ((output, row), plane) in outputs.into_iter().zip(call.rows).zip([first, second]) {
                    let Some(row) = row else { continue };
                    for (value, voxel) in factors.to_outputs(plane).into_iter().zip(voxels) {
                        let Some(voxel) = voxel else { continue };
                        let value = value.add(bias);
                        let value = if finish.relu { value.relu() } else { value };
                        value.store_masked(output.add(row + voxel + channel), mask);
                    }
                }
            }
        }
    }
}

//! The programs of this folder, run by the kernels' C++ on the processor (`kernels/emulator.cpp`), against the CPU's ops.
//!
//! Values are small whole numbers, so that every sum is exact in each element type and results must be equal to the
//! last bit. Each program runs twice, with threads in opposite order and copies arriving at once or as late as they may:
//! a result that depends on either is a race on a GPU.

#![cfg(test)]

mod convolutions;
mod tensors;
mod training;
mod voxels;
mod windows;

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::{
    Element, Program, compiled,
    cudnn::{self, Call},
    program::{Place, Step},
};

/// The compiled emulator; nothing where there is no C++ compiler.
fn emulator() -> Option<&'static PathBuf> {
    static EMULATOR: OnceLock<Option<PathBuf>> = OnceLock::new();
    let emulator = EMULATOR.get_or_init(|| {
        let arguments = [
            "-std=c++17",
            "-O2",
            "-Wno-unknown-pragmas",
            "-U_FORTIFY_SOURCE",
            "-DEMULATED",
        ];
        compiled::program("kernels/emulator.cpp", &arguments, "emulator")
    });
    if emulator.is_none() {
        eprintln!("skipped: no C++ compiler here to run the GPU's kernels with");
    }
    emulator.as_ref()
}

/// Bytes of a program's result.
fn replay(program: &Program, inputs: &[Vec<u8>], output_bytes: usize) -> Option<Vec<u8>> {
    replay_all(program, inputs, output_bytes).map(|(_, output)| output)
}

/// Bytes of all inputs behind a program, and of its result.
fn replay_all(program: &Program, inputs: &[Vec<u8>], output_bytes: usize) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let once = |order: u32| -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
        let garbage = |bytes: usize| vec![0xFF; bytes];
        let scratch = program.scratch.iter().copied().map(garbage);
        let mut buffers: Vec<Vec<u8>> = inputs
            .iter()
            .cloned()
            .chain(scratch)
            .chain([garbage(output_bytes)])
            .collect();
        let place = |place: &Place| match *place {
            Place::Nowhere => None,
            Place::Input(index, value) => Some((index, value * program.element.bytes())),
            Place::Scratch(index) => Some((inputs.len() + index, 0)),
            Place::Output => Some((inputs.len() + program.scratch.len(), 0)),
        };
        for steps in program
            .steps
            .chunk_by(|a, b| matches!((a, b), (Step::Launch(_), Step::Launch(_))))
        {
            match &steps[0] {
                Step::Launch(_) => buffers = launched(steps, order, &buffers, &place)?,
                Step::Call(call) => called(call, &mut buffers, &place)?,
            }
        }
        let output = buffers.pop()?;
        buffers.truncate(inputs.len());
        for (index, (after, before)) in buffers.iter().zip(inputs).enumerate() {
            let kept = after == before || program.changed.contains(&index);
            assert!(kept, "input {index} is changed by {:?}", program.steps);
        }
        Some((buffers, output))
    };
    let (forwards, backwards) = (once(0)?, once(1)?);
    assert!(
        forwards == backwards,
        "the order of threads changes the result of {:?}",
        program.steps
    );
    Some(forwards)
}

/// Which buffer, and from which byte on.
type Placed<'a> = &'a dyn Fn(&Place) -> Option<(usize, usize)>;

/// The buffers after those launches.
fn launched(steps: &[Step], order: u32, buffers: &[Vec<u8>], place: Placed<'_>) -> Option<Vec<Vec<u8>>> {
    let mut problem = Vec::new();
    let mut number = |value: u32| problem.extend(value.to_le_bytes());
    number(order);
    number(order);
    number(buffers.len() as u32);
    for buffer in buffers {
        problem.extend((buffer.len() as u64).to_le_bytes());
        problem.extend(buffer);
    }
    problem.extend((steps.len() as u32).to_le_bytes());
    for step in steps {
        let Step::Launch(launch) = step else {
            unreachable!("calls are not launched");
        };
        problem.extend((launch.kernel.len() as u32).to_le_bytes());
        problem.extend(launch.kernel.as_bytes());
        for blocks in launch.grid.into_iter().chain([launch.threads]) {
            problem.extend(blocks.to_le_bytes());
        }
        let mut integers = |values: &[i32]| {
            problem.extend((values.len() as u32).to_le_bytes());
            problem.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        };
        for places in [&launch.places, &launch.table] {
            let placed = places.iter().map(|one| match place(one) {
                Some((buffer, byte)) => (buffer as i32, byte as i32),
                None => (-1, 0),
            });
            let (buffers, offsets): (Vec<i32>, Vec<i32>) = placed.unzip();
            integers(&buffers);
            integers(&offsets);
        }
        integers(&launch.sizes);
    }
    let mut child = Command::new(emulator()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let written = std::thread::spawn(move || stdin.write_all(&problem));
    let found = child.wait_with_output().unwrap();
    let _ = written.join().unwrap();
    assert!(
        found.status.success(),
        "{}: {}",
        found.status,
        String::from_utf8_lossy(&found.stderr)
    );
    let mut rest = &found.stdout[..];
    let after = buffers.iter().map(|buffer| {
        let (this, behind) = rest.split_at(buffer.len());
        rest = behind;
        this.to_vec()
    });
    Some(after.collect())
}

/// The same for a call of cuDNN, by one that works on the processor's memory.
fn called(call: &Call, buffers: &mut [Vec<u8>], place: Placed<'_>) -> Option<()> {
    // Where a GPU's memory begins, values of any vector may.
    let mut aligned: Vec<Vec<u128>> = buffers
        .iter()
        .map(|bytes| {
            let mut values = vec![0_u128; bytes.len().div_ceil(16)];
            for (to, from) in values.iter_mut().zip(bytes.chunks(16)) {
                let mut value = [0; 16];
                value[..from.len()].copy_from_slice(from);
                *to = u128::from_ne_bytes(value);
            }
            values
        })
        .collect();
    let mut address = |one: &Place| {
        place(one).map_or(0, |(buffer, byte)| {
            aligned[buffer].as_mut_ptr() as u64 + byte as u64
        })
    };
    let addresses: Vec<u64> = call.places.iter().map(&mut address).collect();
    let workspace = call.workspace.map_or(0, |(place, _)| address(&place));
    cudnn::run_here(call, &addresses, workspace)?;
    for (bytes, values) in buffers.iter_mut().zip(&aligned) {
        let found = values.iter().flat_map(|value| value.to_ne_bytes());
        for (to, from) in bytes.iter_mut().zip(found) {
            *to = from;
        }
    }
    Some(())
}

fn to_bytes(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Element::Bf16 => {
            let bytes = |&value: &f32| half::bf16::from_f32(value).to_le_bytes();
            values.iter().flat_map(bytes).collect()
        }
    }
}

fn from_bytes(element: Element, bytes: &[u8]) -> Vec<f32> {
    match element {
        Element::F32 => {
            let values = bytes.as_chunks::<4>().0;
            values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Element::Bf16 => {
            let values = bytes.as_chunks::<2>().0;
            let value = |bytes: &[u8; 2]| half::bf16::from_le_bytes(*bytes).to_f32();
            values.iter().map(value).collect()
        }
    }
}

/// The result of a program over values, if it can be run here.
fn run(program: &Program, inputs: &[&[f32]]) -> Option<Vec<f32>> {
    let element = program.element;
    for (values, &length) in inputs.iter().zip(&program.inputs) {
        assert!(values.len() >= length);
    }
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|values| to_bytes(element, values)).collect();
    let bytes = replay(program, &inputs, program.output * element.bytes())?;
    Some(from_bytes(element, &bytes))
}

/// −1, 0 and 1 without pattern.
fn whole_numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) % 3
    };
    (0..count).map(|_| next() as f32 - 1.0).collect()
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

#[track_caller]
fn assert_equal(what: &str, found: Option<Vec<f32>>, expected: &[f32]) {
    // Whole numbers up to here are exact in bf16.
    assert!(
        expected.iter().all(|value| value.abs() <= 256.0),
        "{what}: choose smaller numbers"
    );
    if let Some(found) = found {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(found == expected, "{what}: {found} instead of {expected} at {i}");
        }
    }
}

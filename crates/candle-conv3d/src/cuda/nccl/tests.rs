#![cfg(test)]
#![allow(
    unsafe_code,
    reason = "a library is given addresses, here of the processor's memory"
)]

use std::{
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use super::{
    super::{compiled, opened},
    group::{Member, Piece},
    library::Library,
};
use crate::gpu::LibraryError;

/// `fake.c`, compiled with those definitions.
fn compiled(name: &str, definitions: &[&str]) -> Option<PathBuf> {
    compiled::library("src/cuda/nccl/fake.c", definitions, name)
}

/// An NCCL that works on the processor's memory, for one test: it counts.
fn library_of(name: &str) -> Option<(Arc<Library>, Counts)> {
    let file = compiled(name, &[])?;
    let library = Library::open(&file).unwrap();
    assert_eq!(library.version(), "2.28.9");
    let counts = Counts::of(&file);
    std::fs::remove_file(file).unwrap();
    Some((library, counts))
}

/// Communicators that were destroyed, and those that were aborted.
struct Counts(opened::SharedObject);

impl Counts {
    fn of(file: &Path) -> Self {
        Self(opened::SharedObject::open(file.as_os_str(), "the stand-in").unwrap())
    }

    fn now(&self) -> [i32; 2] {
        ["fakeDestroyed", "fakeAborted"].map(|name| {
            // SAFETY: `fake.c` has these functions.
            unsafe { self.0.function::<unsafe extern "C" fn() -> i32>(name).unwrap()() }
        })
    }
}

/// A stream: its address is all that is asked for.
const STREAM: usize = 8;

fn sum(member: &Member, single: &[f32], double: &[f64]) -> Result<(Vec<f32>, Vec<f64>), LibraryError> {
    let (mut singles, mut doubles) = (vec![f32::NAN; single.len()], vec![f64::NAN; double.len()]);
    let pieces = pieces(single, &mut singles, double, &mut doubles);
    // SAFETY: addresses of slices of that many values.
    unsafe { member.sum(&pieces, ptr::without_provenance_mut(STREAM)) }?;
    Ok((singles, doubles))
}

fn pieces(single: &[f32], singles: &mut [f32], double: &[f64], doubles: &mut [f64]) -> [Piece; 2] {
    [
        Piece {
            from: single.as_ptr() as u64,
            to: singles.as_mut_ptr() as u64,
            values: single.len(),
            double: false,
        },
        Piece {
            from: double.as_ptr() as u64,
            to: doubles.as_mut_ptr() as u64,
            values: double.len(),
            double: true,
        },
    ]
}

#[test]
fn why_nccl_cannot_be_used_is_said() {
    let said = |found: Result<Arc<Library>, LibraryError>| found.unwrap_err().to_string();
    let missing = said(Library::open("/nowhere/libnccl.so.2"));
    assert!(
        missing.starts_with("it is missing (/nowhere/libnccl.so.2: cannot open")
            && missing.contains("install NCCL 2")
            && missing.ends_with("set LD_LIBRARY_PATH to where it is"),
        "{missing}"
    );
    for (version, words) in [("-DVERSION=1304", "1.3.4"), ("-DVERSION=30001", "3.0.1")] {
        let Some(other) = compiled(&format!("nccl-{words}"), &[version]) else {
            return;
        };
        assert_eq!(
            said(Library::open(&other)),
            format!("version {words} is found, and version 2 is needed")
        );
        std::fs::remove_file(other).unwrap();
    }
    let older = compiled("nccl-older", &["-DVERSION=2804"]).unwrap();
    assert_eq!(Library::open(&older).unwrap().version(), "2.8.4");
    let torn = compiled("nccl-torn", &["-DWITHOUT_ABORT"]).unwrap();
    assert_eq!(said(Library::open(&torn)), "it lacks the function ncclCommAbort");
    for file in [older, torn] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn each_gpu_gets_the_sum_of_all() {
    let Some((library, counts)) = library_of("nccl-sum") else {
        return;
    };
    let members = Member::all(&library, &[0, 2, 5]).unwrap();
    let rounds = 20;
    // Where sums are made when the last has asked, results are there when all threads have ended.
    let mut results: Vec<Vec<(Vec<f32>, Vec<f64>)>> = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter()
            .zip(1..)
            .map(|(member, rank)| {
                scope.spawn(move || {
                    let mut all = Vec::new();
                    for round in 0..rounds {
                        let single: Vec<f32> = vec![rank as f32; 5 + round];
                        let double = vec![f64::from(rank) * 0.5 + round as f64, 1e-12];
                        let (mut singles, mut doubles) = (vec![f32::NAN; single.len()], vec![f64::NAN; 2]);
                        let pieces = pieces(&single, &mut singles, &double, &mut doubles);
                        // SAFETY: addresses of vectors that all live until all threads have ended.
                        unsafe { member.sum(&pieces, ptr::without_provenance_mut(STREAM)) }.unwrap();
                        all.push(((single, singles), (double, doubles)));
                    }
                    all
                })
            })
            .collect();
        // All at once: what one has asked for the last to ask writes.
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        results.extend(ended.into_iter().map(|all| {
            let sums = all
                .into_iter()
                .map(|((_, singles), (_, doubles))| (singles, doubles));
            sums.collect()
        }));
    });
    for sums in &results {
        for (round, (singles, doubles)) in sums.iter().enumerate() {
            assert_eq!(*singles, vec![6.0; 5 + round]);
            assert_eq!(*doubles, [3.0 + 3.0 * round as f64, 3e-12]);
        }
    }
    let mut members = members;
    let last = members.pop();
    drop(members);
    assert_eq!(counts.now(), [0, 0], "all leave together");
    drop(last);
    assert_eq!(counts.now(), [3, 0]);
}

#[test]
fn what_nccl_refuses_is_said_in_its_words() {
    let Some((library, counts)) = library_of("nccl-refused") else {
        return;
    };
    let twice = Member::all(&library, &[1, 1]).unwrap_err().to_string();
    assert_eq!(twice, "ncclCommInitAll fails: invalid usage");
    assert!(Member::all(&library, &[]).is_err());
    let members = Member::all(&library, &[0, 1]).unwrap();
    let piece = Piece {
        from: 0,
        to: 0,
        values: 1,
        double: false,
    };
    // SAFETY: the library looks at the address and refuses it.
    let said = unsafe { members[0].sum(&[piece], ptr::without_provenance_mut(STREAM)) }.unwrap_err();
    assert_eq!(said.to_string(), "ncclAllReduce fails: invalid argument");
    // The group was ended all the same; now the two ask for different sums.
    let (single, double) = ([1.0f32; 3], [1.0f64; 2]);
    let (mut singles, mut doubles) = ([0.0f32; 3], [0.0f64; 2]);
    let asked = pieces(&single, &mut singles, &double, &mut doubles);
    // SAFETY: addresses of arrays that live on.
    unsafe { members[0].sum(&asked, ptr::without_provenance_mut(STREAM)) }.unwrap();
    let said = sum(&members[1], &[1.0; 4], &double).unwrap_err().to_string();
    assert_eq!(said, "ncclGroupEnd fails: invalid argument");
    drop(members);
    assert_eq!(counts.now(), [2, 0]);
}

#[test]
fn what_is_given_up_ends_for_all() {
    let Some((library, counts)) = library_of("nccl-abort") else {
        return;
    };
    let members = Member::all(&library, &[0, 1, 2]).unwrap();
    assert!(format!("{:?}", members[1]).starts_with("1 of 3 by NCCL 2.28.9"));
    let (single, double) = ([1.0f32; 3], [1.0f64; 2]);
    let (mut singles, mut doubles) = ([0.0f32; 3], [0.0f64; 2]);
    let asked = pieces(&single, &mut singles, &double, &mut doubles);
    // SAFETY: addresses of arrays that live on.
    unsafe { members[0].sum(&asked, ptr::without_provenance_mut(STREAM)) }.unwrap();
    members[2].abort();
    assert_eq!(counts.now(), [0, 3]);
    for member in &members {
        let said = sum(member, &single, &double).unwrap_err().to_string();
        assert_eq!(said, "ncclAllReduce fails: another GPU has failed");
    }
    members[0].abort();
    drop(members);
    assert_eq!(counts.now(), [0, 3]);
}

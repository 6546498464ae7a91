//! Memory for results.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::kernels::Value;

/// Makes this process keep memory that it no longer needs for what comes next, instead of giving it back to the system and
/// having it cleared when it is asked for again, which takes a tenth of a training step. For programs that do little but run
/// networks: the process stays as large as it once was. Only glibc can be told; with other allocators nothing changes.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library's settings")]
    // SAFETY: the calls set two numbers of the allocator, which takes them at any time.
    unsafe {
        // No blocks of their own, which would be given back when they are freed; and nothing off the end of the rest.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

/// Zeros, in huge pages where the result is large and the system has them.
///
/// An allocator takes large blocks fresh from the system and gives them back as soon as they are free, so that every
/// result of a network is paged in anew: in pages of 4 KiB that takes a fifth of a training iteration. And one thread alone
/// would write zeros while all others wait.
pub(crate) fn zeros<T: Value>(length: usize) -> Vec<T> {
    /// Bytes that one thread writes at a time.
    const CHUNK: usize = 256 << 10;

    let mut values: Vec<T> = Vec::with_capacity(length);
    let room = &mut values.spare_capacity_mut()[..length];
    prefer_huge_pages(room);
    let chunk = CHUNK / size_of::<T>();
    let fill = |room: &mut [MaybeUninit<T>]| room.fill(MaybeUninit::new(T::ZERO));
    if length <= chunk {
        // Waking other threads would take longer.
        fill(room);
    } else {
        room.par_chunks_mut(chunk).for_each(fill);
    }
    #[expect(unsafe_code, reason = "a vector cannot know that others have filled it")]
    // SAFETY: there is room for as many values, and all have been written just now.
    unsafe {
        values.set_len(length);
    }
    values
}

#[cfg(target_os = "linux")]
fn prefer_huge_pages<T>(values: &mut [T]) {
    /// A huge page where small ones have 4 KiB.
    const HUGE_PAGE: usize = 2 << 20;
    /// The largest small page: the range has to begin with one.
    const PAGE: usize = 64 << 10;

    let bytes = size_of_val(values);
    if bytes < 2 * HUGE_PAGE {
        return;
    }
    let to_page = values.as_ptr().addr().next_multiple_of(PAGE) - values.as_ptr().addr();
    let length = (bytes - to_page) / PAGE * PAGE;
    #[expect(unsafe_code, reason = "the system takes an address")]
    // SAFETY: the range lies within `values`, and the advice changes neither what it holds nor who may access it. A
    // system that knows no huge pages says so and does nothing, which is as good.
    unsafe {
        libc::madvise(
            values.as_mut_ptr().byte_add(to_page).cast(),
            length,
            libc::MADV_HUGEPAGE,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages<T>(_: &mut [T]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_any_size_begin_as_zeros() {
        for length in [0, 1, 4096, (2 << 20) - 1, 2 << 20, (3 << 20) + 17] {
            let mut values = zeros::<f32>(length);
            assert!(
                values.len() == length && values.iter().all(|value| *value == 0.0),
                "{length}"
            );
            values.fill(1.0);
            assert!(values.iter().all(|value| *value == 1.0), "{length}");
        }
    }
}

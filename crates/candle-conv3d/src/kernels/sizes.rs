//! From sizes known at run time to kernels compiled for them.

/// Calls `function::<SIZE, VECTORS>(arguments)` for the listed pair that matches.
macro_rules! select {
    ($function:ident $arguments:tt, $vectors:expr, $size:expr, { $($nv:literal: $($nx:literal)+,)+ }) => {
        match ($vectors, $size) {
            $($(($nv, $nx) => super::sizes::select!(@call $function, $nx, $nv, $arguments),)+)+
            _ => unreachable!("callers keep to the maxima of the instruction set"),
        }
    };
    (@call $function:ident, $nx:literal, $nv:literal, ($($argument:expr),*)) => {
        $function::<$nx, $nv>($($argument),*)
    };
}
pub(super) use select;

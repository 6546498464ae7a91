//! The public interface against golden files and against plain versions of the same methods.

#[cfg(test)]
mod components;
#[cfg(test)]
mod mean_shift;
#[cfg(test)]
mod peaks;
#[cfg(test)]
mod small;

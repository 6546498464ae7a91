//! The public interface: modes by hand-counted cases, SHREC'19 by its published list, sweeps and label maps.

#[cfg(test)]
mod modes;
#[cfg(test)]
mod shrec19;
#[cfg(test)]
mod sweeps;
#[cfg(test)]
mod voxels;

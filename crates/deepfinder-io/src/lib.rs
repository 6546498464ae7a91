//! Files to and from the core types: MRC, HDF5 and TIFF volumes, particle lists.

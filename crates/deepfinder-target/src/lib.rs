//! Annotated particles to training targets: spheres and rotated shapes drawn into a label map.

//! The project file and the use-cases over it: simulate, prepare, train, segment, pick, evaluate.
